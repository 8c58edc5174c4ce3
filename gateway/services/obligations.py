"""Tracked obligations: what recipients owe owners after a Grant, followed to its deadline.

Owed is what stands in the Plan of a Grant under which anything was released. Both sides see
it, nobody else. The recipient says that it is done and shows why: the evidence's digest is
recorded in clear, its text (when short) sealed, so that nobody can exchange it later. The
gateway cannot look into the recipient's house: a fulfilment is the recipient's word, on record.
"""

from __future__ import annotations

import hashlib

import gateway.wire as W
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.obligations import Obligation, grant_of, owed
from gateway.errors import Conflict, InvalidInput, NotFound
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize
from gateway.wire.times import iso


async def list_(house: House, caller: Caller, *, overdue: bool = False) -> list[W.ObligationView]:
    """What the caller's tenant owes and is owed, the next deadline first."""
    await house.settled()
    found = [
        _view(house, obligation)
        for grant in house.catalog.grants()
        if caller.subject.tenant in (grant.owner_tenant, grant.subject_tenant)
        for obligation in owed(grant)
        if house.catalog.was_released(grant)
    ]
    chosen = [view for view in found if not overdue or view.state == "overdue"]
    return sorted(chosen, key=lambda view: (view.due_at, view.id))


async def fulfil(
    house: House, caller: Caller, obligation_id: str, shown: W.FulfilmentRequest
) -> W.ObligationView:
    """Record that it is done: by the Grant's subject, or who may `update` for its tenant.

    Raises:
        NotFound: nothing of this id is owed by, or to, the caller's tenant.
        Conflict: it is fulfilled already.
    """
    _check_evidence(shown)
    obligation = _owed_by(house, caller, obligation_id)
    grant = obligation.grant
    if caller.subject.id != grant.subject or caller.grant is not None:
        await authorize(house, caller, "update", grant.subject_tenant)
    if house.catalog.fulfilment(obligation.id) is not None:
        raise Conflict(f"obligation `{obligation.id}` is fulfilled already")
    await house.recorded(
        EventDraft(
            kind=EventKind.ObligationFulfilled,
            owner_tenant=grant.owner_tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "dataset": str(grant.plan.dataset.unversioned),
                "grant": grant.id,
                "obligation": obligation.name,
                "evidence_sha256": shown.evidence_sha256,
            },
            details={"evidence": shown.evidence},
        )
    )
    return _view(house, obligation)


def _check_evidence(shown: W.FulfilmentRequest) -> None:
    digest = shown.evidence_sha256
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):  # noqa: PLR2004 - SHA-256 in hex
        raise InvalidInput("`evidence_sha256` is no SHA-256 in hex")
    text = shown.evidence
    if text is None:
        return
    if len(text) > W.EVIDENCE_CHARS_MAX:
        raise InvalidInput("the text of the evidence is too long", advice="send its digest alone")
    try:
        same = hashlib.sha256(text.encode()).hexdigest() == digest
    except UnicodeEncodeError as cause:
        raise InvalidInput("the evidence is no text", advice="send its digest alone") from cause
    if not same:
        raise InvalidInput("the evidence and its digest differ")


def _owed_by(house: House, caller: Caller, obligation_id: str) -> Obligation:
    """Owed by the caller's tenant; NotFound for everything else, also for whom it is owed to."""
    try:
        grant_id, name = grant_of(obligation_id)
        grant = house.catalog.grant(grant_id)
    except (InvalidInput, NotFound):
        grant = None
    if grant is not None and caller.subject.tenant == grant.subject_tenant:
        for obligation in owed(grant):
            if obligation.name == name and house.catalog.was_released(grant):
                return obligation
    raise NotFound(f"no obligation `{obligation_id[:120]}` of yours")


def _view(house: House, obligation: Obligation) -> W.ObligationView:
    grant = obligation.grant
    done = house.catalog.fulfilment(obligation.id)
    return W.ObligationView(
        id=obligation.id,
        name=obligation.name,
        period=obligation.period,
        state=_state(house, obligation),
        due_at=iso(obligation.due_at),
        dataset=str(grant.plan.dataset),
        grant=grant.id,
        subject=grant.subject,
        owner=grant.owner_tenant,
        fulfilled_at=iso(done.at) if done else None,
        fulfilled_by=done.by if done else None,
        evidence_sha256=done.evidence_sha256 if done else None,
        evidence=done.evidence if done else None,
    )


def _state(house: House, obligation: Obligation) -> str:
    if house.catalog.fulfilment(obligation.id) is not None:
        return "fulfilled"
    now = house.now()
    if now >= obligation.due_at:
        return "overdue"
    return "due" if now >= obligation.grant.ends_at else "running"
