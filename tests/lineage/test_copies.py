"""A shared copy of a tenant's rows answers as loading them does, and nobody can change it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from gateway.lineage import copies, query, sandbox
from gateway.lineage.copies import Copies, Copy
from gateway.lineage.projection import Projection
from gateway.lineage.query import Query, SandboxPool
from gateway.lineage.views import AUDITOR_VIEWS
from gateway.process.channel import Message
from tests.lineage.history import History, clinic_and_startup
from tests.lineage.known import Known
from tests.lineage.test_expiry import LATER, MONTH

KEY = b"k" * 32
Rows = list[str]


@pytest.fixture(scope="module")
def history() -> History:
    """Many days of three tenants, and one of each event that says something of an earlier one."""
    told = Known().history
    clinic_and_startup(told)
    return told


@pytest.fixture
def kept(history: History, tmp_path: Path) -> Iterator[tuple[Projection, Copies]]:
    projection = Projection(tmp_path, KEY)
    projection.append(history.pairs())
    made = Copies(projection)
    projection.taken_away = made.clear
    yield projection, made
    made.close()
    projection.close()


@contextmanager
def lent(projection: Projection, made: Copies, tenant: str) -> Iterator[Copy | None]:
    with projection.reading() as source, made.lent(tenant, source) as copy:
        yield copy


def rows_of(database: duckdb.DuckDBPyConnection) -> dict[str, Rows]:
    return {
        view: sorted(map(str, database.execute(f'SELECT * FROM "{view}"').fetchall()))  # noqa: S608
        for view in AUDITOR_VIEWS
    }


def loaded(projection: Projection, tenant: str) -> dict[str, Rows]:
    """As a child without a copy has them."""
    with projection.reading() as source, duckdb.connect() as database:
        for view in AUDITOR_VIEWS:
            payload = query.load(Query(sql="", tenant=tenant), view, source)
            sandbox._load(database, Message("load", {"view": view}, payload))
        return rows_of(database)


def onto_copy(projection: Projection, copy: Copy, tenant: str) -> dict[str, Rows]:
    """As a child with a copy has them."""
    with projection.reading() as source, duckdb.connect() as database:
        database.execute(f"ATTACH '/proc/self/fd/{copy.descriptor}' AS copied (READ_ONLY)")
        for view in AUDITOR_VIEWS:
            payload, onto = query.load_later(Query(sql="", tenant=tenant), view, source, copy)
            sandbox._load(database, Message("load", {"view": view, "onto": onto}, payload))
        return rows_of(database)


def hold(made: Copies, tenant: str) -> Copy:
    made.make(tenant)
    return made._copies[tenant]


@pytest.mark.parametrize("tenant", ["clinic", "startup"])
def test_a_copy_and_what_came_later_are_all_rows_and_no_row_twice(
    history: History, tmp_path: Path, tenant: str, request: pytest.FixtureRequest
) -> None:
    events, changed = history.pairs(), set()
    end, draw = len(events), random.Random(tenant)
    drawn = draw.sample(range(end), 20 if request.config.getoption("--long") else 1)
    projection = Projection(tmp_path, KEY)
    copies_of_then: list[Copy] = []
    for cut in sorted({*drawn, end - 30, end - 12, end}):
        projection.append(events[:cut])
        whole = loaded(projection, tenant)
        for copy in copies_of_then:
            assert onto_copy(projection, copy, tenant) == whole, (copy.projected, cut)
        copies_of_then.append(Copies(projection)._made(tenant))
        changed |= {view for view, rows in whole.items() if rows}
    assert changed >= {"read", "grant", "lease", "request", "decision"}
    for copy in copies_of_then:
        os.close(copy.descriptor)
    projection.close()


def test_every_view_says_which_tables_bring_it_rows() -> None:
    assert set(copies._ROWS_FROM) == set(AUDITOR_VIEWS)


def test_a_child_with_a_copy_answers_and_cannot_change_it(
    kept: tuple[Projection, Copies],
) -> None:
    projection, made = kept
    copy, pool = hold(made, "clinic"), SandboxPool(wall_seconds_max=60)
    before = os.pread(copy.descriptor, copy.size, 0)
    place = f"/proc/self/fd/{sandbox.COPY_DESCRIPTOR}"
    for sql in (  # what the allow-list would refuse, straight to the child
        f"COPY (SELECT 42) TO '{place}' (USE_TMP_FILE false)",
        f"COPY (SELECT 42) TO '{place}.wal'",
        "INSERT INTO copied.question SELECT * FROM copied.question",
        "DROP TABLE copied.question",
        "SELECT size FROM read_blob('/proc/self/fd/0')",
    ):
        with pool._child() as child:
            assert query._attach(child.channel, copy)
            reply = query._call(
                child.channel, "run", sql=sql, form="json", rows_max=9, bytes_max=99
            )
            assert reply.kind == "refused", sql
    assert os.pread(copy.descriptor, copy.size + 1, 0) == before
    with pytest.raises(PermissionError):
        os.pwrite(copy.descriptor, b"x", 0)
    with projection.reading() as source:
        sql = "SELECT purpose, count(*) AS n, sum(rows) AS r FROM read GROUP BY 1 ORDER BY 1"
        asked = Query(sql=sql, tenant="clinic")
        with_copy = pool.run(asked, source, copy)
        without = pool.run(asked, source)
    assert bytes(with_copy.payload) == bytes(without.payload)
    assert (with_copy.loaded, without.loaded > 0) == (0, True)
    pool.close()


def test_rows_that_expired_or_were_built_anew_are_in_no_copy(tmp_path: Path) -> None:
    told = clinic_and_startup()
    projection = Projection(tmp_path, KEY)
    projection.append(told.pairs())
    made = Copies(projection)
    hold(made, "clinic")
    told.clock += LATER
    told.add("MonthExpired", "clinic", tenant="clinic", month=MONTH)
    projection.append(told.pairs())
    with lent(projection, made, "clinic") as copy:
        assert copy is None  # even before it is let go of
    made._not_before.clear()
    hold(made, "clinic")
    with lent(projection, made, "clinic") as copy:
        assert copy is not None
    projection.rebuild("asked for")
    with lent(projection, made, "clinic") as copy:
        assert copy is None
    made.close()
    projection.close()


def test_what_is_taken_away_is_let_go_of_at_once(kept: tuple[Projection, Copies]) -> None:
    projection, made = kept
    descriptor = hold(made, "clinic").descriptor
    projection.rebuild("asked for")
    assert not made._copies
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_copy_is_its_tenants_alone(kept: tuple[Projection, Copies]) -> None:
    projection, made = kept
    hold(made, "clinic")
    for other in ("startup", "stranger"):
        with lent(projection, made, other) as copy:
            assert copy is None


def test_copies_are_few_and_whoever_asked_longest_ago_loads_again(
    kept: tuple[Projection, Copies], monkeypatch: pytest.MonkeyPatch
) -> None:
    projection, made = kept
    sizes = {name: hold(made, name).size for name in ("clinic", "startup", "lab")}
    monkeypatch.setattr(copies, "COPIES_BYTES_MAX", sizes["clinic"] + sizes["lab"])
    with lent(projection, made, "clinic"):
        pass
    made._not_before.clear()
    hold(made, "lab")
    assert list(made._copies) == ["clinic", "lab"]


def test_a_side_of_too_many_rows_has_no_copy_and_none_is_tried_at_once(
    kept: tuple[Projection, Copies], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made = kept
    assert made.is_worth("clinic", copies.WORTH_BYTES)
    assert not made.is_worth("clinic", copies.WORTH_BYTES - 1)
    monkeypatch.setattr(copies, "ROWS_MAX", 100)
    made.make("clinic")
    assert not made._copies
    assert not made.is_worth("clinic", copies.WORTH_BYTES)
    assert list(made._directory.iterdir()) == []
