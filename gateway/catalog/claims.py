"""Which claims a tenant made lately, so that the same one twice is recorded once."""

from __future__ import annotations

from gateway.catalog.state import CLAIMS_KEPT, State
from gateway.domain.events import Event


def lineage_claimed(state: State, event: Event) -> None:
    """Remember it; the oldest goes. No decision rests on a claim."""
    known = state.claims.setdefault(event.owner_tenant, {})
    known[event.facts["claim"]] = event.index
    while len(known) > CLAIMS_KEPT:
        del known[next(iter(known))]
