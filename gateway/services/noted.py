"""Before a question to lineage is answered: the durable record that it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.access import digest_of
from gateway.domain.events import EventDraft, EventKind
from gateway.services.house import House
from gateway.services.request_access import Caller


async def noted(
    house: House, caller: Caller, tenant: str, question: tuple[str, Mapping[str, Any]]
) -> None:
    """Record the question durably, its parameters sealed."""
    name, parameters = question
    await house.recorded(
        EventDraft(
            kind=EventKind.QuestionAsked,
            owner_tenant=tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"question": name, "parameters_digest": digest_of(dict(parameters))},
            details={"parameters": dict(parameters)},
        )
    )
