"""Asking a person: the AccessRequest with a reason, what became of it, and the answer."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.wire.access import AccessAsk, PlanView


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAsk(AccessAsk):
    """POST /v1/access-requests: the same AccessRequest, and what a person wants to know."""

    valid: str | None = None  # how long the access is wanted: `14d`
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswer:
    """POST /v1/access-requests/{id}/approvals."""

    decision: str  # approve | reject
    narrow_columns: tuple[str, ...] | None = None  # only these of the plan's
    valid: str | None = None  # no longer than this
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequestView:
    """What was asked of the owner's people, and what they said."""

    id: str  # req_…
    state: str  # pending | approved | rejected | expired
    dataset: str  # with version
    subject: str | None  # None: erased
    action: str
    purpose: str
    columns: tuple[str, ...] | None  # as asked; None = all that may be had
    split: str | None
    run: str | None
    valid_seconds: int | None
    reason: str | None
    plan: PlanView | None  # what the rules would release if a person says yes
    request_hash: str
    plan_hash: str
    policy_epoch: int
    asked_at: str
    expires_at: str  # of the question, while it is pending
    answered_at: str | None = None
    answered_by: str | None = None  # for the owner's side
    answer_reason: str | None = None
    approved_columns: tuple[str, ...] | None = None  # all of the plan's, or fewer
    approved_until: str | None = None
    grant: str | None = None
