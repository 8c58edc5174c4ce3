"""The DuckDB file is never the truth: whatever is wrong with it, the journal wins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import IntegrityError
from gateway.lineage import rows, schema
from gateway.lineage.follow import Follower
from gateway.lineage.projection import Projection
from tests.lineage.history import COLUMNS, History, clinic_and_startup

KEY = b"k" * 32
FILE, SEAL = "lineage.duckdb", "lineage.seal"


def projected(directory: Path, history: History, stop: int | None = None) -> None:
    made = Projection(directory, KEY)
    made.append(history.pairs(made.projected, stop))
    made.close()


def dump(projection: Projection) -> dict[str, list[str]]:
    with projection.reading() as cursor:
        names = [r[0] for r in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {name: sorted(map(str, cursor.execute(f"FROM {name}").fetchall())) for name in names}


@pytest.fixture
def history() -> History:
    return clinic_and_startup()


def test_a_changed_dataset_is_a_row_without_its_text(tmp_path: Path, history: History) -> None:
    history.add(
        "DatasetUpdated", "clinic", "clinic", "clinic/owner",
        dataset="clinic/icu", dataset_id="clinic-icu", card_digest="ab" * 32,
        changed=["card", "owners"], owners=1,
    )  # fmt: skip
    history.add("DatasetSuspended", "clinic", dataset="clinic/icu", dataset_id="clinic-icu")
    projected(tmp_path, history)
    found = dump(Projection(tmp_path, KEY))
    (row,) = found["dataset_change"]
    assert "'card', 'owners'" in row
    assert any("suspended" in state for state in found["dataset_state"])


def test_a_stream_names_the_program_that_asked_for_it_if_it_said(
    tmp_path: Path, history: History
) -> None:
    grant = history.decide("startup/ml", "clinic/icu")
    history.lease(grant)
    history.lease(grant, code="ab" * 32, framework="torch-2.13.0")
    projected(tmp_path, history)
    with Projection(tmp_path, KEY).reading() as cursor:
        found = cursor.execute("SELECT code, framework FROM lease ORDER BY idx").fetchall()
    assert found[-2:] == [(None, None), ("ab" * 32, "torch-2.13.0")]


def test_what_operators_do_to_a_tenant_is_rows(tmp_path: Path, history: History) -> None:
    operator = ("clinic", "platform", "platform/operator")
    history.add(
        "TenantUpdated", *operator, tenant="clinic", max_streams=8, requests_per_minute=None,
        max_bytes=1 << 40, max_stored_bytes=None,
    )  # fmt: skip
    history.add("TenantSuspended", *operator, tenant="clinic")
    history.add("TenantResumed", *operator, tenant="clinic")
    projected(tmp_path, history)
    with Projection(tmp_path, KEY).reading() as cursor:
        rows = cursor.execute(
            "SELECT change, max_streams, max_bytes, actor FROM tenant_change "
            "WHERE change <> 'added' ORDER BY idx"
        ).fetchall()
    assert rows == [
        ("limits", 8, 1 << 40, "platform"),
        ("suspended", None, None, "platform"),
        ("resumed", None, None, "platform"),
    ]


def test_every_table_can_be_written(history: History) -> None:
    for columns in (*schema.TABLES.values(), schema.COLUMN_SET_PART):
        assert schema.arrow_table(columns, [(None,) * len(columns)]).num_rows == 1


def test_an_erasure_is_projected_and_what_comes_after_it(tmp_path: Path, history: History) -> None:
    history.add(
        "DatasetErased", "clinic", "clinic", "clinic/owner",
        dataset="clinic/icu", dataset_id="clinic-icu", erasure="op_1", version=None, columns=[1, 2],
        root=1, keks=["k"], deks=2, shards=1, shards_kept=0,
    )  # fmt: skip
    history.add(
        "ErasureCertified", "clinic", dataset="clinic/icu", dataset_id="clinic-icu", erasure="op_1",
        certificate="ab" * 32, certificate_key="certificates/op_1.json",
    )  # fmt: skip
    projected(tmp_path, history)
    made = Projection(tmp_path, KEY)
    assert made.projected == len(history.events)
    assert sum("[1, 2]" in row for row in dump(made)["erasure"]) == 1


def edit(directory: Path, sql: str) -> None:
    with duckdb.connect(str(directory / FILE)) as connection:
        connection.execute(sql)


def edit_and_seal_again(directory: Path) -> None:
    """An attacker who can hash, and has no key."""
    import hashlib

    edit(directory, "UPDATE granted SET purpose = 'anything'")
    seal = json.loads((directory / SEAL).read_text())
    seal["file"] = hashlib.sha256((directory / FILE).read_bytes()).hexdigest()
    (directory / SEAL).write_text(json.dumps(seal))


def put_in_the_file_of_another_day(directory: Path) -> None:
    (directory / FILE).write_bytes((directory / "old.duckdb").read_bytes())


def in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "somebody's").write_text("work")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a grant added": lambda d: edit(d, "INSERT INTO granted SELECT * FROM granted"),
    "a revocation deleted": lambda d: edit(d, "DELETE FROM revocation"),
    "progress turned back": lambda d: edit(d, "UPDATE progress SET projected = 3"),
    "a read deleted": lambda d: edit(d, "DELETE FROM confirmed WHERE rows = 100"),
    "edited and sealed again": edit_and_seal_again,
    "a file of another day": put_in_the_file_of_another_day,
    "one bit flipped": lambda d: flip(d / FILE, (d / FILE).stat().st_size // 2),
    "first byte flipped": lambda d: flip(d / FILE, 0),
    "cut in half": lambda d: os.truncate(d / FILE, (d / FILE).stat().st_size // 2),
    "emptied": lambda d: os.truncate(d / FILE, 0),
    "file missing": lambda d: (d / FILE).unlink(),
    "seal missing": lambda d: (d / SEAL).unlink(),
    "seal of nonsense": lambda d: (d / SEAL).write_text("[]"),
    "seal empty": lambda d: (d / SEAL).write_text(""),
    "seal of another format": lambda d: change_seal(d, format=99),
    "seal of another index": lambda d: change_seal(d, projected=1),
    "a directory in its place": lambda d: in_its_place(d / FILE),
    "a directory for a seal": lambda d: in_its_place(d / SEAL),
}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def change_seal(directory: Path, **facts: object) -> None:
    seal = json.loads((directory / SEAL).read_text())
    (directory / SEAL).write_text(json.dumps({**seal, **facts}))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_as_sealed_is_rebuilt(
    tmp_path: Path, history: History, damage: str
) -> None:
    directory = tmp_path / "lineage"
    projected(directory, history, stop=5)
    (directory / "old.duckdb").write_bytes((directory / FILE).read_bytes())
    projected(directory, history)
    DAMAGE[damage](directory)
    again = Projection(directory, KEY)
    assert again.projected == 0
    assert again.rebuilt_because
    again.append(history.pairs())
    fresh = Projection(tmp_path / "fresh", KEY)
    fresh.append(history.pairs())
    assert dump(again) == dump(fresh)
    again.close()
    fresh.close()


def test_another_key_does_not_open_the_seal(tmp_path: Path, history: History) -> None:
    projected(tmp_path, history)
    other = Projection(tmp_path, b"x" * 32)
    assert (other.projected, other.rebuilt_because) == (
        0, "the seal of the lineage projection is not ours",
    )  # fmt: skip
    other.close()


def test_a_sealed_file_is_opened_where_it_was(tmp_path: Path, history: History) -> None:
    projected(tmp_path, history, stop=5)
    again = Projection(tmp_path, KEY)
    assert (again.projected, again.rebuilt_because) == (5, None)
    again.close()


@pytest.mark.parametrize("what", [b"", b"\0" * 4096, b"nonsense" * 100])
def test_a_write_ahead_log_is_never_believed(tmp_path: Path, history: History, what: bytes) -> None:
    projected(tmp_path, history)
    (tmp_path / f"{FILE}.wal").write_bytes(what)
    again = Projection(tmp_path, KEY)
    assert again.projected == len(history.events)
    assert again.rebuilt_because is None
    again.close()


def test_a_forged_write_ahead_log_is_dropped(tmp_path: Path, history: History) -> None:
    directory = tmp_path / "lineage"
    projected(directory, history)
    sealed = (directory / FILE).read_bytes()
    forge = """
