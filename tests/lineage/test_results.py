"""What leaves the sandbox is exact, or it is refused: JSON rounds nothing, Arrow wraps nothing."""

from __future__ import annotations

import json
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.lineage import results, sandbox
from tests.lineage.every_type import TYPES, selected

LARGE = 2**53 - 1  # the largest whole number that JSON answers carry
NOBODY = results.Shown(columns={}, names={})


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    return sandbox.open_database("512MB")


def taken(database: duckdb.DuckDBPyConnection, sql: str) -> results.Rows:
    return results.take(database.sql(sql), rows_max=100, bytes_max=1 << 20)


def arrow(rows: results.Rows, shown: results.Shown = NOBODY) -> pa.Table:
    return pa.ipc.open_stream(results.to_arrow(rows, shown)).read_all()


@pytest.mark.parametrize(
    "value",
    [
        f"{LARGE + 1}", f"-{LARGE + 1}", "9223372036854775807", "18446744073709551615::UBIGINT",
        f"[1, {LARGE + 1}]", f"{{'a': {{'b': {LARGE + 1}}}}}", f"MAP {{'k': {LARGE + 1}}}",
        f"{LARGE + 1}::DECIMAL(38, 2)", f"{LARGE + 1}::HUGEINT", "hash(1)",
        "DATE '12000-01-01'", "TIMESTAMP '12000-01-01'", "'infinity'::DATE",
    ],
)  # fmt: skip
def test_a_value_that_json_readers_would_change_is_refused_with_advice(
    database: duckdb.DuckDBPyConnection, value: str
) -> None:
    with pytest.raises(InvalidInput, match="column `n` holds a value") as refused:
        results.to_json(taken(database, f"SELECT 1 AS a, {value} AS n"))
    assert "VARCHAR" in refused.value.advice
    assert "Arrow" in refused.value.advice
    cast = results.to_json(taken(database, f"SELECT ({value})::VARCHAR AS n"))  # the advice holds
    assert isinstance(json.loads(cast)[0][0], str)


@pytest.mark.parametrize(
    "value", ["1::UHUGEINT", "[1::UHUGEINT]", "{'a': 1::UHUGEINT}", f"{2**127 - 1}::HUGEINT"]
)
def test_a_number_that_arrow_would_change_is_refused_and_not_wrapped(
    database: duckdb.DuckDBPyConnection, value: str
) -> None:
    with pytest.raises(InvalidInput):
        taken(database, f"SELECT {value} AS n")


@given(value=st.integers(-(2**126), 2**126))
def test_a_whole_number_comes_as_it_is_or_not_at_all(
    database: duckdb.DuckDBPyConnection, value: int
) -> None:
    rows = taken(database, f"SELECT {value}::HUGEINT AS n")
    assert arrow(rows).column("n").to_pylist() == [Decimal(value)]
    if abs(value) <= LARGE:
        assert json.loads(results.to_json(rows)) == [[value]]
    else:
        with pytest.raises(InvalidInput):
            results.to_json(rows)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_auditors_sql_comes_back_as_it_was(
    database: duckdb.DuckDBPyConnection, name: str
) -> None:
    _, kind, value, plain = TYPES[name]
    table = arrow(taken(database, selected(name)))
    assert (str(table.schema.field(name).type), table.column(name).to_pylist()) == (kind, [value])
    if plain is not Ellipsis:
        assert json.loads(results.to_json(taken(database, selected(name)))) == [[plain]]


def test_columns_of_one_name_are_told_apart(database: duckdb.DuckDBPyConnection) -> None:
    rows = taken(database, "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS b")
    assert arrow(rows).to_pydict() == {"a": [1], "a_2": [2], "a_1": [3], "a_3": [4], "b": [5]}


@given(names=st.lists(st.sampled_from(["a", "a_1", "a_2", "a_1_1", "b"]), max_size=12))
def test_made_up_names_take_the_place_of_none(names: list[str]) -> None:
    found = results.distinct(names)
    assert len(set(found)) == len(found) == len(names)
    for place, name in enumerate(names):
        if name not in names[:place]:
            assert found[place] == name


def test_names_stand_for_tags_only_in_columns_that_hold_tags(
    database: duckdb.DuckDBPyConnection,
) -> None:
    shown = results.Shown(
        columns={"subject_tag": "subject", "tags": "people"}, names={"aa": "clinic/ml"}
    )
    sql = "SELECT * FROM (VALUES ('aa', ['aa', 'bb', NULL], 'aa', 7), (NULL, NULL, 'bb', 8)) t"
    rows = taken(database, sql + "(subject_tag, tags, purpose, n)")
    assert arrow(rows, shown).to_pydict() == {
        "subject": ["clinic/ml", None],
        "people": [["clinic/ml", "bb", None], None],
        "purpose": ["aa", "bb"],
        "n": [7, 8],
    }
    both = arrow(taken(database, "SELECT 'aa' AS subject_tag, 1 AS subject"), shown)
    assert both.to_pydict() == {"subject_tag": ["clinic/ml"], "subject": [1]}


def test_an_answer_without_rows_has_its_types(database: duckdb.DuckDBPyConnection) -> None:
    rows = taken(database, "SELECT 1::SMALLINT AS n, 'x' AS t WHERE FALSE")
    assert [str(field.type) for field in arrow(rows).schema] == ["int16", "string"]
    assert json.loads(results.to_json(rows)) == []


def test_rows_are_cut_and_bytes_are_not(database: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT range AS n FROM range({})"
    cut = results.take(database.sql(sql.format(5000)), rows_max=2050, bytes_max=1 << 20)
    assert (cut.count, cut.is_truncated) == (2050, True)
    assert arrow(cut).column("n").to_pylist() == list(range(2050))
    whole = results.take(database.sql(sql.format(2050)), rows_max=2050, bytes_max=1 << 20)
    assert (whole.count, whole.is_truncated) == (2050, False)
    with pytest.raises(results.TooMuch):
        results.take(database.sql(sql.format(5000)), rows_max=9000, bytes_max=1 << 14)
