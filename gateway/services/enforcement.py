"""Asking on behalf of others: only a registered enforcement point, only about its own data.

An enforcement point is an identity with the role `enforcement-point` of the tenant that owns
the dataset, whose rules let it `describe` the dataset. It names whom it asks about; what is
known of him comes from the catalogue, never from the question. It gets an answer, and no Grant
can come of it. To anybody else, and about anybody else's data, nothing is said.
"""

from __future__ import annotations

from gateway.domain.access import Decision, Effect, Reason, Subject, digest_of
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import AccessDenied, NotFound
from gateway.services import groups, refusals
from gateway.services.house import House
from gateway.services.request_access import (
    Ask,
    Caller,
    authorize,
    decide,
    judge_grant,
    request_of,
    unseen,
)

ROLE = "enforcement-point"
_ROUTE = "/access/v1/evaluation"


async def check_for(
    house: House, caller: Caller, who: tuple[str, str], ask: Ask, at: float | None
) -> Decision:
    """Answer whether `who` (type and id) may; the question is recorded as the caller's.

    Raises:
        AccessDenied: the caller is no enforcement point.
        NotFound: the dataset is not its tenant's, or not there (same words).
    """
    if ROLE not in caller.subject.roles or caller.grant is not None:
        await refusals.record(house, caller.subject, _ROUTE, AccessDenied.code)
        raise AccessDenied(
            "only the caller's own access can be asked for", advice="leave `subject` out"
        )
    ref = DatasetRef.parse(ask.dataset)
    if ref.tenant != caller.subject.tenant:
        await refusals.record(house, caller.subject, _ROUTE, NotFound.code)
        raise unseen(ref)
    await authorize(house, caller, "describe", ref.tenant, ref)
    decision = await _judged(house, caller, who, ask, at)
    asked = {"subject": list(who), "dataset": ask.dataset, "action": ask.action}
    await house.recorded(
        EventDraft(
            kind=EventKind.QuestionAsked,
            owner_tenant=ref.tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"question": "evaluation", "parameters_digest": digest_of(asked)},
            details={
                "parameters": {**asked, "purpose": ask.purpose},
                "decision": decision.id,
                "effect": decision.effect.value,
                "reasons": [reason.code for reason in decision.reasons],
            },
        )
    )
    return decision


async def _judged(
    house: House, caller: Caller, who: tuple[str, str], ask: Ask, at: float | None
) -> Decision:
    """Whom nobody knows is denied as one whom no rule names."""
    subject = _subject(house, *who)
    if subject is None:
        nobody = Reason(code="no-rule", text="no rule permits this")
        return Decision(id=house.id("dec_"), effect=Effect.DENY, reasons=(nobody,))
    other = Caller(subject=subject, jti=caller.jti)
    request, resource = await request_of(house, other, ask)
    await groups.count(house, request, decide(house, request, resource, at))
    return judge_grant(house, request, resource, at=at)[0]


def _subject(house: House, kind: str, identity_id: str) -> Subject | None:
    try:
        identity = house.catalog.identity(identity_id)
    except NotFound:
        return None
    is_suspended = house.catalog.tenant(identity.tenant).suspended
    if identity.disabled or is_suspended or identity.type != kind:
        return None
    return Subject(id=identity.id, tenant=identity.tenant, type=identity.type, roles=identity.roles)
