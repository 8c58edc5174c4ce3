"""How fulfilled obligations follow from events; what is owed follows from the Grants alone."""

from __future__ import annotations

from gateway.catalog.state import State
from gateway.domain.events import Event
from gateway.domain.obligations import Fulfilment, Obligation, owed
from gateway.errors import Conflict, NotFound


def obligation_fulfilled(state: State, event: Event) -> None:
    """The recipient shows that it did what it owed; once."""
    f = event.facts
    grant = state.grants.get(f["grant"])
    if grant is None and f["grant"] in state.erased_grants:
        return
    found: list[Obligation] = [o for o in owed(grant) if o.name == f["obligation"]] if grant else []
    if not found:
        raise NotFound("no such obligation")
    (obligation,) = found
    if obligation.id in state.fulfilled:
        raise Conflict(f"obligation `{obligation.id}` is fulfilled already")
    state.fulfilled[obligation.id] = Fulfilment(
        by=event.actor or "",
        at=event.time,
        evidence_sha256=f["evidence_sha256"],
        evidence=(event.details or {}).get("evidence"),
    )
