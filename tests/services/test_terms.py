"""What questions to lineage learn from cards: the tenant's own alone, and dates only when sure."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.dataset import DatasetRef
from gateway.services import update
from gateway.services.house import House
from gateway.services.terms import TEXT_CHARS_MAX, terms_of
from gateway.wire import DatasetChanges
from tests.services.test_access import OWNER, run, shared

__all__ = ["shared"]
ENDS = ("retention_days", "retention_months", "retention_until")


def said(house: House, **card: Any) -> dict[str, Any]:
    changes = DatasetChanges(card=card)
    run(update.update(house, OWNER, DatasetRef("clinic", "icu"), changes, None))
    (found,) = terms_of(house, "clinic")
    return found


def test_nobody_learns_of_another_tenants_cards(shared: House) -> None:
    said(shared, legal_basis="consent")
    assert terms_of(shared, "startup") == []


@pytest.mark.parametrize("retention", ["", "a while", "P2", "P0D", "P101Y", "2028-13-01", "P1DT2H"])
def test_what_is_no_period_and_no_day_has_no_known_end(shared: House, retention: str) -> None:
    found = said(shared, title="x", retention=retention)
    assert [found[name] for name in ENDS] == [None, None, None]


@pytest.mark.parametrize(
    ("retention", "days", "months", "until"),
    [
        ("P30D", 30, 0, None),
        ("P2W", 14, 0, None),
        ("P2Y", 0, 24, None),
        ("2028-01-31", None, None, "2028-01-31"),
    ],
)
def test_periods_and_days_are_read(
    shared: House, retention: str, days: int | None, months: int | None, until: str | None
) -> None:
    found = said(shared, retention=retention)
    assert [found[name] for name in ENDS] == [days, months, until]


def test_pages_of_text_are_cut_and_other_values_left_out(shared: House) -> None:
    found = said(shared, legal_basis="x" * 9000, region=["eu", "ch"])
    assert (len(found["legal_basis"]), found["region"]) == (TEXT_CHARS_MAX, None)
