"""What a tenant may use of the gateway, as an operator set it. None: no limit of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from gateway.domain import facts as f

DAY_SECONDS = 86_400  # the days of `max_bytes` are those of UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """Over all its persons and jobs together; 0 allows nothing."""

    max_streams: int | None = None  # open at once
    requests_per_minute: int | None = None  # None: what the gateway gives to everybody
    max_bytes: int | None = None  # delivered to it in one day (UTC), of whomever's data
    max_stored_bytes: int | None = None  # sealed shards of its own datasets
    retention_days: int | None = None  # of the details of its history; at least 183

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The limits by name, in the order of the fields."""
        return tuple(field.name for field in fields(cls))

    def to_dict(self) -> dict[str, Any]:
        """As the facts of an event."""
        return asdict(self)


# The whole set as it is from here on.
FACTS: f.Schema = {"tenant": f.NAME, **dict.fromkeys(TenantLimits.names(), f.COUNT | None)}
