"""What was decided and given: Grants and Decisions, for owners and for those who received."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import gateway.wire as W
from gateway.catalog.records import DecisionRecord
from gateway.domain.access import NOT_VISIBLE, AccessRequest, Plan, Resource
from gateway.domain.approval import REQUIRED
from gateway.domain.dataset import DatasetRef
from gateway.domain.ids import is_id
from gateway.domain.lease import Grant
from gateway.errors import NotFound
from gateway.policy.explain import Candidate, Explanation
from gateway.policy.replay import as_known_to_owner
from gateway.policy.schema import default_schema
from gateway.services import recorded, runs, shapes
from gateway.services.house import PLATFORM, House
from gateway.services.request_access import (
    Caller,
    authorize,
    is_visible,
    may,
    resource_of,
)


async def list_(house: House, caller: Caller, filters: Mapping[str, str]) -> list[Grant]:
    """Grants from the tenant's data or to the caller's tenant, newest first."""
    await house.settled()
    ref = DatasetRef.parse(filters["dataset"]) if filters.get("dataset") else None
    run = runs.named(house, caller, filters["run"]) if filters.get("run") else None
    found = [
        grant
        for grant in house.catalog.grants(
            subject=filters.get("subject"), run=run, tenant=filters.get("tenant")
        )
        if _concerns(caller, grant)
        and (ref is None or grant.plan.dataset.unversioned == ref.unversioned)
    ]
    return sorted(found, key=lambda grant: (-grant.granted_at, grant.id))


async def show(house: House, caller: Caller, grant_id: str) -> Grant:
    """One Grant; NotFound when it concerns other tenants."""
    await house.settled()
    try:
        grant = house.catalog.grant(grant_id)
    except NotFound:
        grant = None
    if grant is None or not _concerns(caller, grant):
        raise NotFound(f"no grant `{grant_id[:80]}` that you may see")
    return grant


def _concerns(caller: Caller, grant: Grant) -> bool:
    return caller.subject.tenant in (grant.owner_tenant, grant.subject_tenant)


async def decision(house: House, caller: Caller, decision_id: str) -> W.DecisionView:
    """One recorded Decision: reasons for both sides, rules only for the owner's side."""
    await house.settled()
    found = await _recorded(house, caller, decision_id)
    is_owner = caller.subject.tenant == found.owner_tenant
    details = found.details or {}
    plan = shapes.plan_view(Plan.from_dict(details["plan"])) if details.get("plan") else None
    return W.DecisionView(
        decision=found.id,
        effect=found.effect,
        reasons=tuple(W.ReasonView(code=code, text=code) for code in found.reasons),
        advice=found.advice,
        plan=plan,
        policy_epoch=found.policy_epoch,
        bundle=found.bundle if is_owner else "",
        subject=found.actor,
        action=found.action,
        dataset=found.dataset,
        purpose=found.purpose,
    )


async def _recorded(house: House, caller: Caller, decision_id: str) -> DecisionRecord:
    try:
        found: DecisionRecord | None = house.catalog.decision(decision_id)
    except NotFound:
        found = await _older(house, caller, decision_id)
    if found is None or not _may_see(house, caller, found):
        raise NotFound(f"no decision `{decision_id[:80]}` that you may see")
    return found


async def _older(house: House, caller: Caller, decision_id: str) -> DecisionRecord | None:
    """A Decision that the catalogue no longer keeps, for those who review their tenant's."""
    owner = caller.subject.tenant
    if not is_id(decision_id, "dec_") or not _reviews(house, caller, owner):
        return None
    house.reviews.take(owner, house.now())

    def look() -> DecisionRecord | None:
        known = recorded.decisions(house, owner, recorded.Reach())
        return next((record for record in known if record.id == decision_id), None)

    return await asyncio.to_thread(look)


def _reviews(house: House, caller: Caller, owner: str) -> bool:
    """Whether the caller publishes or audits the owner's rules."""
    resource = Resource(tenant=owner)
    return caller.grant is None and any(
        may(house, caller, action, resource) for action in ("publish", "audit")
    )


def _may_see(house: House, caller: Caller, found: DecisionRecord) -> bool:
    """The owner's side; the asker, and colleagues of his who may see the dataset too."""
    subject = caller.subject
    if subject.tenant == found.owner_tenant:
        return True
    if subject.tenant != found.actor_tenant or NOT_VISIBLE in found.reasons:
        return False
    if subject.id == found.actor:
        return True
    try:
        return found.dataset is not None and is_visible(
            house, subject, resource_of(house, DatasetRef.parse(found.dataset))
        )
    except NotFound:
        return False  # erased since


