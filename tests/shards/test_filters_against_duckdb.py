"""Row filters pass the rows that DuckDB, told the same in SQL, passes: 2,000 random ones.

`--long` tries 100,000. The translation lives here and nowhere else: no filter of the gateway
ever becomes SQL. Where DuckDB means something else (NaN is its greatest number), the
translation says what we mean: NaN is as unknown as NULL.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from gateway.domain.dataset import Column
from gateway.domain.rowfilter import bind, check_shape, check_types
from gateway.shards.rowfilters import passing
from gateway.shards.types import type_text

Tree = tuple[Any, ...]
ROWS = 64
OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
INJECTIONS = (
    "' OR 1=1 --", "'; DROP TABLE t; --", '"s" is not null', "FR') or ('1'='1", "%", "_", "\\",
    "null", "${subject.region}", ":subject.region", "FR\x00", "\u202eRF", "FR ", "fr",
)  # fmt: skip
TEXTS = ("", "FR", "DE", "é", "e\u0301", "z", "Z", "😀", *INJECTIONS)
WHOLE = (-(2**63), -129, -128, -1, 0, 1, 7, 127, 128, 255, 2**31, 2**53 + 1, 2**63 - 1)
REAL = ("-1e300", "-1.5", "-0.0", "0", "0.1", "0.5", "1.5", "3", "9007199254740993", "1e300")
MONEY = ("-9.99", "-0.01", "0", "0.00", "0.01", "1.5", "1.50", "1.505", "9.99", "100000000")
DAYS = ("1582-10-15", "1969-12-31", "1970-01-01", "2024-02-29", "2262-04-12", "9999-12-31")
MOMENTS = (
    "1969-12-31T23:59:59.999999", "1970-01-01T00:00:00", "2024-02-29T12:00:00.5",
    "2024-03-31T02:30:00", "2200-01-01T00:00:00",
)  # fmt: skip
ZONES = ("+00:00", "+05:30", "-08:00")


def table() -> Any:
    """Every kind of column, with NULL, NaN, the ends of its type and values that repeat."""
    chance = random.Random(1)

    def column(values: Any, kind: Any) -> Any:
        pool = [*values, None]
        return pa.array([chance.choice(pool) for _ in range(ROWS)], kind)

    real = [float(x) for x in REAL]
    moments = [dt.datetime.fromisoformat(m) for m in MOMENTS]
    utc = [m.replace(tzinfo=dt.UTC) for m in moments]
    return pa.record_batch(
        {
            "s": column(TEXTS, pa.string()),
            "i8": column([n for n in WHOLE if -128 <= n < 128], pa.int8()),
            "i64": column(WHOLE, pa.int64()),
            "u64": column([*(n for n in WHOLE if n >= 0), 2**64 - 1], pa.uint64()),
            "f32": column([*(np.float32(x) for x in real[1:9]), np.float32("nan")], pa.float32()),
            "f64": column([*real, float("nan"), float("inf"), float("-inf")], pa.float64()),
            "b": column([True, False], pa.bool_()),
            "m": column([Decimal(x) for x in MONEY if x != "1.505"], pa.decimal128(14, 2)),
            "d": column([dt.date.fromisoformat(d) for d in DAYS], pa.date32()),
            "t": column(utc, pa.timestamp("us", tz="Europe/Berlin")),
            "n": column(moments, pa.timestamp("us")),
        }
    )


BATCH = table()
COLUMNS = [
    Column(field_id=n, name=f.name, type=type_text(f.type)) for n, f in enumerate(BATCH.schema, 1)
]


def literal(chance: random.Random, column: str) -> Tree:
    if column == "s":
        return ("str", chance.choice(TEXTS))
    if column in ("i8", "i64", "u64"):
        return ("int", chance.choice(WHOLE))
    if column in ("f32", "f64"):
        return chance.choice([("float", chance.choice(REAL)), ("dec", chance.choice(MONEY)),
                              ("int", chance.choice(WHOLE))])  # fmt: skip
    if column == "m":
        return chance.choice([("dec", chance.choice(MONEY)), ("int", chance.choice(WHOLE))])
    if column == "d":
        return ("ts", chance.choice(DAYS))
    return ("ts", chance.choice(MOMENTS) + (chance.choice(ZONES) if column == "t" else ""))


def tree(chance: random.Random, depth: int = 4) -> Tree:
    shape = chance.random()
    if depth and shape < 0.15:
        return ("not", tree(chance, depth - 1))
    if depth and shape < 0.5:
        parts = [tree(chance, depth - 1) for _ in range(chance.randint(1, 3))]
        return (chance.choice(("and", "or")), *parts)
    column = chance.choice(BATCH.schema.names)
    if shape < 0.6:
        return ("null", column)
    if column == "b":
        return ("cmp", chance.choice(("==", "!=")), "b", ("bool", chance.random() < 0.5))
    if shape < 0.75:
        several = [literal(chance, column) for _ in range(chance.randint(0, 4))]
        return ("in", column, tuple(several))
    return ("cmp", chance.choice(OPERATORS), column, literal(chance, column))


SIDES = {
    "s": ('"s"', "?::VARCHAR"),
    "b": ('"b"', "?::BOOLEAN"),
    "d": ('"d"', "?::DATE"),
    "t": ('"t"', "?::TIMESTAMPTZ"),
    "n": ('"n"', "?::TIMESTAMP"),
    "m": ('"m"::DECIMAL(38, 4)', "?::DECIMAL(38, 4)"),
    **{name: (f'"{name}"::HUGEINT', "?::HUGEINT") for name in ("i8", "i64", "u64")},
    **{
        name: (f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}"::DOUBLE END', "?::DOUBLE")
        for name in ("f32", "f64")
    },
}


def sql(node: Tree, values: list[Any]) -> str:
    """The tree as SQL text with `?` for every value, which is appended to `values`."""
    kind = node[0]
    if kind in ("and", "or"):
        return "(" + f" {kind} ".join(sql(part, values) for part in node[1:]) + ")"
    if kind == "not":
        return f"(NOT {sql(node[1], values)})"
    if kind == "null":
        return f'("{node[1]}" IS NULL)'
    column, literals = (node[2], [node[3]]) if kind == "cmp" else (node[1], list(node[2]))
    values += [str(each[1]) if each[0] != "bool" else each[1] for each in literals]
    left, right = SIDES[column]
    if kind == "cmp":
        return f"({left} {'=' if node[1] == '==' else node[1]} {right})"
    return f"({left} IN ({', '.join([right] * len(literals))}))" if literals else "(false)"


@pytest.fixture(scope="module")
def oracle() -> Iterator[Any]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        known = pa.Table.from_batches([BATCH]).append_column("row", pa.array(range(ROWS)))
        connection.register("given", known)
        connection.execute("CREATE TABLE t AS SELECT * FROM given")
        yield connection


def by_duckdb(oracle: Any, node: Tree) -> list[int]:
    values: list[Any] = []
    text = sql(node, values)
    found = oracle.execute(f"SELECT row FROM t WHERE {text} ORDER BY row", values).fetchall()  # noqa: S608 - values are bound
    return [row for (row,) in found]


def by_gateway(node: Tree) -> list[int]:
    check_shape(node)
    check_types(node, COLUMNS)
    return [n for n, passes in enumerate(passing(node, BATCH).to_pylist()) if passes]


def test_random_filters_pass_the_rows_that_duckdb_passes(
    oracle: Any, pytestconfig: pytest.Config
) -> None:
    count = 100_000 if pytestconfig.getoption("--long") else 2000
    some = 0
    for seed in range(count):
        node = tree(random.Random(seed))
        expected = by_duckdb(oracle, node)
        assert by_gateway(node) == expected, f"seed {seed}: {node}"
        some += 0 < len(expected) < ROWS
    assert some > count / 2  # else the filters would ask nothing


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_a_subject_is_called_is_compared_and_never_read(oracle: Any, text: str) -> None:
    for node in (
        ("cmp", "==", "s", ("bind", "subject.region")),
        ("not", ("in", "s", (("bind", "subject.region"), ("str", "DE")))),
    ):
        bound = bind(node, {"subject.region": text})
        assert by_gateway(bound) == by_duckdb(oracle, bound)
        exact = [n for n, s in enumerate(BATCH.column("s").to_pylist()) if s == text]
        if node[0] == "cmp":
            assert by_gateway(bound) == exact
