"""What happens under a Grant, as an event: about its owner's data, done by its holder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant


def granted(kind: EventKind, grant: Grant, facts: Mapping[str, Any]) -> EventDraft:
    """The draft of such an event; whoever records it says when."""
    return EventDraft(
        kind=kind,
        owner_tenant=grant.owner_tenant,
        actor_tenant=grant.subject_tenant,
        actor=grant.subject,
        facts=dict(facts),
    )
