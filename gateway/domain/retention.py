"""How long a tenant's history keeps its details: by whole months, UTC. Pure."""

from __future__ import annotations

import calendar
import time

from gateway.domain import facts as f

DAYS_MIN = 183  # what laws ask of logs (AI Act, Art. 19 and 26: six months); less is refused
_SECONDS = 86_400

# The key of the month's details is destroyed, and its rows leave the lineage database.
EXPIRED: f.Schema = {"tenant": f.NAME, "month": f.MONTH}


def end_of(month: str) -> int:
    """Unix second at which `2026-11` is over."""
    year, number = int(month[:4]), int(month[5:])
    return calendar.timegm((year + number // 12, number % 12 + 1, 1, 0, 0, 0))


def month_at(moment: float) -> str:
    """The month of a moment (Unix seconds)."""
    return time.strftime("%Y-%m", time.gmtime(moment))


def is_over(month: str, days: int, now: float) -> bool:
    """Whether its last moment is more than so many days ago."""
    return end_of(month) + days * _SECONDS <= now
