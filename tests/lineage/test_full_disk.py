"""A disk that is full under lineage: it says so or is rebuilt, and never answers wrongly."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from gateway.errors import Unavailable
from gateway.lineage.copies import Copies
from gateway.lineage.follow import Follower
from gateway.lineage.link import LineageLink, Side
from gateway.lineage.projection import Projection
from gateway.lineage.query import Query, SandboxPool
from tests.lineage.history import Event, History, clinic_and_startup
from tests.lineage.known import Known
from tests.lineage.real_journal import RealJournal
from tests.lineage.test_process import caught_up, lineage
from tests.lineage.test_projection import dump

KEY = b"k" * 32
FAILURES = (duckdb.Error, OSError)
SQL = "SELECT count(*) AS n, sum(rows) AS rows FROM read"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may become larger: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def told(stories: int) -> History:
    history = History()
    for _ in range(stories):
        clinic_and_startup(history)
    return history


def appended_until_it_fails(
    projection: Projection, events: list[tuple[Event, str]], place: int
) -> int:
    """How many events were in when it failed."""
    while place < len(events):
        try:
            projection.append(events[: place + 20])
        except FAILURES:
            return place
        place += 20
    raise AssertionError("there was room for everything")


def without_progress(projection: Projection) -> dict[str, list[str]]:
    return {name: rows for name, rows in dump(projection).items() if name != "progress"}


@pytest.mark.parametrize("is_full_for_long", [False, True], ids=("freed", "still full"))
@pytest.mark.parametrize("sealed", [0, 200])
def test_a_projection_that_ran_out_of_space_opens_again_with_every_row(
    tmp_path: Path, sealed: int, *, is_full_for_long: bool
) -> None:
    """And with what its rows refer to, though that was lost with the write-ahead log."""
    events = Known().history.pairs()
    projection = Projection(tmp_path / "full", KEY)
    projection.append(events[:sealed])
    assert projection.seal()
    with files_of_at_most(64 << 10):  # the write-ahead log's
        place = appended_until_it_fails(projection, events, sealed)
        with pytest.raises(FAILURES):  # and goes on to say so
            projection.append(events)
        if is_full_for_long:
            projection.reopen()
    if not is_full_for_long:
        projection.reopen()
    assert projection.projected <= place
    projection.append(events)
    whole = Projection(tmp_path / "whole", KEY)
    whole.append(events)
    assert without_progress(projection) == without_progress(whole)


def test_a_projection_that_could_not_even_be_begun_anew_is_when_there_is_room(
    tmp_path: Path,
) -> None:
    history = told(1)
    projection = Projection(tmp_path, KEY)
    projection.append(history.pairs())
    projection.seal()
    with (tmp_path / "lineage.duckdb").open("r+b") as file:
        file.seek(8192)
        file.write(b"changed by someone")
    with files_of_at_most(0), pytest.raises(FAILURES):
        projection.reopen()
    with pytest.raises(Unavailable), projection.reading():
        pass
    follower = Follower(projection, lambda: history.tail, time.time)
    follower.start()
    follower.wait_for(len(history.events), 60)
    follower.stop()
    assert (projection.projected, follower.fault) == (len(history.events), None)
    projection.close()


def test_a_full_disk_costs_a_tenant_its_copy_and_no_row(tmp_path: Path) -> None:
    projection, pool = Projection(tmp_path, KEY), SandboxPool(wall_seconds_max=60)
    projection.append(told(20).pairs())
    copies = Copies(projection)
    with files_of_at_most(64 << 10):
        copies.make("clinic")
        assert list((tmp_path / "copies").iterdir()) == []
        with projection.reading() as source, copies.lent("clinic", source) as copy:
            assert copy is None
            result = pool.run(Query(sql=SQL, tenant="clinic"), source, copy)
    assert bytes(result.payload) == b"[[60,7000]]"
    assert not copies.is_worth("clinic", 1 << 30)  # not tried again at once
    pool.close()
    copies.close()
    projection.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_on_a_really_full_disk_every_answer_is_refused_or_right_and_it_takes_up_again(
    small_disk: Path, tmp_path: Path
) -> None:
    journal, refused = RealJournal(tmp_path / "state"), 0

    async def asked(link: LineageLink, size: int) -> bool:
        """Whether it answered; with all that it says it is complete for."""
        try:
            answer = await link.query(SQL, Side(tenant="clinic", at_least=size))
        except Unavailable:
            return False
        ((n, rows),) = answer.rows
        assert n == 0 or rows * 3 == n * 350
        assert answer.as_of_index < size or (n, rows) == (
            3 * journal.stories,
            350 * journal.stories,
        )
        return True

    async def story() -> None:
        nonlocal refused
        async with lineage(journal, small_disk / "lineage") as (link, _):
            size = journal.tell_story()
            await caught_up(link, size)
            assert await asked(link, size)
            filler = small_disk / "filler"
            _fill(filler)
            for _ in range(60):
                size = journal.tell_story()
                refused += not await asked(link, size)
                if (await link.status())["fault"]:
                    break
            assert (await link.status())["fault"]
            assert not await asked(link, size)
            filler.unlink()
            await caught_up(link, size)
            assert (await link.status())["fault"] is None
            assert await asked(link, size)

    asyncio.run(story())


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass
