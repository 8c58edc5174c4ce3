"""The owner takes back: Grants end, and their streams stop within one segment.

(1) the revocation is one durable event, which raises the PolicyEpoch at once, so that no
worker starts another chunk unasked; (2) every lease of the Grants is closed on its worker,
which answers when no further byte will be handed to the kernel; (3) the answer says how many
streams stopped and how long the slowest took, from the durable event on.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.errors import InvalidInput, NotFound
from gateway.services import refusals, update
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize
from gateway.services.stopping import stop_streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which Grants; at least one field is set, several narrow each other."""

    grant: str | None = None
    dataset: str | None = None
    subject: str | None = None
    run: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What a revocation did."""

    grants: tuple[str, ...]
    streams_stopped: int
    slowest_ms: float
    keys_released: int  # under these Grants: what they open stays readable


async def revoke(house: House, caller: Caller, selector: Selector, reason: str) -> Revocation:
    """Revoke every Grant the selector names among those the caller may revoke.

    One that is named by its id and revoked already is answered as done: its answer was lost.

    Raises:
        InvalidInput: the selector is empty, or the reason is no printable line.
        NotFound: it names no Grant that the caller may revoke.
    """
    reason = update.line(reason, update.REASON_CHARS_MAX, "reason")
    try:
        chosen = _select(house, caller, selector)
    except NotFound:
        await refusals.record(house, caller.subject, "POST /v1/revocations", NotFound.code)
        raise
    owners = sorted({grant.owner_tenant for grant in chosen})
    for owner in owners:
        if owner == caller.subject.tenant:
            await authorize(house, caller, "revoke", owner)
    record(house, caller, chosen, reason)
    await house.settled()
    grants = {grant.id for grant in chosen}
    leases = [lease.id for lease in house.catalog.leases() if lease.grant in grants]
    stopped = await stop_streams(house, leases, "revoked")
    return Revocation(
        grants=tuple(sorted(grants)),
        streams_stopped=stopped.streams,
        slowest_ms=stopped.slowest_ms,
        keys_released=_keys_released(house, chosen),
    )


def record(house: House, caller: Caller, chosen: list[Grant], reason: str) -> None:
    """(1) End the Grants that have not ended yet; one event for each tenant that gave some."""
    for owner in sorted({grant.owner_tenant for grant in chosen}):
        ended = [g for g in chosen if g.owner_tenant == owner and not g.revoked]
        if not ended:
            continue
        ids = [g.id for g in ended]
        recipients = sorted({g.subject_tenant for g in ended})
        house.record(
            EventDraft(
                kind=EventKind.GrantRevoked,
                owner_tenant=owner,
                actor_tenant=caller.subject.tenant,
                actor=caller.subject.id,
                facts={"grants": ids, "reason_code": "revoked"},
                details={"reason": reason},
                concerns=(owner, *recipients),
            )
        )


def _keys_released(house: House, chosen: list[Grant]) -> int:
    ids = {grant.id for grant in chosen}
    datasets = {(g.plan.dataset.tenant, g.plan.dataset.name) for g in chosen}
    return sum(
        release.keys
        for tenant, name in datasets
        for release in house.catalog.key_releases(house.catalog.dataset(tenant, name).dataset_id)
        if release.grant in ids
    )


def _select(house: House, caller: Caller, selector: Selector) -> list[Grant]:
    if not any((selector.grant, selector.dataset, selector.subject, selector.run, selector.tenant)):
        raise InvalidInput(
            "nothing is selected", advice="name a grant, dataset, subject, run or tenant"
        )
    ref = DatasetRef.parse(selector.dataset) if selector.dataset else None
    chosen = [
        grant
        for grant in house.catalog.grants(subject=selector.subject, run=selector.run)
        if (not grant.revoked or grant.id == selector.grant)
        and _may_touch(caller, grant)
        and selector.grant in (None, grant.id)
        and selector.tenant in (None, grant.subject_tenant)
        and (ref is None or _covers(ref, grant.plan.dataset))
    ]
    chosen += cut_from(house, {grant.id for grant in chosen})
    if not chosen:
        raise NotFound("no such grant that you may revoke", advice="`gateway grant list`")
    return chosen


def cut_from(house: House, parents: set[str]) -> list[Grant]:
    """Living Grants that were cut from these, however deep: they end with their parents."""
    return [
        grant
        for grant in house.catalog.grants()
        if not grant.revoked
        and grant.id not in parents
        and any(link.id in parents for link in house.lineage_of(grant))
    ]


def _may_touch(caller: Caller, grant: Grant) -> bool:
    """Owners revoke what was given from their data; anybody may give back his own."""
    return caller.subject.tenant == grant.owner_tenant or caller.subject.id == grant.subject


def _covers(asked: DatasetRef, granted: DatasetRef) -> bool:
    same = (asked.tenant, asked.name) == (granted.tenant, granted.name)
    return same and asked.version in (None, granted.version)
