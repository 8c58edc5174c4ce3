"""The row-filter tree: foreign shapes and types are refused; normal form keeps the meaning."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.access import digest_of
from gateway.domain.dataset import Column
from gateway.domain.rowfilter import (
    Filter,
    bind,
    binds_of,
    check_shape,
    check_types,
    columns_of,
    conjunction,
    literal_of,
    normal_form,
    text_of,
)
from gateway.errors import InvalidInput
from gateway.policy.documents import Place, Scalar
from gateway.policy.filters import parse_where
from gateway.policy.schema import default_schema

KINDS = {
    "i": "int64", "f": "double", "s": "string", "b": "bool", "d": "date32[day]",
    "z": "timestamp[us, tz=UTC]", "l": "timestamp[us]", "n": "decimal128(10, 2)",
    "t": "fixed_size_list<item: int32>[4]",
    "y": "dictionary<values=string, indices=int32, ordered=0>",
}  # fmt: skip
COLUMNS = [Column(field_id=n, name=k, type=v) for n, (k, v) in enumerate(KINDS.items(), 1)]


def parse(text: str) -> Filter:
    return parse_where(
        Scalar(text=text, place=Place("t"), plain=True, exact=True), default_schema()
    )


@pytest.mark.parametrize(
    "tree",
    [
        None, (), [], "x", ("and",), ("or",), ("not",), ("xor", ("null", "a")), ("cmp",),
        ("cmp", "=", "a", ("int", 1)), ("cmp", "==", 1, ("int", 1)), ("cmp", "==", "a", 1),
        ("cmp", "==", "a", ("int", True)), ("cmp", "==", "a", ("int", "1")),
        ("cmp", "==", "a", ("float", 1.0)), ("cmp", "==", "a", ("float", "nan")),
        ("cmp", "==", "a", ("dec", "1/2")), ("cmp", "==", "a", ("blob", "x")),
        ("in", "a", ["x"]), ("in", "a", (("str", 1),)), ("null", 1), ("null", "a", "b"),
        ("call", "read_text", "x"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused(tree: Any) -> None:
    with pytest.raises(InvalidInput):
        check_shape(tree)


def test_depth_and_size_are_bounded() -> None:
    deep: Filter = ("null", "a")
    for _ in range(40):
        deep = ("not", deep)
    with pytest.raises(InvalidInput):
        check_shape(deep)
    with pytest.raises(InvalidInput):
        check_shape(("in", "a", tuple(("int", n) for n in range(300))))


@pytest.mark.parametrize(
    "text",
    [
        "gone = 1", "i = '1'", "i = 1.5", "i = true", "s = 1", "b = 1", "b < true",
        "d = '2026-01-01'",
        "d = timestamp '2026-01-01T00:00:00Z'", "z = timestamp '2026-01-01T00:00:00'",
        "l = timestamp '2026-01-01T00:00:00Z'", "t = 1", "y = 1", "n = 'x'", "i in (1, 'x')",
        "i = 1 and gone is null",
    ],
)  # fmt: skip
def test_another_type_or_no_column_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_types(parse(text), COLUMNS)
    assert "2026" not in caught.value.message  # names only, never values


@pytest.mark.parametrize(
    "text",
    [
        "i = 1", "f > 1", "f > 1.5", "s >= 'a'", "b = true", "d < date '2026-01-01'", "t is null",
        "z < timestamp '2026-01-01T00:00:00+02:00'", "l < timestamp '2026-01-01T00:00:00'",
        "n <= 10.25", "n = 3", "y in ('a', 'b')", "i in ()", "not (i = 1 or s is not null)",
    ],
)  # fmt: skip
def test_what_can_be_compared_passes(text: str) -> None:
    check_types(parse(text), COLUMNS)


def test_attributes_are_bound_as_values_never_as_text() -> None:
    tree = parse("s = :subject.region and i in (1, 2)")
    assert binds_of(tree) == ("subject.region",)
    with pytest.raises(InvalidInput):
        bind(tree, {})
    with pytest.raises(InvalidInput):
        check_types(tree, COLUMNS)
    bound = bind(tree, {"subject.region": "x' or 'x' = 'x"})
    assert binds_of(bound) == ()
    assert ("cmp", "==", "s", ("str", "x' or 'x' = 'x")) in bound
    assert parse(text_of(bound)) == bound


NAIVE = datetime.fromisoformat("2026-01-01")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 2**63, b"x", [1], NAIVE])
def test_a_value_without_a_literal_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        literal_of(value)


def test_values_become_literals_of_their_own_type() -> None:
    assert literal_of(value=True) == ("bool", True)
    assert literal_of(1) == ("int", 1)
    assert literal_of(0.1) == ("float", "0.1")
    assert literal_of(Decimal("1E+2")) == ("dec", "100")
    assert literal_of(datetime(2026, 1, 1, tzinfo=UTC)) == ("ts", "2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "", "i", "i =", "= 1", "1 = 1", "i = 1 or", "i = s", "i = 1; drop table x", "i = 1 -- x",
        "i = 1 /* x */", "i = (select 1)", "read_text('x') = 'y'", "i = 1 union select 1",
        "lower(s) = 'x'", "s like 'a%'", "s ~ 'a'", "i + 1 = 2", "i = 1 = 1", "i in 1", "i in (1",
        "i not 1", "i is 1", "i between 1", "i between 1 or 2", "i = :region", "i = :subject.nope",
        "i = :subject.region.x", "i = $1", "i = ?", "s = 'it's'", "a.b = 1", "and = 1", "null = 1",
        "s = null", "exists (i)", "case when true then 1 end = 1", "i = 99999999999999999999",
        "i = 1e5", "i = nan", "i = 'x", 's = "x"', "i = current_user", "cast(i as text) = '1'",
        "i::text = '1'", "s = ' x'", "s = 'a\u200bb'", "(" * 40 + "i = 1" + ")" * 40,
        "not " * 40 + "i = 1", "i in (" + ",".join(["1"] * 300) + ")", "i = 1 " * 500, "ｉ = 1",
        "d = date '2026-13-01'", "d = date '2026-01-01T00:00'", "z = timestamp 'now'",
    ],
)  # fmt: skip
def test_text_that_is_no_row_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_normal_form_has_one_spelling() -> None:
    same = ["i = 1 and s = 'x'", "s = 'x' AND i == 1", "(i = 1) and (s = 'x' and i = 1)",
            "not not (i = 1) and s = 'x'"]  # fmt: skip
    assert len({digest_of(parse(text)) for text in same}) == 1
    assert parse("i in (2, 1, 2)") == ("in", "i", (("int", 1), ("int", 2)))
    assert conjunction([]) is None
    assert conjunction([parse("i = 1"), parse("i = 1")]) == parse("i = 1")
    assert columns_of(parse('"a b" = 1 or i is null')) == ("a b", "i")


LEAVES = st.one_of(
    st.tuples(
        st.just("cmp"), st.sampled_from(["==", "!=", "<", ">="]), st.sampled_from(["i", 'q"q']),
        st.integers(-5, 5).map(lambda n: ("int", n)),
    ),
    st.tuples(st.just("in"), st.just("i"),
              st.lists(st.integers(-3, 3).map(lambda n: ("int", n)), max_size=3).map(tuple)),
    st.tuples(st.just("null"), st.sampled_from(["i", 'q"q'])),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda t: ("not", t)),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner),
    ),
    max_leaves=10,
)
ROWS = st.fixed_dictionaries(dict.fromkeys(["i", 'q"q'], st.one_of(st.none(), st.integers(-5, 5))))


def truth(tree: Filter, row: dict[str, Any]) -> bool | None:
    """SQL's three values, written down once more and plainly."""
    if tree[0] == "null":
        return row[tree[1]] is None
    if tree[0] == "not":
        inner = truth(tree[1], row)
        return None if inner is None else not inner
    if tree[0] in ("and", "or"):
        parts = [truth(part, row) for part in tree[1:]]
        decisive = tree[0] == "or"
        return decisive if decisive in parts else None if None in parts else not decisive
    value = row[tree[2] if tree[0] == "cmp" else tree[1]]
    if tree[0] == "in":
        return False if not tree[2] else None if value is None else value in [x[1] for x in tree[2]]
    other = tree[3][1]
    if value is None:
        return None
    return {"==": value == other, "!=": value != other, "<": value < other, ">=": value >= other}[
        tree[1]
    ]


@given(TREES, ROWS)
def test_normal_form_and_text_keep_the_meaning(tree: Filter, row: dict[str, Any]) -> None:
    normal = normal_form(tree)
    assert truth(normal, row) is truth(tree, row)
    assert normal_form(normal) == normal
    if check_shape(normal) < 50:
        assert parse(text_of(normal)) == normal


@given(st.text(max_size=50))
def test_whatever_the_text_only_invalid_input_comes_out(text: str) -> None:
    try:
        check_shape(parse(text))
    except InvalidInput as error:
        assert error.advice  # noqa: PT017
