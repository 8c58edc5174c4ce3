"""A start goes on from a snapshot without reading what came before; a wrong one is not obeyed."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.events import Event
from gateway.domain.merkle import Tree, leaf_hash, verify_consistency, verify_inclusion
from gateway.errors import ConfigError, IntegrityError, InvalidInput
from gateway.journal import frames
from gateway.journal.anchor import FILE_NAME as ANCHOR
from gateway.journal.checkpoint import open_checkpoint, origin_of
from gateway.journal.journal import Journal
from gateway.journal.memory import Memory
from gateway.journal.tree import BLOCK_EVENTS, LogTree
from gateway.journal.verification import verify
from tests.journal.places import LOG, NODE, fill, opened, setup

SEGMENT = 100_000  # bytes: some hundred events a file


def resumed(base: Path, memory: Memory, apply: Callable[[Event], None] = lambda _: None) -> Journal:
    return Journal.open(setup(base, segment_bytes=SEGMENT), apply, memory.size, memory=memory)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Memory]:
    """2,500 events in some files, a snapshot, and 40 events after it."""
    base = tmp_path_factory.mktemp("lived")
    with opened(base, segment_bytes=SEGMENT) as journal:
        fill(journal, 2500, commits=50)
        memory, _ = journal.remember(lambda: None)
        fill(journal, 40, commits=4)
    assert len(memory.firsts) > 3
    assert len(memory.blocks) == 2 * 2 * 32
    return base, memory


@pytest.fixture
def copy(lived: tuple[Path, Memory], tmp_path: Path) -> tuple[Path, Memory]:
    shutil.copytree(lived[0], tmp_path / "copy")
    return tmp_path / "copy", lived[1]


def files(base: Path) -> list[Path]:
    return sorted((base / "journal").glob("*.log"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def commit_ends(path: Path) -> list[int]:
    found = frames.scan(path.read_bytes(), len(frames.MAGIC))
    return [end for kind, _, end in found if kind == frames.CHECKPOINT]


# What is not obeyed


def test_every_byte_of_the_open_file_is_looked_at(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    path = files(base)[len(memory.firsts) - 1]
    data = path.read_bytes()
    for place in range(0, memory.sizes[-1], 997):
        flip(path, place)
        with pytest.raises((IntegrityError, ConfigError)):
            resumed(base, memory)
        path.write_bytes(data)
    resumed(base, memory).close()


@pytest.mark.parametrize("harm", ["cut", "longer", "header", "signature", "missing", "swapped"])
def test_a_closed_file_that_differs_from_outside_is_noticed(
    copy: tuple[Path, Memory], harm: str
) -> None:
    base, memory = copy
    first, second, *_ = files(base)
    data = second.read_bytes()
    end = commit_ends(second)[-2]
    harms: dict[str, Callable[[], object]] = {
        "cut": lambda: second.write_bytes(data[:end]),
        "longer": lambda: second.write_bytes(data + b"\0"),
        "header": lambda: flip(second, 60),
        "signature": lambda: flip(second, len(data) - 5),
        "missing": second.unlink,
        "swapped": lambda: second.write_bytes(first.read_bytes()),
    }
    harms[harm]()
    with pytest.raises(IntegrityError):
        resumed(base, memory)
    with pytest.raises(IntegrityError):  # and the slow way refuses it as well
        opened(base, segment_bytes=SEGMENT)


def test_a_journal_rolled_back_behind_the_snapshot_is_refused(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    last = files(base)[-1]
    last.write_bytes(last.read_bytes()[: commit_ends(last)[-3]])
    with pytest.raises(IntegrityError, match="anchor has seen"):
        resumed(base, memory)


def test_a_snapshot_newer_than_the_journal_is_not_obeyed(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    shutil.copytree(base, base.parent / "later")
    with resumed(base.parent / "later", memory) as journal:
        fill(journal, 30)
        newer, _ = journal.remember(lambda: None)
    with pytest.raises(IntegrityError):
        resumed(base, newer)


def test_a_snapshot_of_a_forked_journal_is_not_obeyed(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    fork = base.parent / "fork"
    shutil.copytree(base, fork)
    memories = []
    for where in (base, fork):  # each opening has a Boot event of its own
        with resumed(where, memory) as journal:
            fill(journal, 30)
            memories.append(journal.remember(lambda: None)[0])
    ours, theirs = memories
    assert ours.size == theirs.size
    with pytest.raises(IntegrityError):
        resumed(base, theirs)
    resumed(base, ours).close()


def test_a_snapshot_that_contradicts_itself_is_not_obeyed(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    for change in (
        {"blocks": "00" * 64},
        {"blocks": ""},
        {"leaves": memory.leaves[:-64]},
        {"firsts": memory.firsts[:-1], "sizes": memory.sizes[:-1]},
        {"sizes": (*memory.sizes[:-1], memory.sizes[-1] - 1)},
        {"chains": ()},
    ):
        with pytest.raises(IntegrityError):
            resumed(base, dataclasses.replace(memory, **change))


def test_a_catalogue_of_another_moment_than_the_snapshot_is_not_obeyed(
    copy: tuple[Path, Memory],
) -> None:
    base, memory = copy
    for start in (memory.size - 1, memory.size + 1):
        with pytest.raises(IntegrityError):
            Journal.open(setup(base, segment_bytes=SEGMENT), lambda _: None, start, memory=memory)


def test_an_old_event_that_was_changed_is_noticed_when_it_is_read_and_by_verify(
    copy: tuple[Path, Memory],
) -> None:
    """The one change that a start from a snapshot does not see: inside a closed file."""
    base, memory = copy
    first = files(base)[0]
    data = first.read_bytes()
    rebuilt, done = bytearray(frames.MAGIC), False
    for kind, payload, _ in frames.scan(data, len(frames.MAGIC)):
        other = payload if done else payload.replace(b"grants/5", b"grants/6")
        done = done or other != payload
        rebuilt += frames.frame(kind, other)
    first.write_bytes(rebuilt)
    with resumed(base, memory) as journal:
        size = journal.durable_size
        assert [e.index for e in journal.read(BLOCK_EVENTS, size)] == [*range(BLOCK_EVENTS, size)]
        for ask in (
            lambda: list(journal.read(0)),
            lambda: list(journal.chain("clinic", size)),
            lambda: journal.leaf(1000),
            lambda: journal.inclusion(3, size),
            lambda: journal.consistency(5, size),
        ):
            with pytest.raises(IntegrityError, match="changed on disk") as refused:
                ask()
            assert refused.value.facts["index"] < BLOCK_EVENTS
    with pytest.raises(IntegrityError):
        verify(base / "journal", LOG.public_key)
    with pytest.raises(IntegrityError):
        opened(base, segment_bytes=SEGMENT)


def test_an_old_file_that_vanishes_while_open_is_no_crash(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    with resumed(base, memory) as journal:
        files(base)[0].unlink()
        with pytest.raises(IntegrityError):
            journal.leaf(0)
        with pytest.raises(IntegrityError):
            list(journal.read(0))


# What holds


def test_only_what_came_after_is_replayed_and_everything_is_as_before(
    copy: tuple[Path, Memory],
) -> None:
    base, memory = copy
    seen: list[Event] = []
    with resumed(base, memory, seen.append) as journal:
        assert [e.index for e in seen] == [*range(memory.size, journal.size)]
        fill(journal, 700, commits=20)  # over the edge of a block
        again, _ = journal.remember(lambda: None)
        whole = Tree()
        for _, data in journal._marks.payloads(0, journal.durable_size):
            whole.append(leaf_hash(data))
        note = open_checkpoint(journal.checkpoint(), LOG.public_key, origin_of(NODE))
        assert note.root == whole.root() == journal.root(note.size)
        for index in (*range(0, note.size, 61), 1023, 1024, 2047, 2048, note.size - 1):
            proof = journal.inclusion(index, note.size)
            verify_inclusion(journal.leaf(index), index, note.size, proof, note.root)
            if index:
                proof = journal.consistency(index, note.size)
                roots = whole.root(index), note.root
                verify_consistency(index, note.size, proof, roots)
        assert journal.multiproof([3, 900, 1500, 3000], 3100) == whole.multiproof(
            [3, 900, 1500, 3000], 3100
        )
        assert [e.index for e in journal.read(0)] == list(range(journal.durable_size))
        last = journal.head("clinic").seq
    verify(base / "journal", LOG.public_key, base / "anchor")
    with resumed(base, again) as journal:
        assert journal.head("clinic").seq == last


def test_an_older_snapshot_is_only_slower(copy: tuple[Path, Memory]) -> None:
    base, memory = copy
    for _ in range(3):
        seen: list[Event] = []
        with resumed(base, memory, seen.append) as journal:
            fill(journal, 300, commits=10)
        assert seen[0].index == memory.size
    verify(base / "journal", LOG.public_key, base / "anchor")


def test_an_anchor_that_lags_is_still_compared(copy: tuple[Path, Memory], tmp_path: Path) -> None:
    base, memory = copy
    other = tmp_path / "other"
    with opened(other) as journal:
        fill(journal, 1)
    lagging = (base / "anchor" / ANCHOR).read_bytes()
    (base / "anchor" / ANCHOR).write_bytes((other / "anchor" / ANCHOR).read_bytes())
    with pytest.raises(IntegrityError, match="anchor"):  # of a fork: of the same key and node
        resumed(base, memory)
    (base / "anchor" / ANCHOR).write_bytes(lagging)
    resumed(base, memory).close()


def test_a_memory_is_of_one_moment_while_others_append(tmp_path: Path) -> None:
    seen: list[Event] = []
    with opened(tmp_path, seen.append, segment_bytes=SEGMENT) as journal:
        threads = [threading.Thread(target=fill, args=(journal, 300)) for _ in range(3)]
        for thread in threads:
            thread.start()
        found = [journal.remember(lambda: len(seen)) for _ in range(5)]
        for thread in threads:
            thread.join()
    for memory, folded in found:
        assert memory.size == folded
        with resumed(tmp_path, memory):
            pass


def test_a_wish_that_cannot_be_granted_is_refused_and_the_journal_goes_on(tmp_path: Path) -> None:
    def broken() -> None:
        raise InvalidInput("no")

    with opened(tmp_path) as journal:
        with pytest.raises(InvalidInput):
            journal.remember(broken)
        fill(journal, 3)


@given(st.integers(1, 5 * BLOCK_EVENTS), st.data())
def test_a_tree_with_blocks_left_out_is_the_tree(count: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(count)]
    whole, first = Tree(), LogTree()
    cut = data.draw(st.integers(0, count))
    for leaf in leaves:
        whole.append(leaf)
    for leaf in leaves[:cut]:
        first.append(leaf)
    tree = LogTree(first.blocks(), first.rest(), lambda low, high: leaves[low:high])
    for leaf in leaves[cut:]:
        tree.append(leaf)
    size = data.draw(st.integers(1, count))
    index = data.draw(st.integers(0, size - 1))
    assert tree.root(size) == whole.root(size)
    assert tree.edge() == whole.edge()
    assert tree.inclusion(index, size) == whole.inclusion(index, size)
    assert tree.consistency(index + 1, size) == whole.consistency(index + 1, size)
    tree.truncate(max(size, cut))
    assert tree.root() == whole.root(max(size, cut))
