"""Deadlines of what is owed run from the end of the Grant."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.lease import Grant
from gateway.domain.obligations import after, grant_of, owed, parse_period
from gateway.errors import InvalidInput
from tests.catalog import happenings as h

GRANT = Grant(
    id=h.named("grant_", "1"),
    decision=h.named("dec_", "1"),
    subject="startup/ml",
    subject_tenant="startup",
    owner_tenant="clinic",
    plan=h.plan(obligations=(("delete_after", "P30D"), ("no_redistribution", True))),
    run=None,
    granted_at=0,
    expires_at=1000,
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    "text",
    ["", "P", "30D", "P0D", "P-1D", "P1.5D", "P30D\n", "P100Y", "PT1H", "P1Y2M", "p1d", "P٣D"],
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_period(text)


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        ("2026-01-31", "P1D", "2026-02-01"),
        ("2026-01-31", "P2W", "2026-02-14"),
        ("2026-01-31", "P1M", "2026-02-28"),
        ("2024-02-29", "P1Y", "2025-02-28"),
        ("2026-11-30", "P14M", "2028-01-30"),
        ("9999-12-31T23:59:59", "P99Y", "9999-12-31T23:59:59"),
    ],
)
def test_a_period_ends_on_the_day_people_mean(start: str, period: str, end: str) -> None:
    assert after(at(start), period) == at(end)


@given(st.integers(0, at("2200-01-01")), st.integers(1, 99), st.sampled_from("DWMY"))
def test_more_is_never_sooner(start: int, count: int, unit: str) -> None:
    assert start < after(start, f"P{count}{unit}") <= after(start + 86_400, f"P{count}{unit}")
    if count < 99:
        assert after(start, f"P{count}{unit}") < after(start, f"P{count + 1}{unit}")


def test_only_what_is_tracked_is_owed_and_its_id_leads_back_to_the_grant() -> None:
    (one,) = owed(GRANT)
    assert grant_of(one.id) == (GRANT.id, "delete_after")
    assert one.due_at == 1000 + 30 * 86_400
    for wrong in ("", "obl_", one.id.replace("obl_", "grant_"), "obl_x-delete_after", one.id[:20]):
        with pytest.raises(InvalidInput):
            grant_of(wrong)


def test_the_deadline_of_a_revoked_grant_runs_from_its_revocation() -> None:
    (one,) = owed(dataclasses.replace(GRANT, revoked=True, revoked_at=100))
    assert one.due_at == 100 + 30 * 86_400
