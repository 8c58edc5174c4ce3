"""Asking the owner's people: where rules allow something only if a person says yes.

(1) who may ask is said by rules (action `request`), and what is not visible is a 404 like
everywhere; (2) the same AccessRequest as for `access check` is judged: what the rules deny
nobody can approve, what they allow without an approval needs none; (3) the request is durable
before anybody hears of it; (4) to (6), the answer, are in answer_request.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import gateway.wire as W
from gateway.catalog.records import Asked
from gateway.domain.access import AccessRequest, Decision, Plan, Resource, Subject
from gateway.domain.approval import REQUIRED, plan_hash, request_hash
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from gateway.services import approvals, grants, groups, refusals, shapes
from gateway.services.house import House
from gateway.services.request_access import (
    Ask,
    Caller,
    decide,
    judge_beside,
    record,
    record_denial,
    request_of,
)
from gateway.wire.times import seconds_of

PENDING_SECONDS = 30 * 24 * 3600  # a question that nobody answered
PENDING_MAX = 100  # of one subject to one tenant
REASON_CHARS_MAX = 2000
ROUTE = "/v1/access-requests"  # in records of what was refused


async def ask(
    house: House, caller: Caller, wanted: Ask, *, valid: str | None, reason: str | None
) -> Asked:
    """(1) to (3); the pending request when the same was asked before.

    Raises:
        AccessDenied: the rules deny it, or asking for it; recorded.
        NotFound: the caller may not see the dataset; recorded.
        Conflict: no person is needed, or one has approved it already.
        LimitExceeded: too many of the caller's questions wait for an answer.
    """
    valid_seconds = None if valid is None else seconds_of(valid)
    text = reason_of(reason)
    request, resource = await request_of(house, caller, wanted)
    await _require_may_ask(house, request, resource, wanted.dataset)
    await groups.count(house, request, decide(house, request, resource))
    decision, _ = judge_beside(house, request, resource)
    if decision.plan is None:
        await record_denial(house, request, decision, resource, wanted.dataset, is_question=True)
        decision.require()
    assert decision.plan is not None
    await _require_needed(house, request, resource, decision)
    same = _pending(house, request)
    if same is not None:
        await house.settled()
        return same
    request_id = house.id("req_")
    draft = _question(house, request, decision.plan, request_id)
    details = {
        "plan": decision.plan.to_dict(),
        "asked_columns": list(request.columns) if request.columns is not None else None,
        "limits": request.limits.to_dict(),
        "valid_seconds": valid_seconds,
        "reason": text,
        "attributes": dict(request.subject.attributes),
    }
    await house.recorded(dataclasses.replace(draft, details=details))
    return house.catalog.request(request_id)


async def _require_may_ask(
    house: House, request: AccessRequest, resource: Resource, asked: str
) -> None:
    """(1) The same question, of the action `request`."""
    asking = dataclasses.replace(request, action="request")
    decision = decide(house, asking, resource)
    if not decision.is_allowed:
        await record_denial(house, asking, decision, resource, asked)
        decision.require()


async def _require_needed(
    house: House, request: AccessRequest, resource: Resource, decision: Decision
) -> None:
    """(2) Conflict unless a person's yes is what is missing."""
    found, grant = approvals.under(
        house, request, decision, lambda other: decide(house, other, resource), house.now()
    )
    if not found.is_allowed:
        return
    await record(house, request, found, is_question=True)
    if grant is None:
        raise Conflict(
            "the rules allow this already: nobody has to approve it",
            advice="get a token for it: `gateway token request`",
        )
    raise Conflict(
        f"this is approved already, as `{grant.id}`",
        advice="get a token for it: `gateway token request`",
    )


def _pending(house: House, request: AccessRequest) -> Asked | None:
    digest, now = request_hash(request), house.now()
    waiting = [
        asked
        for asked in house.catalog.requests(request.subject.id)
        if asked.owner_tenant == request.tenant and asked.state(now) == "pending"
    ]
    for asked in waiting:
        if asked.request_digest == digest:
            return asked
    if len(waiting) >= PENDING_MAX:
        raise LimitExceeded(
            f"{len(waiting)} of your requests wait for an answer of `{request.tenant}`",
            advice="wait for the answers",
            limit="pending",
        )
    return None


