"""What was refused before it could be judged: unknown names, proofs that do not hold.

Strangers can cause these at will, so those without a verified caller are recorded at a bounded
rate; the number left out stands in the metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.access import Subject
from gateway.domain.events import EventDraft, EventKind
from gateway.services.house import PLATFORM, House

PER_SECOND_MAX = 10


@dataclass(slots=True)
class Rate:
    """A budget of PER_SECOND_MAX records in each second."""

    second: int = 0
    used: int = 0
    left_out: int = 0  # since the start

    def take(self, now: float) -> bool:
        """Whether one more may be recorded now."""
        if int(now) != self.second:
            self.second, self.used = int(now), 0
        self.used += 1
        self.left_out += self.used > PER_SECOND_MAX
        return self.used <= PER_SECOND_MAX


async def record(house: House, subject: Subject, route: str, error: str) -> None:
    """Record that a verified caller was refused, durably."""
    await house.recorded(_draft(subject, route, error))


async def record_stranger(house: House, route: str, error: str) -> None:
    """Record that somebody could not say who he is."""
    if house.strangers.take(house.now()):
        await house.recorded(_draft(None, route, error))


def _draft(subject: Subject | None, route: str, error: str) -> EventDraft:
    tenant = subject.tenant if subject else PLATFORM
    return EventDraft(
        kind=EventKind.RequestRefused,
        owner_tenant=tenant,
        actor_tenant=tenant,
        actor=subject.id if subject else None,
        facts={"route": route, "error": error},
    )
