"""What was decided and given: Grants and Decisions, for owners and for those who received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import gateway.wire as W
from gateway.catalog.records import DecisionRecord
from gateway.domain.access import NOT_VISIBLE, AccessRequest, Plan, Subject
from gateway.domain.approval import REQUIRED
from gateway.domain.dataset import DatasetRef
from gateway.domain.lease import Grant
from gateway.errors import NotFound
from gateway.services import shapes
from gateway.services.house import PLATFORM, House
from gateway.services.request_access import Caller, authorize, qualified_run, resource_of


async def list_(house: House, caller: Caller, filters: Mapping[str, str]) -> list[Grant]:
    """Grants from the tenant's data or to the caller's tenant, newest first."""
    await house.settled()
    ref = DatasetRef.parse(filters["dataset"]) if filters.get("dataset") else None
    found = [
        grant
        for grant in house.catalog.grants(
            subject=filters.get("subject"), run=_run(caller, filters), tenant=filters.get("tenant")
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


def _run(caller: Caller, filters: Mapping[str, str]) -> str | None:
    run = filters.get("run")
    return run if run is None or ":" in run else qualified_run(caller.subject.tenant, run)


def _concerns(caller: Caller, grant: Grant) -> bool:
    return caller.subject.tenant in (grant.owner_tenant, grant.subject_tenant)


async def decision(house: House, caller: Caller, decision_id: str) -> W.DecisionView:
    """One recorded Decision: reasons for both sides, rules only for the owner's side."""
    await house.settled()
    found = _recorded(house, caller, decision_id)
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


def _recorded(house: House, caller: Caller, decision_id: str) -> DecisionRecord:
    try:
        found = house.catalog.decision(decision_id)
    except NotFound:
        found = None
    tenant = caller.subject.tenant
    if (
        found is None
        or tenant not in (found.owner_tenant, found.actor_tenant)
        or (NOT_VISIBLE in found.reasons and tenant != found.owner_tenant)
    ):
        raise NotFound(f"no decision `{decision_id[:80]}` that you may see")
    return found


async def explain(house: House, caller: Caller, decision_id: str) -> W.Explanation:
    """Why: condition trees and the nearest allow for the owner; own reasons for the asker.

    Rules as they are now judge the request as it was; what changed since is said.
    """
    view = await decision(house, caller, decision_id)
    found = _recorded(house, caller, decision_id)
    told = tuple(reason.text for reason in view.reasons) + ((view.advice,) if view.advice else ())
    if caller.subject.tenant != found.owner_tenant or found.dataset is None:
        return W.Explanation(decision=view, sentences=told)
    await authorize(house, caller, "publish", found.owner_tenant)
    said = "allow" if REQUIRED in found.reasons else found.effect  # then a person was missing
    return explained(house, _request_again(house, found), view, told, said=said)


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
    assert request.dataset is not None
    explanation = house.judge.explain(request, resource_of(house, request.dataset), house.now())
    if explanation.effect != said:
        told += (f"the rules changed since: today the answer is `{explanation.effect}`",)
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
                conditions={"parts": [asdict(branch) for branch in candidate.conditions]},
            )
            for candidate in readable
        ),
        nearest=(
            {"rule": explanation.nearest, "changes": list(explanation.changes)}
            if explanation.nearest
            else None
        ),
    )


def _request_again(house: House, found: DecisionRecord) -> AccessRequest:
    """The request as recorded, by the subject as it is now."""
    asked = (found.details or {}).get("asked_columns")
    identity = house.catalog.identity(found.actor or "")
    ref = DatasetRef.parse(found.dataset) if found.dataset else None
    return AccessRequest(
        subject=Subject(
            id=identity.id, tenant=identity.tenant, type=identity.type, roles=identity.roles
        ),
        action=found.action,
        dataset=DatasetRef(ref.tenant, ref.name, found.version) if ref else None,
        tenant=found.owner_tenant,
        purpose=found.purpose,
        columns=tuple(asked) if asked is not None else None,
        split=found.split,
        run=found.run,
    )