async def explain(house: House, caller: Caller, decision_id: str) -> W.Explanation:
    """Why: condition trees and the nearest allow for who may read the rules; else own reasons.

    Rules as they are now judge the request as it was; what changed since is said.
    """
    view = await decision(house, caller, decision_id)
    found = await _recorded(house, caller, decision_id)
    told = tuple(reason.text for reason in view.reasons) + ((view.advice,) if view.advice else ())
    is_asker = caller.subject.id == found.actor
    if is_asker:
        told += _sent(found)
    if found.dataset is None or not await reads_rules(
        house, caller, found.owner_tenant, is_asker=is_asker
    ):
        return W.Explanation(decision=view, sentences=told)
    request = recorded.request_of(found)
    if request is None:
        told += ("the record of who asked, and how, was erased: it cannot be judged again",)
        return W.Explanation(decision=view, sentences=told)
    said = "allow" if REQUIRED in found.reasons else found.effect  # then a person was missing
    return explained(house, request, view, told, said=said)


def _sent(found: DecisionRecord) -> tuple[str, ...]:
    """What the asker said of himself and of his request."""
    details = found.details or {}
    values = {
        "purpose": found.purpose,
        **{
            k if "." in k else f"subject.{k}": v
            for k, v in details.get("subject", {}).get("attributes", {}).items()
        },
        **{k if "." in k else f"context.{k}": v for k, v in details.get("context", {}).items()},
    }
    sent = ", ".join(f"{name} = {value}" for name, value in values.items() if value is not None)
    return (f"you sent: {sent}",) if sent else ()


async def reads_rules(house: House, caller: Caller, owner: str, *, is_asker: bool) -> bool:
    """Whether the caller may read the owner's rules: who publishes or audits them.

    Others of the owner's tenant are denied, unless it is their own request; who is not of it
    reads his own side of it.
    """
    if caller.subject.tenant != owner:
        return False
    if _reviews(house, caller, owner):
        return True
    if not is_asker:
        await authorize(house, caller, "publish", owner)
    return False


def explained(
    house: House,
    request: AccessRequest,
    view: W.DecisionView,
    told: tuple[str, ...],
    *,
    said: str,
) -> W.Explanation:
    """The Decision in `view` with the rules as they are now; for those who may read them.

    Args:
        house: the rooms.
        request: that was decided.
        view: the Decision.
        told: sentences that come first.
        said: the effect that the rules alone had then.
    """
    ref = request.dataset
    assert ref is not None
    if request.subject.tenant != request.tenant:
        known = as_known_to_owner(request, default_schema())
        if known != request:
            told += ("what the recipient says of itself is not shown: it counts as UNKNOWN here",)
        request = known
    try:
        resource = resource_of(house, ref)
    except NotFound:
        told += ("the data was erased since: it cannot be judged again",)
        return W.Explanation(decision=view, sentences=told)
    explanation = house.judge.explain(request, resource, house.now())
    if explanation.effect != said:
        told += (f"judged again, the answer is `{explanation.effect}`",)
    if view.bundle not in ("", house.judge.digest):
        told += ("the rules changed since",)
    readable = [c for c in explanation.candidates if c.tenant in (request.tenant, PLATFORM)]
    if any(c.counts for c in explanation.candidates if c not in readable):
        told += ("rules of those whose data this was made from take part; they are not yours",)
    return W.Explanation(
        decision=view,
        sentences=told,
        candidates=tuple(
            W.Candidate(
                rule=candidate.rule,
                kind=candidate.kind,
                outcome=candidate.truth,
                place=candidate.place,
                conditions={"parts": [asdict(branch) for branch in candidate.conditions]},
            )
            for candidate in readable
        ),
        nearest=_nearest(explanation, readable),
    )


def _nearest(explanation: Explanation, readable: list[Candidate]) -> dict[str, Any] | None:
    """The allow that lacks the least, and all that stands in its way, as far as it may be read."""
    if explanation.nearest not in {candidate.rule for candidate in readable}:
        return None
    denies = [c.rule for c in readable if c.kind == "deny" and c.counts]
    changes = [*explanation.changes, *(f"the deny `{rule}` must not hold" for rule in denies)]
    return {"rule": explanation.nearest, "changes": changes} if changes else None
