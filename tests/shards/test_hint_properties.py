"""Numbers with check digits: every right one is found, no changed one is taken for it."""

from __future__ import annotations

import datetime as dt
import string
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import identifiers as ids
from gateway.shards.hints import look

COUNTRIES = st.text(string.ascii_uppercase, min_size=2, max_size=2)
ACCOUNTS = st.text(string.digits + string.ascii_uppercase, min_size=11, max_size=30)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
LOCALS = st.from_regex(r"[A-Za-z0-9._%+-]{1,20}", fullmatch=True)
ENDINGS = st.text(string.ascii_lowercase, min_size=2, max_size=24)
DAYS = st.dates(dt.date(1900, 1, 1), dt.date(2008, 12, 31))


def reason_of(values: list[Any]) -> str | None:
    found = look(pa.array(values))
    return found[0] if found else None


def iban(country: str, account: str) -> str:
    """ISO 13616 the other way round: 98 minus the rest with 00 in the place of the check."""
    rest = 0
    for char in account + country + "00":
        for digit in char if char.isdigit() else str(ord(char) - ord("A") + 10):
            rest = (rest * 10 + int(digit)) % 97
    return f"{country}{98 - rest:02}{account}"


def card(front: str) -> str:
    """With its check digit, by the table of doubled digits."""
    digits = [int(char) for char in front]
    doubled = [(0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[digit] for digit in digits[-1::-2]]
    return f"{front}{-(sum(doubled) + sum(digits[-2::-2])) % 10}"


def with_other_digit(text: str, places: list[int], at: int, plus: int) -> str:
    place = places[at % len(places)]
    return f"{text[:place]}{(int(text[place]) + plus) % 10}{text[place + 1 :]}"


@given(COUNTRIES, ACCOUNTS, st.integers(0, 99), st.integers(1, 9))
def test_ibans_are_found_and_with_another_digit_they_are_not(
    country: str, account: str, at: int, plus: int
) -> None:
    right = iban(country, account)
    assert ids.iban(right)
    assert reason_of([right] * 9) == "iban"
    grouped = " ".join(right[n : n + 4] for n in range(0, len(right), 4))
    assert reason_of([grouped] * 9) == "iban"
    digits = [n for n, char in enumerate(right) if char.isdigit()]
    wrong = with_other_digit(right, digits, at, plus)
    assert not ids.iban(wrong)
    assert reason_of([wrong] * 9) != "iban"


@given(st.text("0123456789", min_size=14, max_size=14), st.integers(0, 99), st.integers(1, 9))
def test_card_numbers_are_found_and_with_another_digit_they_are_not(
    middle: str, at: int, plus: int
) -> None:
    right = card("4" + middle)
    assert ids.luhn(right)
    assert reason_of([right] * 9) == "payment-card"
    assert reason_of([int(right)] * 9) == "payment-card"
    wrong = with_other_digit(right, list(range(16)), at, plus)
    assert not ids.luhn(wrong)
    assert reason_of([wrong] * 9) != "payment-card"


@given(LOCALS, st.lists(LABELS, min_size=1, max_size=3), ENDINGS)
def test_addresses_are_found_and_without_their_sign_or_ending_they_are_not(
    local: str, labels: list[str], ending: str
) -> None:
    host = ".".join(labels)
    assert reason_of([f"{local}@{host}.{ending}"] * 9) == "e-mail"
    assert reason_of([f"write to {local}@{host}.{ending}, please"] * 9) == "e-mail"
    assert reason_of([f"{local} {host}.{ending}"] * 9) != "e-mail"
    assert reason_of([f"{local}@{labels[0]}"] * 9) != "e-mail"


@given(st.lists(DAYS, min_size=30, max_size=60), st.sampled_from(["%Y-%m-%d", "%d.%m.%Y"]))
def test_days_decades_apart_are_births_and_days_of_one_year_are_not(
    days: list[dt.date], form: str
) -> None:
    spread = sorted(day.year for day in days)
    share = len(spread) // 10
    if spread[-share - 1] - spread[share] >= 20:  # the middle 80 % alone span it
        assert reason_of(days) == "birth-dates"
        assert reason_of([f"{day:{form}}" for day in days]) == "birth-dates"
    assert reason_of([day.replace(year=1999, day=1) for day in days]) is None
    assert reason_of([f"{day.replace(year=1999, day=1):{form}}" for day in days]) is None
    later = [dt.date(2100 + n, 1, 1) for n in range(30)]
    assert reason_of(later) is None