import duckdb, os, sys
c = duckdb.connect(sys.argv[1], config={"wal_autocheckpoint": "1TB"})
c.execute("DELETE FROM revocation")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", forge, str(directory / FILE)], check=True)
    assert (directory / FILE).read_bytes() == sealed
    assert (directory / f"{FILE}.wal").stat().st_size
    again = Projection(directory, KEY)
    assert len(dump(again)["revocation"]) == 1
    again.close()


def test_an_event_is_never_projected_twice_nor_skipped(tmp_path: Path, history: History) -> None:
    projection = Projection(tmp_path, KEY)
    projection.append(history.pairs(0, 8))
    before = dump(projection)
    projection.append(history.pairs(2, 8))
    assert dump(projection) == before
    with pytest.raises(IntegrityError, match="event 8 is missing"):
        projection.append(history.pairs(9, 12))
    assert dump(projection) == before
    projection.append(history.pairs(5))
    assert len(dump(projection)["event"]) == len(history.events)
    projection.close()


def test_an_event_without_its_facts_changes_nothing(tmp_path: Path, history: History) -> None:
    projection = Projection(tmp_path, KEY)
    pairs = history.pairs(0, 3)
    object.__setattr__(pairs[2][0], "facts", {})
    with pytest.raises(IntegrityError, match=r"event 2 .* lacks"):
        projection.append(pairs)
    assert (projection.projected, dump(projection)["event"]) == (0, [])
    projection.close()


