"""The allow-list against statements from a grammar: honest ones pass, poisoned ones never do."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from gateway.errors import InvalidInput, TooLarge
from gateway.lineage import sandbox
from tests.lineage.grammar import POISON, Grammar
from tests.lineage.test_sandbox import SECRET, judge, listing

SEEDS, SEEDS_LONG = 120, 5_000
PLACES = 6  # of each statement in CI; --long takes all


@pytest.fixture(scope="module")
def parser() -> duckdb.DuckDBPyConnection:
    return sandbox.open_database("512MB")


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    return range(SEEDS_LONG if request.config.getoption("--long") else SEEDS)


def test_an_honest_statement_passes(parser: duckdb.DuckDBPyConnection, seeds: range) -> None:
    for seed in seeds:
        judge(parser, Grammar(seed).statement())


def test_a_statement_with_one_forbidden_thing_anywhere_never_passes(
    parser: duckdb.DuckDBPyConnection, seeds: range
) -> None:
    most = PLACES if len(seeds) == SEEDS else len(seeds)
    kinds: Counter[str] = Counter()
    parsed = 0
    for seed in seeds:
        honest = Grammar(seed)
        honest.statement()
        places = range(honest.places)
        for place in random.Random(seed).sample(places, min(most, len(places))):
            poisoned = Grammar(seed, poison=place)
            sql = poisoned.statement()
            try:
                judge(parser, sql)
            except (InvalidInput, TooLarge):
                kinds[poisoned.kind] += 1
                parsed += _is_parsed(parser, sql)
            else:
                pytest.fail(f"seed {seed}, place {place}: {sql}")
    assert set(kinds) == set(POISON)
    assert parsed > 0.6 * sum(kinds.values())  # refused by the list, not by a slip of the grammar


def _is_parsed(parser: duckdb.DuckDBPyConnection, sql: str) -> bool:
    (row,) = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    return json.loads(row[0])["error"] is False


def test_even_past_the_allow_list_the_database_gives_nothing_and_writes_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret.csv").write_text(f"a\n{SECRET}\n")
    before = listing(tmp_path)
    with sandbox.open_database("256MB") as connection:
        connection.execute("CREATE TABLE read(rows BIGINT, time TIMESTAMP, purpose VARCHAR)")
        for seed in range(150):
            sql = Grammar(seed, poison=seed % 5).statement()
            if "sleep" in sql:
                continue
            sql = sql.replace("/etc/passwd", str(tmp_path / "secret.csv"))
            assert SECRET not in _found(connection, sql.replace("/prey", str(tmp_path)))
    assert listing(tmp_path) == before


def _found(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    clock = threading.Timer(2, connection.interrupt)
    clock.start()
    try:
        return str(connection.execute(sql).fetchall())
    except (duckdb.Error, ValueError, RuntimeError):
        return ""
    finally:
        clock.cancel()
