"""What a recipient owes for what it was given, and until when.

`policies/schema.yaml` declares every obligation with its level: `enforced` (the gateway
refuses), `tracked` (followed to a deadline) or `declared` (shown and recorded, no more). Only
what the gateway really enforces or tracks, listed here, may be declared so. A tracked one has
a period for its value (`P30D`), which runs from the end of the Grant: its last day, or the day
it was revoked.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain.approval import REQUIRE_APPROVAL
from gateway.domain.ids import is_id
from gateway.domain.lease import Grant
from gateway.errors import InvalidInput

TRACKED = ("delete_after", "publish_results", "return_derived")
ENFORCED = ("min_group_size", "region_lock", REQUIRE_APPROVAL)
_PREFIX = "obl_"
_PERIOD = re.compile(r"P([1-9][0-9]{0,3}(?=[DWM])|[1-9][0-9]?(?=Y))([DWMY])\Z")
_LAST_SECOND = 253_402_300_799  # of the year 9999
_MONTHS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """One tracked obligation under one Grant."""

    name: str
    period: str  # `P30D`
    grant: Grant

    @property
    def id(self) -> str:
        """Says which Grant it comes from: `obl_…-delete_after`."""
        return f"{_PREFIX}{self.grant.id.removeprefix('grant_')}-{self.name}"

    @property
    def due_at(self) -> int:
        """Unix seconds from which it is overdue."""
        return after(self.grant.ends_at, self.period)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfilment:
    """What the recipient said and showed when it had done what it owed."""

    by: str
    at: float  # Unix seconds
    evidence_sha256: str
    evidence: str | None  # text of the evidence, when it is short; None also when it was erased


def owed(grant: Grant) -> tuple[Obligation, ...]:
    """The tracked obligations of a Grant, by name."""
    return tuple(
        Obligation(name=name, period=str(value), grant=grant)
        for name, value in grant.plan.obligations
        if name in TRACKED
    )


def grant_of(obligation_id: str) -> tuple[str, str]:
    """The Grant id and the name in an obligation's id; raises InvalidInput."""
    body, dash, name = obligation_id.removeprefix(_PREFIX).partition("-")
    grant = f"grant_{body}"
    if not (obligation_id.startswith(_PREFIX) and dash and is_id(grant, "grant_")):
        raise InvalidInput(f"`{obligation_id[:80]}` is no obligation", advice="write `obl_…`")
    return grant, name


def regions(text: str) -> frozenset[str]:
    """The regions that a `region_lock` lists."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def parse_period(text: str) -> str:
    """`text`, when it is one of `P30D`, `P2W`, `P6M`, `P1Y`; raises InvalidInput."""
    if not _PERIOD.match(text):
        raise InvalidInput(f"`{text[:80]}` is no period", advice="write `P30D`, `P6M` or `P1Y`")
    return text


def after(start: int, period: str) -> int:
    """Unix seconds one period after `start`; a month ends on its last day at the latest."""
    found = _PERIOD.match(parse_period(period))
    assert found is not None
    count, unit = int(found.group(1)), found.group(2)
    try:
        return int(_later(datetime.fromtimestamp(start, tz=UTC), count, unit).timestamp())
    except (OverflowError, ValueError):
        return _LAST_SECOND


def _later(at: datetime, count: int, unit: str) -> datetime:
    if unit in "DW":
        return at + timedelta(days=count * (7 if unit == "W" else 1))
    months = at.year * _MONTHS + at.month - 1 + count * (_MONTHS if unit == "Y" else 1)
    year, month = divmod(months, _MONTHS)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return at.replace(year=year, month=month + 1, day=day)
