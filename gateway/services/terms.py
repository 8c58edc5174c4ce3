"""What cards say about the law: legal basis, licence, region, retention; for questions to lineage.

A card is free text of the owner's. Only what can be read for certain becomes a date to
compare with: `P2Y`, `P30D`, or a day such as `2028-01-31`. Everything else stays what it says,
and its end is unknown.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from gateway.domain.dataset import Dataset
from gateway.services.house import House

_PERIOD = re.compile(r"P([1-9][0-9]{0,3})([DWMY])\Z")
_DAYS, _MONTHS = {"D": 1, "W": 7}, {"M": 1, "Y": 12}
TEXT_CHARS_MAX = 500  # of one entry; a card may hold pages
_MONTHS_MAX = 1200  # a longer one means: for ever; its end is no date


def terms_of(house: House, tenant: str) -> list[dict[str, Any]]:
    """One entry per dataset of the tenant, as its card is now."""
    return [_terms(d) for d in house.catalog.datasets() if d.tenant == tenant]


def _terms(dataset: Dataset) -> dict[str, Any]:
    card = dataset.card
    retention = _text(card.get("retention"))
    return {
        "dataset": f"{dataset.tenant}/{dataset.name}",
        "legal_basis": _text(card.get("legal_basis")),
        "licence": _text(card.get("licence")),
        "region": _text(card.get("region")),
        "retention": retention,
        **_end(retention or ""),
    }


def _end(retention: str) -> dict[str, Any]:
    """Days and months after registration, or a fixed day; all null: unknown."""
    found: dict[str, Any] = dict.fromkeys(("retention_days", "retention_months", "retention_until"))
    if (period := _PERIOD.match(retention)) is None:
        return {**found, "retention_until": _day(retention)}
    number, unit = int(period[1]), period[2]
    months = number * _MONTHS.get(unit, 0)
    if months > _MONTHS_MAX:
        return found
    return {**found, "retention_days": number * _DAYS.get(unit, 0), "retention_months": months}


def _day(text: str) -> str | None:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    return value[:TEXT_CHARS_MAX] if isinstance(value, str) and value else None
