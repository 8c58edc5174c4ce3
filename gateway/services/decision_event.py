"""The event that a Decision becomes; with a Grant's id it is the Grant (event-v0.md)."""

from __future__ import annotations

from typing import Any

from gateway.domain.access import AccessRequest, Decision
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.facts import CODE
from gateway.services.house import House

GRANT_SECONDS_DEFAULT = 14 * 24 * 3600


def draft(
    house: House,
    request: AccessRequest,
    decision: Decision,
    grant_id: str | None,
    *,
    is_question: bool = False,
) -> EventDraft:
    """The event of a Decision; `grant_id` makes it the Grant of what is allowed."""
    plan = decision.plan if decision.is_allowed else None
    dataset = (
        house.catalog.dataset(request.dataset.tenant, request.dataset.name)
        if request.dataset
        else None
    )
    facts: dict[str, Any] = {
        "decision": decision.id,
        "action": request.action,
        "effect": decision.effect.value,
        "dataset": str(request.dataset.unversioned) if request.dataset else None,
        "dataset_id": dataset.dataset_id if dataset else None,
        "version": request.dataset.version if request.dataset else None,
        "split": plan.split if plan else request.split,
        "purpose": request.purpose,
        "reasons": [reason.code for reason in decision.reasons],
        "rules": list(decision.rules),
        "bundle": decision.bundle,
        "policy_epoch": decision.policy_epoch,
        "catalog_index": decision.catalog_index,
        "columns": [c.field_id for c in plan.columns] if plan else [],
        "masks": {str(c.field_id): c.mask for c in plan.columns if c.mask} if plan else {},
        "grant": grant_id,
        "run": request.run,
        "region": _region(request),
    }
    if grant_id is not None and plan is not None:
        expires_at = plan.limits.expires_at or int(house.now()) + GRANT_SECONDS_DEFAULT
        facts["expires_at"] = expires_at
        facts["limits"] = plan.limits.to_dict()
    return EventDraft(
        kind=EventKind.AccessDecided,
        owner_tenant=request.tenant,
        actor_tenant=request.subject.tenant,
        actor=request.subject.id,
        facts=facts,
        details={
            "plan": plan.to_dict() if plan else None,
            "asked_columns": list(request.columns) if request.columns is not None else None,
            "advice": decision.advice,
            "is_question": is_question,
            **_asked_by(request),
        },
    )


def _region(request: AccessRequest) -> str | None:
    """The recipient's region in clear, for transfers abroad; what is no code stays sealed."""
    region = request.subject.attributes.get("region")
    return str(region) if CODE.holds(region) else None


def _asked_by(request: AccessRequest) -> dict[str, Any]:
    """The rest of what the judge was told, so that other rules can be asked the same again."""
    subject = request.subject
    return {
        "subject": {
            "type": subject.type,
            "roles": list(subject.roles),
            "attributes": dict(subject.attributes),
        },
        "context": dict(request.context),
        "asked_limits": request.limits.to_dict(),
    }