def test_an_unknown_kind_is_kept_as_an_event(tmp_path: Path, history: History) -> None:
    batch = rows.new_batch()
    event = history.events[0]
    object.__setattr__(event, "kind", "SomethingNew")
    rows.add(batch, event)
    assert list(batch) == ["event"]


@settings(
    max_examples=settings.default.max_examples // 12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(0, 18), max_size=6), reopen=st.booleans())
def test_batches_and_restarts_never_change_the_rows(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], *, reopen: bool
) -> None:
    history = clinic_and_startup()
    directory = tmp_path_factory.mktemp("cut")
    projection = Projection(directory, KEY)
    for cut in sorted(cuts):
        projection.append(history.pairs(projection.projected, cut))
        if reopen:
            projection.close()
            projection = Projection(directory, KEY)
    projection.append(history.pairs(projection.projected))
    whole = Projection(tmp_path_factory.mktemp("whole"), KEY)
    whole.append(history.pairs())
    assert dump(projection) == dump(whole)
    projection.close()
    whole.close()


def test_columns_keep_the_names_of_their_version(tmp_path: Path) -> None:
    history = History()
    history.version("clinic/icu", 1)
    history.version("clinic/icu", 2, names=("years", *COLUMNS[1:]))
    for version in (1, 2, 3):
        history.decide("startup/ml", "clinic/icu", version=version, columns=(2, 1))
    projection = Projection(tmp_path, KEY)
    projection.append(history.pairs())
    with projection.reading() as cursor:
        names = cursor.execute(
            "SELECT names FROM granted JOIN column_set ON id = column_set ORDER BY idx"
        ).fetchall()
    assert names == [(["hr", "age"],), (["hr", "years"],), (["#2", "#1"],)]
    projection.close()


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Callable[[History, Projection], Follower]]:
    running: list[Follower] = []

    def follow(history: History, projection: Projection) -> Follower:
        follower = Follower(projection, lambda: history.tail, time.time)
        follower.start()
        running.append(follower)
        return follower

    yield follow
    for follower in running:
        follower.stop()


def test_a_follower_keeps_up_with_a_growing_journal(
    tmp_path: Path, following: Callable[[History, Projection], Follower]
) -> None:
    history = clinic_and_startup()
    projection = Projection(tmp_path, KEY)
    follower = following(history, projection)
    for _ in range(3):
        clinic_and_startup(history)
        follower.wait_for(len(history.events), 10)
        assert projection.projected == len(history.events)
    follower.stop()
    projection.close()


def test_a_follower_that_cannot_go_on_says_so_and_tries_again(
    tmp_path: Path,
    following: Callable[[History, Projection], Follower],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history, projection = clinic_and_startup(), Projection(tmp_path, KEY)
    good, broken = projection.append, threading.Event()

    def append(events: list[tuple[rows.EventLike, str]]) -> None:
        if not broken.is_set():
            broken.set()
            raise KeyError("a mistake of ours")
        good(events)

    monkeypatch.setattr(projection, "append", append)
    follower = following(history, projection)
    assert broken.wait(10)
    follower.wait_for(len(history.events), 10)
    assert (projection.projected, follower.fault) == (len(history.events), None)
    clinic_and_startup(history)  # it lives
    follower.wait_for(len(history.events), 10)
    assert projection.projected == len(history.events)
    follower.stop()
    projection.close()


def test_what_came_before_damage_is_projected_and_damage_is_said(tmp_path: Path) -> None:
    history, projection = clinic_and_startup(), Projection(tmp_path, KEY)
    size = len(history.events)

    def tail(start: int) -> Iterator[tuple[rows.EventLike, bytes]]:
        yield from history.tail(start)
        raise IntegrityError("the journal was changed")

    follower = Follower(projection, lambda: tail, time.time)
    follower.start()
    follower.wait_for(size, 60)
    assert projection.projected == size
    deadline = time.monotonic() + 60
    while follower.fault is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert follower.fault == "the journal was changed"
    follower.stop()
    projection.close()


def test_another_history_than_the_projected_one_is_projected_anew(
    tmp_path: Path, following: Callable[[History, Projection], Follower]
) -> None:
    history, other = clinic_and_startup(), clinic_and_startup(History())
    projected(tmp_path, history)
    other.leaves[-1] = b"\1" * 32
    projection = Projection(tmp_path, KEY)
    follower = following(other, projection)
    follower.wait_for(len(other.events) + 1, 3)
    assert projection.projected == len(other.events)
    assert "another than was projected" in str(projection.rebuilt_because)
    follower.stop()
    projection.close()