def _question(house: House, request: AccessRequest, plan: Plan, request_id: str) -> EventDraft:
    assert request.dataset is not None
    dataset = house.catalog.dataset(request.dataset.tenant, request.dataset.name)
    return EventDraft(
        kind=EventKind.AccessRequested,
        owner_tenant=request.tenant,
        actor_tenant=request.subject.tenant,
        actor=request.subject.id,
        facts={
            "request": request_id,
            "dataset": str(request.dataset.unversioned),
            "dataset_id": dataset.dataset_id,
            "version": request.dataset.version,
            "action": request.action,
            "purpose": request.purpose,
            "split": request.split,
            "run": request.run,
            "columns": [column.field_id for column in plan.columns],
            "request_digest": request_hash(request),
            "plan_digest": plan_hash(plan),
            "policy_epoch": house.catalog.policy_epoch,
            "expires_at": int(house.now()) + PENDING_SECONDS,
        },
    )


def reason_of(text: str | None) -> str | None:
    """What a person wrote, trimmed; InvalidInput when it is too long."""
    if text is not None and len(text) > REASON_CHARS_MAX:
        raise InvalidInput(f"a reason has at most {REASON_CHARS_MAX} characters", field="reason")
    return text.strip() or None if text is not None else None


async def list_(house: House, caller: Caller, filters: Mapping[str, str]) -> list[Asked]:
    """Requests by the caller's tenant or to it, newest first."""
    await house.settled()
    ref = DatasetRef.parse(filters["dataset"]) if filters.get("dataset") else None
    pending = filters.get("pending", "false")
    if pending not in ("true", "false"):
        raise InvalidInput("`pending` is `true` or `false`", field="pending")
    now = house.now()
    return [
        asked
        for asked in house.catalog.requests(filters.get("subject"))
        if _concerns(caller, asked)
        and (pending == "false" or asked.state(now) == "pending")
        and (ref is None or asked.dataset == str(ref.unversioned))
        and (ref is None or ref.version in (None, asked.version))
    ]


async def show(house: House, caller: Caller, request_id: str) -> Asked:
    """One request; NotFound when it concerns other tenants."""
    await house.settled()
    try:
        asked = house.catalog.request(request_id)
    except NotFound:
        asked = None
    if asked is None or not _concerns(caller, asked):
        await refusals.record(house, caller.subject, ROUTE, NotFound.code)
        raise NotFound(f"no access request `{request_id[:80]}` that you may see")
    return asked


def _concerns(caller: Caller, asked: Asked) -> bool:
    return caller.subject.tenant in (asked.owner_tenant, asked.subject_tenant)


async def explain(house: House, caller: Caller, request_id: str) -> W.Explanation:
    """Why it waits for a person; the rules only for those of the owner's who may publish them."""
    asked = await show(house, caller, request_id)
    view = W.DecisionView(
        decision="",
        effect="allow" if asked.answer == "approve" else "deny",
        reasons=(W.ReasonView(code=REQUIRED, text="a person must approve this"),),
        plan=shapes.plan_view(asked.plan) if asked.plan else None,
        policy_epoch=asked.policy_epoch,
        subject=asked.subject,
        action=asked.action,
        dataset=asked.dataset,
        purpose=asked.purpose,
    )
    told = [f"a person of `{asked.owner_tenant}` must approve this: {asked.state(house.now())}"]
    if asked.answer_reason is not None:
        told.append(f"the answer: {asked.answer_reason}")
    is_asker = caller.subject.id == asked.subject
    if not await grants.reads_rules(house, caller, asked.owner_tenant, is_asker=is_asker):
        return W.Explanation(decision=view, sentences=tuple(told))
    return grants.explained(house, again(house, asked), view, tuple(told), said="allow")


def ref_of(asked: Asked) -> DatasetRef:
    """The version that it is about."""
    return dataclasses.replace(DatasetRef.parse(asked.dataset), version=asked.version)


def again(house: House, asked: Asked) -> AccessRequest:
    """The request as it was asked, by the subject as it is now."""
    identity = house.catalog.identity(asked.subject or "")
    if identity.disabled:
        raise Conflict("the identity of who asked was disabled")
    return AccessRequest(
        subject=Subject(
            id=identity.id,
            tenant=identity.tenant,
            type=identity.type,
            roles=identity.roles,
            attributes=asked.attributes,
        ),
        action=asked.action,
        dataset=ref_of(asked),
        tenant=asked.owner_tenant,
        purpose=asked.purpose,
        columns=asked.columns,
        split=asked.split,
        limits=asked.limits,
        run=asked.run,
    )
