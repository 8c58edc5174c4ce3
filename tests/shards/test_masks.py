"""Masks hide what they say they hide and keep type, length and NULL."""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.masks import applies_to, mask_names
from gateway.errors import InvalidInput
from gateway.shards.masks import MaskKeys, masked
from gateway.shards.types import type_text

KEYS = MaskKeys.of(bytes(range(32)), "plan")
COLUMNS = {
    "string": pa.array(["Ada-1", None, "", "1815", "Grüße 12", "😀abcdef"]),
    "int8": pa.array([-128, None, 0, 127, -1, 9], pa.int8()),
    "int64": pa.array([-(2**63), None, 0, 2**63 - 1, -7, 19]),
    "uint64": pa.array([0, None, 2**64 - 1, 5, 10, 19], pa.uint64()),
    "halffloat": pa.array(np.array([1.5, -2.5, 0, 60000, 1, 2], "f2")),
    "double": pa.array([1.5, None, float("nan"), float("inf"), -3.2, 0.0]),
    "bool": pa.array([True, None, False, True, False, True]),
    "date32[day]": pa.array([dt.date(1969, 12, 31), None, dt.date(2024, 2, 29)]),
    "date64[ms]": pa.array([dt.date(1969, 12, 31), None], pa.date64()),
    "timestamp[us, tz=Europe/Berlin]": pa.array(
        [dt.datetime(2024, 5, 17, 3, tzinfo=dt.UTC), None], pa.timestamp("us", tz="Europe/Berlin")
    ),
    "timestamp[ns]": pa.array([dt.datetime(1969, 5, 17, 3), None], pa.timestamp("ns")),  # noqa: DTZ001
    **{
        str(kind): pa.array([0, None, 3, 99], kind)
        for kind in (pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32())
    },
    "float": pa.array([1.5, None, float("nan"), -0.5], pa.float32()),
    **{
        type_text(pa.timestamp(unit)): pa.array([-1, None, 10**9], pa.timestamp(unit))
        for unit in ("s", "ms", "us")
    },
    "decimal128(9, 2)": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
    "time32[s]": pa.array([1, None], pa.time32("s")),
    "time64[us]": pa.array([1, None], pa.time64("us")),
    "duration[us]": pa.array([1, None], pa.duration("us")),
    "fixed_size_binary[2]": pa.array([b"xy", None], pa.binary(2)),
    "binary": pa.array([b"x", None]),
    "struct<a: int64>": pa.array([{"a": 1}, None]),
    "map<string, int64>": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "fixed_size_list<float>[2]": pa.array([[1, 2], None], pa.list_(pa.float32(), 2)),
    "list<item: int64>": pa.array([[1], None]),
}
PAIRS = [
    (name if name != "x-bucket" else "x-bucket:10", kind)
    for name in mask_names()
    if name != "x-drop"
    for kind in COLUMNS
]


@pytest.mark.parametrize(("mask", "kind"), PAIRS)
def test_a_mask_keeps_type_length_and_null_or_refuses_the_type(mask: str, kind: str) -> None:
    column = COLUMNS[kind]
    assert type_text(column.type) == kind
    if not applies_to(mask, kind):
        with pytest.raises(InvalidInput):
            masked(column, mask, KEYS)
        return
    for piece in (column, column.slice(1), column.slice(0, 0)):
        result = masked(piece, mask, KEYS)
        result.validate(full=True)
        assert result.type == piece.type
        assert len(result) == len(piece)
        nulls = pa.nulls(len(piece)) if mask == "replace-with-null" else piece
        assert result.is_null().equals(nulls.is_null())


def test_an_unknown_mask_and_a_dropped_column_are_refused() -> None:
    for mask in ("rot13", "x-drop", "x-bucket", "x-bucket:0"):
        with pytest.raises(InvalidInput):
            masked(COLUMNS["int64"], mask, KEYS)


def values(mask: str, column: Any) -> list[Any]:
    return list(masked(column, mask, KEYS).to_pylist())


def test_masks_show_what_the_page_says() -> None:
    text = pa.array(["Ada-1 Ü", "abcd", "abcdefg", None])
    assert values("mask-alphanum", text) == ["xxx-n x", "xxxx", "xxxxxxx", None]
    assert values("show-first-4", text) == ["Ada-xxx", "xxxx", "abcdxxx", None]
    assert values("show-last-4", text) == ["xxx-1 Ü", "xxxx", "xxxdefg", None]
    assert values("mask-to-fixed-value", text) == ["masked"] * 3 + [None]
    assert values("sha-256-global", text)[1] == hashlib.sha256(b"abcd").hexdigest()
    days = pa.array([dt.date(2024, 5, 17), dt.date(1969, 3, 2)])
    assert values("truncate-to-year", days) == [dt.date(2024, 1, 1), dt.date(1969, 1, 1)]
    assert values("truncate-to-month", days) == [dt.date(2024, 5, 1), dt.date(1969, 3, 1)]


def test_buckets_round_down_and_never_wrap_around() -> None:
    assert values("x-bucket:10", pa.array([-1, 0, 19, None])) == [-10, 0, 10, None]
    assert values("x-bucket:1000", pa.array([-5, 5, 127], pa.int8())) == [-128, 0, 0]
    least = -(2**63)
    assert values("x-bucket:10", pa.array([least, least + 9]))[0] == least
    assert values("x-bucket:10", pa.array([2**64 - 1], pa.uint64())) == [(2**64 - 1) // 10 * 10]
    assert values("x-bucket:5", pa.array([-0.1, 12.5])) == [-5.0, 10.0]


def test_pseudonyms_join_within_a_recipient_and_nowhere_else() -> None:
    others = MaskKeys.of(bytes(32), "plan")
    for column in (pa.array(["p1", "p2", "p1"]), pa.array([1, 2, 1])):
        mine = values("x-hmac-tenant", column)
        assert mine[0] == mine[2] != mine[1]
        assert not set(mine) & set(masked(column, "x-hmac-tenant", others).to_pylist())
    next_plan = MaskKeys.of(bytes(range(32)), "other plan")
    text = pa.array(["p1"])
    assert masked(text, "x-hmac-tenant", next_plan).to_pylist() == values("x-hmac-tenant", text)
    local = masked(text, "sha-256-query-local", next_plan).to_pylist()
    assert local != values("sha-256-query-local", text)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(1, 10**12))
def test_a_bucket_is_the_greatest_multiple_that_fits(numbers: list[int], width: int) -> None:
    result = values(f"x-bucket:{width}", pa.array(numbers, pa.int64()))
    for number, bucket in zip(numbers, result, strict=True):
        floor = number // width * width
        assert bucket == max(floor, -(2**63))


@given(st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=20))
def test_text_masks_show_at_most_four_characters(texts: list[str | None]) -> None:
    column = pa.array(texts, pa.string())
    for mask, shown in (("show-first-4", slice(None, 4)), ("show-last-4", slice(-4, None))):
        for before, after in zip(texts, values(mask, column), strict=True):
            if before is None:
                assert after is None
                continue
            rest = list(after)
            kept = rest[shown]
            del rest[shown]
            assert len(after) == len(before)
            assert kept == (list(before)[shown] if len(before) > 4 else ["x"] * len(before))
            assert set(rest) <= {"x"}
