from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from gateway.crypto.signing import Signer
from gateway.domain.events import EventKind
from gateway.errors import IntegrityError, NotFound
from gateway.journal import frames
from gateway.journal.reader import Reader, parse_checkpoint, tail
from gateway.journal.segments import following, listed
from gateway.journal.verification import verify
from tests.journal.places import LOG, fill, opened, refused_request

KEY = LOG.public_key


def log_file(base: Path) -> Path:
    return min((base / "journal").glob("*.log"))


def test_a_journal_of_another_key_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(IntegrityError):
        verify(tmp_path / "journal", Signer(b"x" * 32, "log").public_key)
    with pytest.raises(IntegrityError):
        list(Reader(tmp_path / "journal", b"y" * 32).tail(0))


def test_no_journal_is_not_an_empty_journal(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify(tmp_path, KEY)
    assert list(Reader(tmp_path / "none", KEY).tail(0)) == []


def test_bytes_without_a_signature_behind_them_are_not_there_yet(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 5)
        size = journal.durable_size
    with log_file(tmp_path).open("ab") as file:
        file.write(frames.frame(frames.EVENT, b"{}") + b"\x00\x01")
    assert len(list(Reader(tmp_path / "journal", KEY).tail(0))) == size
    assert verify(tmp_path / "journal", KEY, tmp_path / "anchor").unsigned_bytes == 2 + 2 + 9


def test_a_changed_event_is_named_by_its_index(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 9, commits=9)
        index = next(e.index for e in journal.read(0) if e.facts.get("route") == "/v1/grants/4")
    path = log_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"grants/4", b"grants/9"))
    with pytest.raises(IntegrityError) as refused:
        verify(tmp_path / "journal", KEY)
    assert refused.value.facts["index"] == index
    seen = []
    with pytest.raises(IntegrityError):
        seen.extend(e for e, _ in Reader(tmp_path / "journal", KEY).tail(0))


def test_a_shorter_journal_than_was_pinned_or_anchored_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 3)
    shutil.copytree(tmp_path / "journal", tmp_path / "old")
    with opened(tmp_path) as journal:
        fill(journal, 3)
        pinned = journal.checkpoint()
    assert verify(tmp_path / "old", KEY).size > 0
    with pytest.raises(IntegrityError, match="were seen"):
        verify(tmp_path / "old", KEY, tmp_path / "anchor")
    with pytest.raises(IntegrityError, match="were seen"):
        verify(tmp_path / "old", KEY, pinned=pinned)
    assert (
        verify(tmp_path / "journal", KEY, tmp_path / "anchor", pinned=pinned).size
        >= (parse_checkpoint(pinned)[0])
    )


def test_a_forked_journal_does_not_extend_what_was_pinned(tmp_path: Path) -> None:
    opened(tmp_path).close()
    shutil.copytree(tmp_path, tmp_path / "fork")
    with opened(tmp_path) as journal:
        fill(journal, 2)
        pinned = journal.checkpoint()
    with opened(tmp_path / "fork") as journal:
        fill(journal, 4, commits=4)
    with pytest.raises(IntegrityError, match="not those that were seen"):
        verify(tmp_path / "fork" / "journal", KEY, pinned=pinned)


def test_a_missing_file_in_the_middle_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 60, commits=60)
    files = sorted((tmp_path / "journal").glob("*.log"))
    assert len(files) > 4
    files[2].unlink()
    with pytest.raises(IntegrityError):
        verify(tmp_path / "journal", KEY)
    with pytest.raises(IntegrityError):
        list(Reader(tmp_path / "journal", KEY).tail(0))
    files[0].unlink()
    with pytest.raises(IntegrityError, match="first file"):
        verify(tmp_path / "journal", KEY)


def test_a_follower_sees_each_event_once_and_only_when_signed(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=4096) as journal:
        seen: list[int] = []
        for _ in range(20):
            fill(journal, 5)
            for event, leaf in tail(tmp_path / "journal", KEY, len(seen)):
                assert leaf == journal.leaf(event.index)
                assert event.details is None
                seen.append(event.index)
            assert len(seen) >= journal.durable_size - 1
        assert seen == list(range(len(seen)))


def test_a_follower_can_begin_anywhere(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 60, commits=30)
    size = journal.durable_size
    for start in (0, 1, size // 2, size - 1, size, size + 5):
        reader = Reader(tmp_path / "journal", KEY)
        assert [e.index for e, _ in reader.tail(start)] == list(range(start, size))
        assert [e.index for e, _ in reader.tail(3)] == list(range(3, size))


def test_a_whole_journal_verifies_with_its_chains_and_heads(tmp_path: Path) -> None:
    shares: list[float] = []
    with opened(tmp_path, segment_bytes=8192) as journal:
        for number in range(60):
            tenant = ("clinic", "bank", "startup")[number % 3]
            index = journal.append(refused_request(number, tenant=tenant, concerns=("auditors",)))
            if number % 7 == 0:
                journal.wait_durable(index)
    found = verify(
        tmp_path / "journal",
        KEY,
        tmp_path / "anchor",
        progress=lambda share, _: shares.append(share),
    )
    assert (found.size, found.root) == (journal.size, journal.root(journal.size))
    assert found.note == journal.checkpoint()
    assert found.unsigned_bytes == 0
    assert found.commits == len(shares) > 5
    assert shares == sorted(shares)
    kinds = [e.kind for e, _ in Reader(tmp_path / "journal", KEY).tail(0)]
    assert kinds.count(EventKind.TenantHeads) == found.commits


def test_a_follower_beside_a_busy_writer_never_takes_progress_for_damage(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=20_000) as journal:
        done = threading.Event()

        def write() -> None:
            for _ in range(150):
                fill(journal, 3)
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        reader, seen = Reader(tmp_path / "journal", KEY), 0
        while not done.is_set() or seen < journal.durable_size:
            for event, _ in reader.tail(seen):
                assert event.index == seen
                seen += 1
        writer.join()
    assert seen == journal.durable_size


def test_a_reader_goes_on_when_a_begun_file_is_cut_away_under_it(tmp_path: Path) -> None:
    """The writer was killed right after it began a file; its next opening removes that file."""
    with opened(tmp_path, segment_bytes=3000) as journal:
        reader = Reader(tmp_path / "journal", LOG.public_key)
        while True:  # until a next file was begun and holds nothing yet
            fill(journal, 1)
            time.sleep(0.02)
            last = max((tmp_path / "journal").glob("*.log"))
            if last.stat().st_size < 300:
                break
        seen = [commit.first for commit in reader.commits()]
    with opened(tmp_path, segment_bytes=1 << 20) as journal:
        assert not last.exists()
        fill(journal, 5)
        seen += [commit.first for commit in reader.commits()]
        assert reader.size == journal.durable_size
    assert seen == sorted(set(seen))


def test_the_files_that_follow_are_the_next_two_and_only_segment_files(tmp_path: Path) -> None:
    firsts = [0, 7, 12, 100, 10**19]
    for first in reversed(firsts):
        (tmp_path / f"{first:020d}.log").touch()
    for name in ("lock", "8.log", f"{9:020d}.log.bak", f"{9:020d}.LOG", f"x{9:020d}.log"):
        (tmp_path / name).touch()
    assert [s.first for s in listed(tmp_path)] == firsts
    for number, first in enumerate(firsts):
        assert following(tmp_path, first) == listed(tmp_path)[number + 1 : number + 3]
    assert following(tmp_path, 8) == listed(tmp_path)[2:4]
