"""What a sample of the values suggests: what is found, what is not taken for it, what is told."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from gateway.demo.datasets import flights, health_insurance, verses
from gateway.domain import identifiers as ids
from gateway.domain.proposals import TAG_OF_REASON, Hint, proposal_for
from gateway.shards import hints
from gateway.shards.hints import Sample, look
from tests.shards.kit import parquet_bytes, seal
from tests.shards.warm import Zygote

RANDOM = random.Random(7)
# Published examples, one rule each.
VALID: dict[str, tuple[Callable[[str], bool], str]] = {
    "national-id-be": (ids.be_nrn, "85073003328"),
    "national-id-br": (ids.br_cpf, "529.982.247-25"),
    "national-id-de": (ids.de_steuer_id, "86095742719"),
    "national-id-es": (ids.es_dni, "X1234567L"),
    "national-id-fi": (ids.fi_hetu, "131052-308T"),
    "national-id-fr": (ids.fr_nir, "255081416802538"),
    "national-id-it": (ids.it_codice_fiscale, "RSSMRA85T10A562S"),
    "national-id-nl": (ids.nl_bsn, "111222333"),
    "national-id-pl": (ids.pl_pesel, "44051401359"),
    "national-id-se": (ids.se_personnummer, "811228-9874"),
    "national-id-uk": (ids.uk_nhs, "943 476 5919"),
    "national-id-us": (ids.us_ssn, "123-45-6789"),
    "iban": (ids.iban, "GB82 WEST 1234 5698 7654 32"),
    "payment-card": (ids.luhn, "4111 1111 1111 1111"),
}
PLAIN = {
    "e-mail": "ada@example.org",
    "phone": "+49 30 1234567",
    "ip-address": "2001:db8::ff00:42:8329",
}


def digits(count: int) -> str:
    return "".join(RANDOM.choice("0123456789") for _ in range(count))


def reason_of(values: list[Any], kind: Any = None) -> str | None:
    found = look(pa.array(values, kind))
    return found[0] if found else None


def test_random_texts_of_the_same_shape_are_none() -> None:
    for shape in (9, 10, 11, 15, 16):
        assert reason_of([digits(shape) for _ in range(90)]) is None
    assert reason_of([f"GB{digits(2)}WEST{digits(14)}" for _ in range(90)]) is None
    assert reason_of([f"{digits(8)}A" for _ in range(90)]) is None
    assert reason_of([f"000-{digits(2)}-{digits(4)}" for _ in range(90)]) is None


@pytest.mark.parametrize(
    "values",
    [
        ["2020-01-01", "2021-12-31"] * 20, ["12:30:45"] * 20, ["1.5", "2.25"] * 20, ["1.2.3"] * 20,
        ["PHL", "JFK"] * 20, ["N14228"] * 20, ["a @ b"] * 20, ["mail@host"] * 20, [""] * 20,
        ["In the beginning God created the heaven and the earth."] * 20, ["1999-2000"] * 20,
        list(range(200)), [1_700_000_000 + n % 50 for n in range(200)], [True] * 9,
        [dt.date(2013, 1, 1 + n % 28) for n in range(200)],
    ],
)  # fmt: skip
def test_everyday_values_suggest_nothing(values: list[Any]) -> None:
    if isinstance(values[0], bool):
        return
    assert reason_of(values) is None


@pytest.mark.parametrize("reason", VALID)
def test_a_number_with_its_check_digits_is_found_and_with_another_digit_is_not(
    reason: str,
) -> None:
    check, text = VALID[reason]
    assert check(text)
    assert reason_of([text] * 20) == reason
    if reason == "national-id-us":
        return  # has no check digit
    wrong = 0
    for at, char in enumerate(text):
        if char.isdigit():
            other = text[:at] + str((int(char) + 1) % 10) + text[at + 1 :]
            wrong += not check(other)
    assert wrong >= sum(char.isdigit() for char in text) - 2


@pytest.mark.parametrize("reason", PLAIN)
def test_texts_with_a_form_of_their_own_are_found(reason: str) -> None:
    assert reason_of([PLAIN[reason]] * 10) == reason


def test_numbers_stored_without_their_leading_zeros_are_found() -> None:
    bsn = [n for n in range(10_000_000, 10_004_000) if ids.nl_bsn(f"{n:09}")]
    assert reason_of(bsn) == "national-id-nl"


def test_one_mail_among_twenty_texts_is_found_one_among_fifty_is_not() -> None:
    prose = ["nothing to see here"] * 19
    assert reason_of([*prose, "write to ada@example.org, please"]) == "e-mail"
    assert reason_of([*prose, *prose, *prose, "ada@example.org"]) is None


def test_dates_spread_like_births_are_found_as_dates_and_as_text() -> None:
    days = [dt.date(1935 + n % 70, 1 + n % 12, 3) for n in range(200)]
    for values in (days, [str(day) for day in days], [f"{d:%d.%m.%Y}" for d in days]):
        assert reason_of(values) == "birth-dates"


def test_another_value_in_each_row_is_found_unless_rows_are_only_numbered() -> None:
    codes = [f"P{n * 7919 % 100_003:06}" for n in range(300)]
    assert reason_of(codes) == "unique"
    assert reason_of([n * 7919 % 100_003 for n in range(300)]) == "unique"
    assert reason_of(list(range(300))) is None
    assert reason_of([f"a sentence about {code} and more of it" for code in codes]) is None


def test_a_sample_is_bounded_and_spread_over_everything() -> None:
    rows = 60_000
    schema = pa.schema([(f"t{n}", pa.string()) for n in range(60)] + [("x", pa.float64())])
    sample = Sample(schema, rows)
    text = pa.array(["x" * 1000] * 1000)
    batch = pa.record_batch([*[text] * 60, pa.array([0.5] * 1000)], schema=schema)
    for _ in range(rows // 1000):
        sample.take(batch)
    taken = sample._taken[0]
    assert len(taken) > 50  # of 60 batches
    assert sum(map(len, taken)) * 60 <= hints.SAMPLE_CELLS_MAX
    assert max(len(value.as_py()) for value in taken[0]) == hints.VALUE_CHARS_MAX
    assert len(sample._taken) == 60


def test_values_suggest_more_than_names_and_both_only_tags_that_are_listed() -> None:
    hint = Hint(field_id=1, reason="e-mail", percent=100)
    by_value = proposal_for("contact", 1, {1: hint})
    assert by_value is not None
    assert (by_value.tag, by_value.reason, by_value.percent) == ("pii.email", "e-mail", 100)
    unique = Hint(field_id=2, reason="unique", percent=100)
    named = proposal_for("customer_email", 2, {2: unique})
    assert named is not None
    assert (named.tag, named.reason, named.percent) == ("pii.email", "name", None)
    assert proposal_for("capacity", 3, {}) is None
    names = ("E_Mail", "age", "diagnosis_code", "patient")
    tags = [found.tag for name in names if (found := proposal_for(name, 9, {}))]
    assert tags == ["pii.email", "pii.indirect", "health.special", "pii.identifier"]


@pytest.mark.parametrize(
    "said", [[1, "e-mail", 95], [1, "e-mail", 0], [1, "x", 10], ["1", "e-mail", 10], [1], 7]
)
def test_a_hint_that_is_none_is_refused(said: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Hint.parse(said)


def test_a_registration_answers_with_hints_and_no_value(warm: Zygote, tmp_path: Path) -> None:
    del warm
    table = pa.table(
        {
            "who": [f"person{n}@example.org" for n in range(500)],
            "n": np.arange(500),
            "iban": ["GB82WEST12345698765432", None] * 250,
        }
    )
    version = seal(tmp_path, parquet_bytes(table))
    assert [hint.to_list() for hint in version.hints] == [[1, "e-mail", 100], [3, "iban", 100]]
    assert {hint.tag for hint in version.hints} <= set(TAG_OF_REASON.values())


@pytest.mark.parametrize("make", [flights, health_insurance, verses])
def test_the_real_sets_of_the_demo_hold_nothing_personal_of_these_kinds(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    pytest.importorskip("statsmodels", reason="needs the demo extra")
    path = make(tmp_path).path
    table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    table = table.combine_chunks()
    sample = Sample(table.schema, table.num_rows)
    for batch in table.to_batches():
        sample.take(batch)
    assert sample.hints(tuple(range(table.num_columns))) == []
