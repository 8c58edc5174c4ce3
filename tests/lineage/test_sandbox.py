"""An auditor's SQL is hostile: what it may not do, in three walls; then what it may."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from gateway.errors import GatewayError, InvalidInput, LimitExceeded, TooLarge
from gateway.lineage import guard, query, sandbox
from gateway.lineage.projection import Projection
from gateway.lineage.query import Query, SandboxPool
from gateway.lineage.views import AUDITOR_VIEWS
from gateway.process import confine
from tests.lineage.attacks import ALLOWED, EXHAUSTING, FORBIDDEN
from tests.lineage.history import clinic_and_startup

SECRET = "the canary sings"
WALL = 60.0  # the machine may be busy


@pytest.fixture(scope="module")
def parser() -> duckdb.DuckDBPyConnection:
    return sandbox.open_database("512MB")


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projection]:
    made = Projection(tmp_path_factory.mktemp("lineage"), b"k" * 32)
    history = clinic_and_startup()
    grant = history.decide("startup/ml", "rival/xray", purpose="rivals-own", run="rival-run")
    history.read(history.lease(grant), [0], 999)
    made.append(history.pairs())
    yield made
    made.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    made = SandboxPool(wall_seconds_max=WALL)
    yield made
    made.close()


@pytest.fixture
def prey(tmp_path: Path) -> Path:
    """A directory with what an attacker wants to read or overwrite."""
    (tmp_path / "secret.csv").write_text(f"a\n{SECRET}\n")
    with duckdb.connect(str(tmp_path / "lineage.duckdb")) as connection:
        connection.execute("CREATE TABLE event AS SELECT 1 AS idx")
    return tmp_path


def judge(parser: duckdb.DuckDBPyConnection, sql: str) -> guard.Needs:
    """What the child and the lineage process do together with a statement."""
    if len(sql) > guard.SQL_CHARS_MAX:
        raise TooLarge("too long")
    try:
        rows = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    except (duckdb.Error, ValueError) as cause:
        raise InvalidInput(str(cause)) from cause
    return guard.check(rows[0][0].encode(), frozenset(AUDITOR_VIEWS))


def listing(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


@pytest.mark.parametrize("sql", FORBIDDEN, ids=lambda sql: sql[:60])
def test_the_allow_list_refuses(parser: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises((InvalidInput, TooLarge)):
        judge(parser, sql)


_HEAD, _END = b'{"error": false, "statements": [{"node": ', b', "named_param_map": []}]}'
_FORGED = (
    b"", b"[]", b"null", b"{", b"[" * 100_000, b" " * (guard.TREE_BYTES_MAX + 1),
    b'{"error": false}', b'{"error": false, "statements": []}', b'{"error": 0, "statements": [{}]}',
    _HEAD + b'{"type": "COPY_QUERY_NODE"}' + _END,
    _HEAD + b'{"type": "SELECT_NODE", "x": {"type": "PIVOT"}}' + _END,
    _HEAD + b'{"type": "SELECT_NODE", "x": {"class": []}}' + _END,
    _HEAD + b'{"type": "SELECT_NODE", "x": {"type": "BASE_TABLE"}}' + _END,
    _HEAD + b'{"type": "SELECT_NODE", "cte_map": {"map": [1]}}' + _END,
    _HEAD + b'{"type": "SELECT_NODE", "a": ' * 900 + b"1" + b"}" * 900 + _END,
)  # fmt: skip


@pytest.mark.parametrize("tree", _FORGED, ids=range(len(_FORGED)))
def test_a_forged_tree_of_a_captured_child_is_refused(tree: bytes) -> None:
    with pytest.raises(InvalidInput):
        guard.check(tree, frozenset(AUDITOR_VIEWS))


@pytest.mark.parametrize("sql", FORBIDDEN, ids=lambda sql: sql[:60])
def test_without_the_allow_list_nothing_is_read_or_written(prey: Path, sql: str) -> None:
    if "sleep" in sql or "000000000" in sql:
        pytest.skip("stopped by the wall clock, not by the database")
    if "/fd/" in sql:
        pytest.skip("of the child's own copy (test_copies.py); here it would be a file of ours")
    before = listing(prey)
    with sandbox.open_database("512MB") as connection:
        connection.execute("CREATE TABLE read(rows BIGINT); CREATE TABLE lease(a INT)")
        clock = threading.Timer(2, connection.interrupt)
        clock.start()
        try:
            found = str(connection.execute(sql.format(dir=prey)).fetchall())
        except (duckdb.Error, ValueError, KeyError, IndexError, RuntimeError, AttributeError):
            found = ""
        finally:
            clock.cancel()
    assert SECRET not in found
    assert listing(prey) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM read_text('/etc/passwd')", "not a table function"),
        ("COPY (SELECT 1) TO '/tmp/out'", "Only SELECT"),
        ("SELECT nothing FROM read", "does not run"),
        ("SELECT 1 +", "not a SELECT"),
        ("", "no statement"),
        ("   ", "no statement"),
    ],
)
def test_a_refusal_says_what_is_wrong(
    pool: SandboxPool, projection: Projection, sql: str, said: str
) -> None:
    with projection.reading() as cursor, pytest.raises(InvalidInput, match=said):
        pool.run(Query(sql=sql, tenant="clinic"), cursor)


@pytest.mark.parametrize("sql", EXHAUSTING, ids=lambda sql: sql[:60])
def test_a_statement_that_would_exhaust_the_machine_is_ended(
    projection: Projection, sql: str
) -> None:
    pool = SandboxPool(wall_seconds_max=1.0)
    pool.prepare()
    begin = time.monotonic()
    with projection.reading() as cursor, pytest.raises((LimitExceeded, InvalidInput, TooLarge)):
        pool.run(Query(sql=sql, tenant="clinic"), cursor)
    assert time.monotonic() - begin < 60  # each would run for hours
    pool.close()


def test_a_result_is_cut_at_its_rows_and_refused_over_its_bytes(
    pool: SandboxPool, projection: Projection
) -> None:
    with projection.reading() as cursor:
        result = pool.run(Query(sql="SELECT * FROM range(100000)", tenant="clinic"), cursor)
        assert (result.rows, result.is_truncated) == (query.ROWS_MAX, True)
        with pytest.raises(TooLarge):
            pool.run(
                Query(sql="SELECT string_agg(range, ',') FROM range(3000000)", tenant="clinic"),
                cursor,
            )


def test_the_child_cannot_write_connect_or_see_others(tmp_path: Path) -> None:
    probe = """
