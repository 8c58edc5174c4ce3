"""Row filters: what is UNKNOWN is withheld, under every negation."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.shards.rowfilters import passing

BATCH = pa.record_batch(
    {
        "s": pa.array(["FR", "DE", None, "", "é"]),
        "i": pa.array([1, -128, None, 127, 0], pa.int8()),
        "u": pa.array([0, 2**64 - 1, None, 5, 6], pa.uint64()),
        "f": pa.array([0.5, float("nan"), None, float("-inf"), 2.0]),
        "b": pa.array([True, False, None, True, False]),
        "m": pa.array([Decimal("1.50"), Decimal("-2.00"), None, Decimal(0), Decimal("9.99")]),
        "d": pa.array([dt.date(2024, 1, 1), dt.date(1969, 1, 1), None, dt.date(2024, 1, 2), None]),
        "t": pa.array(
            [dt.datetime(2024, 1, 1, 0, 0, 1, tzinfo=dt.UTC), None, None, None, None],
            pa.timestamp("s", tz="Europe/Berlin"),
        ),
        "n": pa.array([dt.datetime(2024, 1, 1), None, None, None, None], pa.timestamp("ns")),  # noqa: DTZ001
    }
)


def rows(tree: tuple[Any, ...], batch: Any = BATCH) -> list[int]:
    result = passing(tree, batch)
    assert not result.null_count
    return [n for n, passes in enumerate(result.to_pylist()) if passes]


def test_rows_whose_answer_is_unknown_are_withheld_under_negation_too() -> None:
    for column, literal in (("s", ("str", "FR")), ("f", ("float", "0.5")), ("i", ("int", 1))):
        for tree in (("cmp", "==", column, literal), ("in", column, (literal,))):
            yes, no = rows(tree), rows(("not", tree))
            assert 2 not in yes + no  # NULL
            assert column != "f" or 1 not in yes + no  # NaN


def test_unknown_and_false_is_false_but_unknown_or_true_is_true() -> None:
    unknown, true = ("cmp", "==", "s", ("str", "x")), ("null", "s")
    assert rows(("or", unknown, true)) == [2]
    assert 2 in rows(("not", ("and", unknown, ("not", true))))
    assert rows(("and", unknown, true)) == []


def test_an_empty_list_holds_nothing() -> None:
    assert rows(("in", "s", ())) == []
    assert rows(("not", ("in", "s", ()))) == [0, 1, 2, 3, 4]


def test_literals_beyond_and_between_what_a_column_holds_compare_as_numbers() -> None:
    assert rows(("cmp", "<", "i", ("int", 1000))) == [0, 1, 3, 4]
    assert rows(("cmp", ">", "i", ("int", 1000))) == []
    assert rows(("cmp", "!=", "i", ("int", -1000))) == [0, 1, 3, 4]
    assert rows(("cmp", ">=", "u", ("int", -1))) == [0, 1, 3, 4]
    assert rows(("cmp", "==", "m", ("dec", "1.5"))) == [0]
    assert rows(("cmp", ">", "m", ("dec", "1.4999"))) == [0, 4]
    assert rows(("cmp", "<", "m", ("int", 0))) == [1]


def test_times_compare_exactly_whatever_the_unit() -> None:
    assert rows(("cmp", ">", "t", ("ts", "2024-01-01T00:00:00.5+00:00"))) == [0]
    assert rows(("cmp", "<", "t", ("ts", "2024-01-01T00:00:01.5+00:00"))) == [0]
    assert rows(("cmp", "==", "t", ("ts", "2024-01-01T00:00:01.5+00:00"))) == []
    assert rows(("cmp", "==", "t", ("ts", "2024-01-01T01:00:01+01:00"))) == [0]
    assert rows(("cmp", "<", "n", ("ts", "9999-01-01T00:00:00"))) == [0]
    assert rows(("cmp", "<=", "d", ("ts", "2024-01-01"))) == [0, 1]


@pytest.mark.parametrize(
    "tree",
    [
        ("cmp", "==", "absent", ("int", 1)),
        ("cmp", "==", "s", ("int", 1)),
        ("cmp", "==", "i", ("str", "1")),
        ("cmp", "==", "t", ("ts", "2024-01-01T00:00:00")),
        ("cmp", "==", "d", ("ts", "rubbish")),
        ("cmp", "==", "s", ("bind", "subject.region")),
        ("like", "s", ("str", "%")),
    ],
)
def test_a_filter_that_does_not_fit_is_refused_without_quoting_values(tree: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        passing(tree, BATCH)
    assert "FR" not in str(refusal.value)


def truth(tree: Any, row: dict[str, Any]) -> bool | None:
    """Three-valued oracle over plain Python values."""
    kind = tree[0]
    if kind == "not":
        inner = truth(tree[1], row)
        return None if inner is None else not inner
    if kind == "null":
        return row[tree[1]] is None
    if kind == "cmp":
        return compared(tree, row)
    parts = (
        [compared(("cmp", "==", tree[1], each), row) for each in tree[2]]
        if kind == "in"
        else [truth(part, row) for part in tree[1:]]
    )
    decisive = kind != "and"
    return decisive if decisive in parts else None if None in parts else not decisive


def compared(tree: Any, row: dict[str, Any]) -> bool | None:
    value, literal = row[tree[2]], tree[3][1]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    literal = float(literal) if tree[3][0] == "float" else literal
    return {
        "==": value == literal, "!=": value != literal, "<": value < literal,
        "<=": value <= literal, ">": value > literal, ">=": value >= literal,
    }[tree[1]]  # fmt: skip


LEAVES = st.one_of(
    st.tuples(st.just("null"), st.sampled_from("sif")),
    st.builds(
        lambda op, n: ("cmp", op, "i", ("int", n)),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.integers(-200, 200),
    ),
    st.builds(
        lambda op, x: ("cmp", op, "f", ("float", repr(x))),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.floats(-3, 3).map(lambda x: x + 0.0),
    ),
    st.builds(
        lambda words: ("in", "s", tuple(("str", w) for w in words)),
        st.lists(st.sampled_from(["a", "b", "", "é"]), max_size=3),
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.builds(lambda kind, parts: (kind, *parts), st.sampled_from(["and", "or"]),
                  st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "s": st.one_of(st.none(), st.sampled_from(["a", "b", "", "é", "z"])),
            "i": st.one_of(st.none(), st.integers(-128, 127)),
            "f": st.one_of(st.none(), st.floats(-3, 3), st.just(float("nan"))),
        }
    ),
    min_size=1,
    max_size=8,
)


@given(TREES, ROWS)
def test_arrow_agrees_with_three_valued_logic(tree: Any, table: list[dict[str, Any]]) -> None:
    schema = pa.schema([("s", pa.string()), ("i", pa.int8()), ("f", pa.float64())])
    batch = pa.RecordBatch.from_pylist(table, schema=schema)
    assert rows(tree, batch) == [n for n, row in enumerate(table) if truth(tree, row) is True]
