"""A finished run and its model: the signed training-data attestation.

(1) the run's end is durable, and its streams are stopped: nothing is delivered after it; (2)
what was delivered is read from the catalogue, with the LogCheckpoint that covers the end; (3)
the envelope is signed and stored create-only; (4) one event names its digest, so that a
signature that is not in the log counts for nothing. Killed in between, the next who asks for
it has it made.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from contextlib import suppress
from typing import Any

import gateway.wire as W
from gateway.catalog.records import DecisionRecord, Delivery, Run
from gateway.crypto import attestation
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import Conflict, GatewayError, LimitExceeded, NotFound
from gateway.services import recorded
from gateway.services.house import House
from gateway.services.sweep import ATTESTATIONS
from gateway.wire.times import iso


async def of(house: House, run: Run) -> W.Attestation:
    """The attestation of a finished run; made and recorded when there is none yet.

    Raises:
        NotFound: the run is not finished, or named no model and file to be bound to.
    """
    if run.finished_at is None:
        raise NotFound(f"run `{run.id}` is not finished", advice="`gateway run finish`")
    if run.model is None or run.artifact_sha256 is None:
        raise NotFound(
            f"run `{run.id}` is bound to no model",
            advice="finish it again with --model NAME and --artifact FILE",
        )
    async with house.turns.setdefault(f"attestation of {run.id}", asyncio.Lock()):
        if run.attestation is None:
            await _make(house, run)
    return await _stored(house, run)


async def _make(house: House, run: Run) -> None:
    """(2) to (4)."""
    key = _object_key(run)
    facts = await asyncio.to_thread(_facts, house, run)
    data = attestation.issue(
        house.signers.attestation, run.model or "", run.artifact_sha256 or "", facts
    )
    try:
        await asyncio.to_thread(house.store.put_bytes_new, key, data)
    except Conflict:  # a killed gateway stored it; the journal does not know it yet
        data = await asyncio.to_thread(house.store.read, key)
        attestation.verify(data, house.signers.attestation.public_key)
    await house.recorded(
        EventDraft(
            kind=EventKind.RunAttested,
            owner_tenant=run.subject_tenant,
            actor_tenant=run.subject_tenant,
            facts={
                "run": run.id,
                "attestation": attestation.digest_of(data),
                "attestation_key": key,
            },
        )
    )


async def _stored(house: House, run: Run) -> W.Attestation:
    data = await asyncio.to_thread(house.store.read, run.attestation_key or "")
    if attestation.digest_of(data) != run.attestation:
        raise GatewayError("the stored attestation is not the one that the journal recorded")
    public_key = house.signers.attestation.public_key
    attestation.verify(data, public_key)
    return W.Attestation(
        run=run.id,
        model=f"model:{run.model}@sha256:{run.artifact_sha256}",
        envelope=json.loads(data),
        digest=run.attestation or "",
        public_key=public_key.hex(),
    )


def _object_key(run: Run) -> str:
    """One for each end of a run: a killed gateway finds what it stored, and nobody else's."""
    named = hashlib.sha256(f"{run.id} {run.finished_index}".encode()).hexdigest()
    return f"{ATTESTATIONS}{named}.json"


def _facts(house: House, run: Run) -> dict[str, Any]:
    by_grant: dict[str, list[Delivery]] = {grant: [] for grant in run.grants}
    for delivery in house.catalog.deliveries(run.id):
        by_grant.setdefault(delivery.grant, []).append(delivery)
    rules = _rules(house, [grant for grant in run.grants if _is_known(house, grant)])
    return {
        "run": run.id,
        "subject": run.subject,
        "started_at": iso(run.first_at),
        "finished_at": iso(run.finished_at or run.last_at),
        "log": house.signers.log.key_id,
        "log_checkpoint": house.journal.checkpoint(),
        "finished_index": run.finished_index,
        "rows_delivered": run.rows_confirmed,
        "rows_acknowledged": run.rows_acknowledged,
        "delivered": [
            _entry(house, grant, rules.get(grant), [_order(delivery) for delivery in found])
            for grant, found in by_grant.items()
        ],
    }


def _is_known(house: House, grant_id: str) -> bool:
    """Whether its plan is still there: not erased, and its dataset neither."""
    try:
        house.catalog.version(house.catalog.grant(grant_id).plan.dataset)
    except NotFound:
        return False
    return True


def _rules(house: House, grants: list[str]) -> dict[str, DecisionRecord]:
    """The Decision behind each Grant, out of the journal where the catalogue forgot it.

    Raises:
        LimitExceeded: one lies too far back to be read now. Left out, it would be signed that
            what the Grant was about is erased.
    """
    wanted = {house.catalog.grant(grant).decision: grant for grant in grants}
    found = {}
    for decision_id in list(wanted):
        with suppress(NotFound):
            found[wanted[decision_id]] = house.catalog.decision(decision_id)
            del wanted[decision_id]
    if not wanted:
        return found
    for owner in sorted({house.catalog.grant(grant).owner_tenant for grant in grants}):
        for decision in recorded.decisions(house, owner, recorded.Reach()):
            if decision.id in wanted:
                found[wanted.pop(decision.id)] = decision
            if not wanted:
                return found
    raise LimitExceeded(
        "decisions of this run lie too far back to be read now",
        advice="ask for its attestation again when the gateway has less to do",
    )


def _entry(
    house: House, grant_id: str, decision: DecisionRecord | None, orders: list[dict[str, Any]]
) -> dict[str, Any]:
    """One Grant of the run: what it permits, under which rules, and what was handed over."""
    if decision is None:  # erased since: what is left is that it was
        return {"grant": grant_id, "erased": True, "orders": orders}
    grant = house.catalog.grant(grant_id)
    plan, version = grant.plan, house.catalog.version(grant.plan.dataset)
    released = house.catalog.key_releases(version.dataset_id)
    return {
        "grant": grant_id,
        "erased": False,
        "dataset": str(plan.dataset),
        "dataset_id": version.dataset_id,
        "manifest_digest": version.manifest_digest,
        "split": plan.split,
        "action": plan.action,
        "purpose": plan.purpose,
        "columns": [{"field_id": c.field_id, "name": c.name, "mask": c.mask} for c in plan.columns],
        "plan_digest": plan.digest,
        "decision": grant.decision,
        "rules": list(decision.rules),
        "bundle": decision.bundle,
        "policy_epoch": decision.policy_epoch,
        "granted_at": iso(grant.granted_at),
        "orders": orders,
        "keys_released": sum(r.keys for r in released if r.grant == grant_id),
    }


def _order(delivery: Delivery) -> dict[str, Any]:
    return {
        **dataclasses.asdict(delivery.order),
        "view": delivery.view,
        "segments": [list(pair) for pair in delivery.segments],
        "rows_acknowledged": delivery.rows_acknowledged,
    }
