"""How many requests a person, job or tenant may send to control in a minute (429 beyond).

Counted once somebody proved who he is, so that nobody uses up what belongs to another, and in
memory: a restart forgets them. A window is one minute of the clock. Segments of a stream go to
data workers and count nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.domain.access import Subject
from gateway.errors import LimitExceeded
from gateway.services import refusals
from gateway.services.house import House
from gateway.services.tenant_limits import exceeded

# A job of 4096 ranks, the most there are, begins with about four requests of each.
REQUESTS_PER_MINUTE = 40_000
MINUTE_SECONDS = 60


@dataclass(slots=True)
class Rates:
    """Requests in the present minute, by subject and by tenant."""

    minute: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)  # of whom a refusal is recorded

    def take(self, name: str, now: float) -> int:
        """Count one more; how many there were in this minute, with it."""
        minute = int(now) // MINUTE_SECONDS
        if minute != self.minute:
            self.minute, self.taken, self.refused = minute, {}, set()
        self.taken[name] = self.taken.get(name, 0) + 1
        return self.taken[name]


async def count(house: House, subject: Subject, route: str) -> None:
    """Count one request of a verified caller; the first refused one of a minute is recorded.

    One person or job has half of what its tenant has, so that none takes all of it.

    Raises:
        LimitExceeded: it is one too many; with the seconds to the next minute.
    """
    own = house.catalog.tenant(subject.tenant).limits.requests_per_minute
    most = REQUESTS_PER_MINUTE if own is None else own
    now = house.now()
    for name, allowed in ((subject.id, (most + 1) // 2), (subject.tenant, most)):
        if house.rates.take(name, now) > allowed:
            if name not in house.rates.refused:  # not by the count: the limit may just have sunk
                house.rates.refused.add(name)
                await refusals.record(house, subject, route, LimitExceeded.code)
            whose = "" if name == subject.tenant else f", `{name}` half of them"
            raise exceeded(
                subject.tenant,
                "requests_per_minute",
                f"may send {most} requests a minute{whose}",
                MINUTE_SECONDS - int(now) % MINUTE_SECONDS,
            )