import json, os, resource, socket, sys
from gateway.process import confine
from gateway.lineage.query import _CONFINEMENT
confine.apply(_CONFINEMENT)
tried = {}
def attempt(name, act):
    try: act(); tried[name] = "worked"
    except OSError: tried[name] = "refused"
attempt("write", lambda: open(sys.argv[1] + "/out", "w").write("x"))
attempt("read", lambda: open(sys.argv[1] + "/secret").read())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1))
print(json.dumps(tried))
"""
    (tmp_path / "secret").write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        run = subprocess.run(
            [sys.executable, "-c", probe, str(tmp_path), str(server.getsockname()[1])],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
    tried = json.loads(run.stdout)
    assert tried["write"] == "refused"
    assert (tmp_path / "out").read_text() == "" if (tmp_path / "out").exists() else True
    if not confine.missing():
        assert tried == {"write": "refused", "read": "refused", "connect": "refused"}


@pytest.mark.parametrize("tenant", ["startup", "clinic", "rival", "stranger"])
def test_only_rows_of_the_tenants_own_side_are_loaded(projection: Projection, tenant: str) -> None:
    with projection.reading() as cursor:
        for view in AUDITOR_VIEWS:
            payload = query.load(Query(sql="", tenant=tenant), view, cursor)
            text = str(pa.ipc.open_stream(payload).read_all().to_pylist())
            if tenant in ("clinic", "stranger"):
                assert "rivals-own" not in text
                assert "rival-run" not in text
            if tenant != "clinic":
                assert "secret-rule" not in text


@pytest.mark.parametrize("tenant", ["startup", "clinic"])
def test_who_answered_a_request_is_the_owners_to_know(projection: Projection, tenant: str) -> None:
    with projection.reading() as cursor:
        payload = query.load(Query(sql="", tenant=tenant), "request", cursor)
        (row,) = pa.ipc.open_stream(payload).read_all().to_pylist()
    assert (row["answer"], row["actor_tenant"], row["columns"]) == (
        "approve", "startup", ["age", "hr"],
    )  # fmt: skip
    assert (row["answered_by_tag"] is not None) == (tenant == "clinic")


@pytest.mark.parametrize("sql", ALLOWED)
def test_ordinary_analysis_passes(projection: Projection, sql: str) -> None:
    with sandbox.open_database("512MB") as connection, projection.reading() as cursor:
        needs = judge(connection, sql)
        for view in needs.views:
            payload = query.load(Query(sql="", tenant="clinic"), view, cursor, needs.words)
            connection.register("incoming", pa.ipc.open_stream(payload).read_all())
            connection.execute(f'CREATE TABLE "{view}" AS SELECT * FROM incoming')  # noqa: S608
            connection.unregister("incoming")
        connection.sql(sql).fetchall()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT purpose, sum(rows) FROM read r WHERE r.run = 'x'",
         {"purpose", "rows", "r", "run"}),
        ("SELECT count(*) FROM read JOIN lease USING (lease)", {"lease"}),
        ("SELECT * FROM read", None),
        ("SELECT r FROM read r", None),
        ("SELECT READ FROM read", None),
        ("SELECT #1 FROM read", None),
        ("SELECT a FROM read t(a)", None),
        ("SELECT rows FROM read NATURAL JOIN lease", None),
    ],
)  # fmt: skip
def test_only_columns_that_the_statement_can_name_are_loaded(
    parser: duckdb.DuckDBPyConnection, sql: str, words: set[str] | None
) -> None:
    needs = judge(parser, sql)
    assert needs.words == (None if words is None else frozenset(words))


def test_an_answer_comes_as_json_or_arrow(pool: SandboxPool, projection: Projection) -> None:
    sql = "SELECT purpose, sum(rows) AS n, max(time) AS last FROM read GROUP BY 1"
    with projection.reading() as cursor:
        as_json = pool.run(Query(sql=sql, tenant="clinic"), cursor)
        as_arrow = pool.run(Query(sql=sql, tenant="clinic", form="arrow"), cursor)
        narrowed = pool.run(Query(sql="SELECT count(*) FROM read", tenant="rival"), cursor)
    assert json.loads(as_json.payload)[0][:2] == ["health-research", 350]
    table = pa.ipc.open_stream(pa.py_buffer(as_arrow.payload)).read_all()
    assert table.column("n").to_pylist() == [350]
    assert json.loads(narrowed.payload) == [[1]]
    assert [c["name"] for c in as_json.columns] == ["purpose", "n", "last"]


def test_a_child_is_used_once(pool: SandboxPool) -> None:
    pool.prepare()
    with pool._child() as child:
        process = child.process
        with pytest.raises(GatewayError):
            query._expect(query._call(child.channel, "parse", sql="SELECT 1"), "answer")
    assert process.wait(20) == -signal.SIGKILL
    assert pool._spares == []
