"""A projection that several processes make anew is the one that a single one makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.errors import IntegrityError
from gateway.journal.segments import listed
from gateway.lineage import file_rows
from gateway.lineage.batch import Batch, Prepared
from gateway.lineage.projection import Projection
from gateway.lineage.rebuild import rebuild
from tests.journal.places import LOG, opened
from tests.lineage.history import clinic_and_startup
from tests.lineage.real_journal import RealJournal
from tests.lineage.test_projection import dump

KEY = b"k" * 32


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> RealJournal:
    """The story of the clinic many times over, in many files."""
    base = tmp_path_factory.mktemp("told")
    real = RealJournal(base)
    real.journal.close()
    real.journal = opened(base, segment_bytes=10_000)
    for _ in range(6):
        real.tell_story()
    real.journal.close()
    assert len(listed(real.directory)) > 3
    return real


def rebuilt(directory: Path, journal: Path, processes: int) -> tuple[int, dict[str, list[str]]]:
    size = rebuild(directory, KEY, journal, LOG.public_key, lambda *_: None, processes=processes)
    made = Projection(directory, KEY)
    assert made.rebuilt_because is None
    found = dump(made)
    made.close()
    del found["column_set"]  # names of versions; the story registers the same one each time
    return size, found


def test_many_processes_make_the_rows_that_one_makes(told: RealJournal, tmp_path: Path) -> None:
    one = rebuilt(tmp_path / "one", told.directory, 0)
    assert one[0] == told.journal.durable_size
    assert rebuilt(tmp_path / "many", told.directory, 2) == one


def test_a_changed_file_ends_it_at_what_came_before(told: RealJournal, tmp_path: Path) -> None:
    shutil.copytree(told.directory, tmp_path / "journal")
    damaged = listed(tmp_path / "journal")[2]
    data = bytearray(damaged.path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.path.write_bytes(bytes(data))
    refused: list[object] = []
    for processes in (0, 2):
        place = tmp_path / str(processes)
        with pytest.raises(IntegrityError) as error:
            rebuilt(place, tmp_path / "journal", processes)
        refused.append((str(error.value), error.value.facts["index"]))
        made = Projection(place, KEY)
        assert made.projected <= error.value.facts["index"]
        made.close()
    assert refused[0] == refused[1]


def test_a_child_gives_the_rows_of_whole_files(told: RealJournal, tmp_path: Path) -> None:
    """Not the process that puts them in: else a child that fails would go unnoticed."""
    said: list[str] = []
    rebuild(
        tmp_path, KEY, told.directory, LOG.public_key, lambda _, text: said.append(text),
        processes=2,
    )  # fmt: skip
    ends = [f"{file.first} events" for file in listed(told.directory)[1:]]
    assert said[: len(ends)] == ends


def test_rows_survive_the_way_between_processes() -> None:
    batch = Batch()
    for event, _ in clinic_and_startup().pairs():
        batch.add(event)
    sent = batch.prepared("ab" * 32)
    (received,) = file_rows.unpacked(memoryview(file_rows.packed([sent])))
    assert received == sent
    empty = Prepared(
        first=7, size=9, time=3, leaf="cd", tables={}, expiring=[(1, 2, "a", "2026-01")]
    )
    assert list(file_rows.unpacked(memoryview(file_rows.packed([empty, empty])))) == [empty, empty]
