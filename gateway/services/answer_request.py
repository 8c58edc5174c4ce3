"""The answer of the owner's people: a yes, to all or to less, or a no with its reason.

(4) one other person than the asker, of the owner's tenant, whom its rules let `approve`,
answers once; (5) a yes is bound to the request and to the Plan that was asked for, judged
anew: under other rules it is another question; (6) the yes becomes the asker's Grant, of all
columns or fewer, never longer than asked, and outlives the request.
"""

from __future__ import annotations

import dataclasses

import gateway.wire as W
from gateway.catalog.records import Asked
from gateway.domain.access import AccessRequest, Decision, Limits, Plan
from gateway.domain.approval import needs_approval, plan_hash
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import AccessDenied, Conflict, InvalidInput, KeyUnavailable
from gateway.services import decision_event, groups, key_check, refusals
from gateway.services.ask_person import ROUTE, again, reason_of, ref_of, show
from gateway.services.decision_event import GRANT_SECONDS_DEFAULT
from gateway.services.house import House
from gateway.services.request_access import (
    Caller,
    authorize,
    decide,
    judge_beside,
    resource_of,
)
from gateway.wire.times import seconds_of


async def answer(house: House, caller: Caller, request_id: str, wanted: W.RequestAnswer) -> Asked:
    """(4) to (6); the same answer by the same person again changes nothing.

    Raises:
        AccessDenied: the caller may not answer it; recorded.
        Conflict: it was answered or has expired, or the rules make another Plan now.
        KeyUnavailable: a Grant could not be used now.
    """
    if wanted.decision not in ("approve", "reject"):
        raise InvalidInput("the decision is `approve` or `reject`", field="decision")
    asked = await show(house, caller, request_id)
    await _require_approver(house, caller, asked)
    reason = reason_of(wanted.reason)
    if wanted.decision == "reject":
        return await _reject(house, caller, asked, reason)
    return await _approve(house, caller, asked, wanted)


async def _require_approver(house: House, caller: Caller, asked: Asked) -> None:
    subject = caller.subject
    if subject.id == asked.subject or subject.tenant != asked.owner_tenant:
        await refusals.record(house, subject, ROUTE, AccessDenied.code)
        raise AccessDenied(
            "nobody answers his own request; another person of the owner's does",
            advice=f"ask somebody else of `{asked.owner_tenant}` whom its rules let approve",
        )
    await authorize(house, caller, "approve", asked.owner_tenant, ref_of(asked))


async def _reject(house: House, caller: Caller, asked: Asked, reason: str | None) -> Asked:
    if reason is None:
        raise InvalidInput("say why it is rejected: the asker reads it", field="reason")
    if not _is_repeated(house, caller, asked, "reject"):
        house.record(_answered(house, caller, asked, "reject", reason))
    await house.settled()
    return house.catalog.request(asked.id)


def _is_repeated(house: House, caller: Caller, asked: Asked, decision: str) -> bool:
    """Whether the caller gave this answer already; Conflict when it cannot be given any more."""
    state = asked.state(house.now())
    if state == "pending":
        return False
    if (asked.answer, asked.answered_by) == (decision, caller.subject.id):
        return True
    raise Conflict(f"access request `{asked.id}` is {state} already")


def _answered(
    house: House,
    caller: Caller,
    asked: Asked,
    decision: str,
    reason: str | None,
    plan: Plan | None = None,
) -> EventDraft:
    return EventDraft(
        kind=EventKind.RequestAnswered,
        owner_tenant=asked.owner_tenant,
        actor_tenant=caller.subject.tenant,
        actor=caller.subject.id,
        facts={
            "request": asked.id,
            "dataset": asked.dataset,
            "dataset_id": asked.dataset_id,
            "answer": decision,
            "columns": [column.field_id for column in plan.columns] if plan else [],
            "request_digest": asked.request_digest,
            "plan_digest": asked.plan_digest,
            "policy_epoch": house.catalog.policy_epoch,
            "expires_at": plan.limits.expires_at if plan else None,
        },
        details={"reason": reason},
        concerns=(asked.subject_tenant,),
    )


async def _approve(house: House, caller: Caller, asked: Asked, wanted: W.RequestAnswer) -> Asked:
    """(5) and (6). A gateway killed between answer and Grant has the same answer finish it."""
    valid_seconds = None if wanted.valid is None else seconds_of(wanted.valid)
    if await key_check.trouble(house, asked.owner_tenant) is not None:
        raise KeyUnavailable(key_check.TEXT)
    request = again(house, asked)
    by_rules = decide(house, request, resource_of(house, ref_of(asked)))
    await groups.count(house, request, by_rules)
    asked = house.catalog.request(asked.id)  # as it is by now
    is_repeated = _is_repeated(house, caller, asked, "approve")
    if is_repeated and asked.grant is not None:
        await house.settled()
        return asked
    request = again(house, asked)
    decision, unit = judge_beside(house, request, resource_of(house, ref_of(asked)))
    plan = await _require_same(house, caller, asked, decision)
    if is_repeated:
        fields = frozenset(asked.given_fields)
        plan = _until(plan, asked.given_until)
    else:
        fields = _fields(plan, wanted.narrow_columns)
        plan = _until(plan, _end(house, plan, asked.valid_seconds, valid_seconds))
    kept = tuple(column for column in plan.columns if column.field_id in fields)
    plan = dataclasses.replace(plan, columns=kept)
    if not is_repeated:
        reason = reason_of(wanted.reason)
        house.record(_answered(house, caller, asked, "approve", reason, plan))
    _grant(house, request, dataclasses.replace(decision, plan=plan), asked, unit)
    await house.settled()
    return house.catalog.request(asked.id)


async def _require_same(house: House, caller: Caller, asked: Asked, decision: Decision) -> Plan:
    """(5) The Plan that was asked for, as the rules make it now."""
    plan = decision.plan
    if plan is None or plan_hash(plan) != asked.plan_digest or not needs_approval(plan):
        await refusals.record(house, caller.subject, ROUTE, Conflict.code)
        raise Conflict(
            "the rules answer this request otherwise than when it was asked",
            advice="have it asked again: the new request shows what would be released now",
        )
    return plan


def _fields(plan: Plan, names: tuple[str, ...] | None) -> frozenset[int]:
    if names is None:
        return frozenset(column.field_id for column in plan.columns)
    known = {column.name: column.field_id for column in plan.columns}
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"`{name[:80]}` is no column of this request's plan", field="narrow_columns"
            )
    if not names:
        raise InvalidInput("no column is left", advice="reject it", field="narrow_columns")
    return frozenset(known[name] for name in names)


def _end(house: House, plan: Plan, *spans: int | None) -> int:
    """The earliest of what the asker, the approver and the rules say (Unix seconds)."""
    said = [span for span in spans if span is not None] or [GRANT_SECONDS_DEFAULT]
    end = int(house.now()) + min(said)
    return end if plan.limits.expires_at is None else min(end, plan.limits.expires_at)


def _until(plan: Plan, end: int | None) -> Plan:
    return dataclasses.replace(plan, limits=plan.limits.least(Limits(expires_at=end)))


def _grant(
    house: House, request: AccessRequest, decision: Decision, asked: Asked, unit: Plan | None
) -> None:
    """(6) The Decision about the asker's request, which with its Grant is his."""
    draft = decision_event.draft(house, request, decision, house.id("grant_"))
    house.record(
        dataclasses.replace(
            draft,
            facts={**draft.facts, "request": asked.id},
            details={**draft.details, "unit": unit.to_dict() if unit else None},
        )
    )
