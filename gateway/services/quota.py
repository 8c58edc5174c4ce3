"""How often a tenant may do something in an hour; kept in memory, forgotten by a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.errors import LimitExceeded

SECONDS = 3600.0


@dataclass(slots=True, kw_only=True)
class Quota:
    """At most `most` of `what` for each tenant within any hour."""

    what: str
    most: int
    _taken: dict[str, list[float]] = field(default_factory=dict)  # tenant -> times, ascending

    def take(self, tenant: str, now: float) -> None:
        """Count one; LimitExceeded when it is one too many."""
        taken = [time for time in self._taken.get(tenant, ()) if time > now - SECONDS]
        self._taken[tenant] = taken
        if len(taken) >= self.most:
            wait = int(taken[0] + SECONDS - now) + 1
            raise LimitExceeded(
                f"more than {self.most} {self.what} in an hour",
                advice=f"try again in {wait} seconds",
                limit=self.what,
                retry_after_seconds=wait,
            )
        taken.append(now)
