"""Times on the wire are ISO 8601 in UTC with a `Z`; inside they are Unix seconds."""

from __future__ import annotations

import datetime as dt
import re

from gateway.errors import InvalidInput

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])\Z")
_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC).timestamp()
_LATEST = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC).timestamp()
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def iso(unix_seconds: float) -> str:
    """`1767225600` becomes `2026-01-01T00:00:00Z` (milliseconds only when there are any)."""
    at = dt.datetime.fromtimestamp(unix_seconds, tz=dt.UTC)
    precise = "milliseconds" if at.microsecond else "seconds"
    return at.isoformat(timespec=precise).replace("+00:00", "Z")


def unix(text: str) -> float:
    """Read an ISO 8601 date or time (without a zone it is UTC); raises InvalidInput."""
    try:
        at = dt.datetime.fromisoformat(text)
    except (ValueError, TypeError) as cause:
        raise InvalidInput(
            f"`{str(text)[:40]}` is not a time", advice="write `2026-01-31` or `…T10:00:00Z`"
        ) from cause
    seconds = (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
    return _writable(text, seconds)


def _writable(text: str, seconds: float) -> float:
    if not _EARLIEST <= seconds <= _LATEST:
        raise InvalidInput(f"`{text[:40]}` is outside the years 1 to 9999 of UTC")
    return seconds


def moment(text: str, *, now: float) -> float:
    """Read a time, or a span such as `30d` counted back from `now`; raises InvalidInput."""
    span = _SPAN.match(text)
    return _writable(text, now - int(span[1]) * _SECONDS[span[2]]) if span else unix(text)


def seconds_of(text: str) -> int:
    """Read a span such as `14d` or `8h`; raises InvalidInput."""
    span = _SPAN.match(text)
    if not span:
        raise InvalidInput(f"`{text[:40]}` is not a span of time", advice="write `14d` or `8h`")
    return int(span[1]) * _SECONDS[span[2]]
