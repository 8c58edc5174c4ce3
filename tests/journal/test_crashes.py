"""What a crash, a full disk or a thief leaves behind is cut, refused or whole; never half."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.domain.events import Event, EventKind, canonical
from gateway.domain.merkle import EMPTY_ROOT
from gateway.errors import ConfigError, GatewayError, IntegrityError, Unavailable
from gateway.journal import frames, recovery
from gateway.journal.anchor import FILE_NAME as ANCHOR
from gateway.journal.checkpoint import LogCheckpoint, origin_of
from gateway.journal.verification import verify
from tests.journal.places import LOG, NODE, fill, opened, refused_request

ROOT = Path(__file__).resolve().parents[2]
KILLS = 5


def start(base: Path, file_bytes_max: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.journal.producers", str(base), str(file_bytes_max)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def acknowledged(output: bytes) -> dict[int, int]:
    whole = output[: output.rfind(b"\n") + 1].decode().splitlines()
    return {int(index): int(number) for index, number in (line.split() for line in whole)}


def recorded(base: Path) -> dict[int, str]:
    seen: list[Event] = []
    opened(base, seen.append, segment_bytes=20_000).close()
    assert [e.index for e in seen] == list(range(len(seen)))
    return {e.index: e.facts["route"] for e in seen if e.kind is EventKind.RequestRefused}


def all_there(acked: dict[int, int], base: Path) -> None:
    routes = recorded(base)
    lost = [index for index, number in acked.items() if routes.get(index) != f"/v1/grants/{number}"]
    assert not lost
    verify(base / "journal", LOG.public_key, base / "anchor")


def test_no_acknowledged_event_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    acked: dict[int, int] = {}
    rng = random.Random(4)
    for _ in range(KILLS):
        with start(tmp_path) as child:
            assert child.stdout is not None
            first = child.stdout.readline()  # it is up and has acknowledged something
            time.sleep(rng.uniform(0.02, 0.4))
            child.send_signal(signal.SIGKILL)
            acked |= acknowledged(first + child.stdout.read())
        all_there(acked, tmp_path)
    assert len(acked) >= KILLS


def test_a_full_disk_ends_the_journal_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with start(tmp_path, file_bytes_max=100_000) as child:
        output, _ = child.communicate(timeout=60)
    assert child.returncode == 7
    acked = acknowledged(output)
    assert acked
    all_there(acked, tmp_path)


def test_a_failed_write_poisons_every_later_call(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    journal = opened(tmp_path, on_failure=failures.append)
    os.close(journal._file.fd)
    index = journal.append(refused_request())
    with pytest.raises(Unavailable):
        journal.wait_durable(index)
    for call in (
        lambda: journal.append(refused_request()),
        journal.checkpoint,
        lambda: list(journal.read(0)),
        lambda: journal.inclusion(0, 1),
        lambda: journal.wait_durable(index),
    ):
        with pytest.raises(Unavailable):
            call()
    assert [type(f) for f in failures] == [OSError]
    journal._file.fd = os.open(os.devnull, os.O_WRONLY)
    journal.close()
    all_there({}, tmp_path)


# Changed files


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three commits, and its anchor as it was after the first."""
    base = tmp_path_factory.mktemp("lived")
    (base / "anchors").mkdir()
    with opened(base) as journal:
        shutil.copy(base / "anchor" / ANCHOR, base / "anchors" / "0")
        fill(journal, 1)
        fill(journal, 1)
    return base


@pytest.fixture
def step(request: pytest.FixtureRequest) -> int:
    """Every so many bytes are tried: a prime, so that all places within a field come."""
    return 1 if request.config.getoption("--long") else 7


def copy_of(lived: Path, tmp_path: Path) -> tuple[Path, Path]:
    base = tmp_path / "copy"
    shutil.copytree(lived, base)
    (path,) = (base / "journal").glob("*.log")
    return base, path


def unanchored(base: Path) -> None:
    """Both failure domains lost: put an anchor that has seen nothing."""
    note = LogCheckpoint(origin=origin_of(NODE), size=0, root=EMPTY_ROOT).signed(LOG)
    (base / "anchor" / ANCHOR).write_bytes(note.encode().ljust(2048, b"\0"))


def survey(base: Path) -> recovery.Found:
    return recovery.survey(
        base / "journal", node=NODE, log_key=LOG.public_key, anchors=base / "anchor"
    )


def commit_ends(path: Path) -> dict[int, int]:
    """Offset behind each LogCheckpoint -> events signed so far."""
    return commit_ends_of(path.read_bytes())


def commit_ends_of(data: bytes) -> dict[int, int]:
    ends, size = {}, 0
    for kind, _, end in frames.scan(data, len(frames.MAGIC)):
        size += kind == frames.EVENT
        if kind == frames.CHECKPOINT:
            ends[end] = size
    return ends


def test_truncated_at_any_byte_an_anchored_journal_is_refused(
    lived: Path, tmp_path: Path, step: int
) -> None:
    base, path = copy_of(lived, tmp_path)
    data = path.read_bytes()
    for length in range(0, len(data), step):
        path.write_bytes(data[:length])
        with pytest.raises(IntegrityError):
            survey(base)


def test_truncated_at_any_byte_without_anchor_it_is_cut_to_a_whole_commit(
    lived: Path, tmp_path: Path, step: int
) -> None:
    base, path = copy_of(lived, tmp_path)
    unanchored(base)
    data, ends = path.read_bytes(), commit_ends(path)
    around_ends = {end + near for end in ends for near in (-1, 0, 1) if end + near <= len(data)}
    for length in sorted({*range(0, len(data) + 1, step), *around_ends}):
        path.write_bytes(data[:length])
        found = survey(base)
        whole = max((end for end in ends if end <= length), default=0)
        assert (found.size, found.cut_bytes) == (ends.get(whole, 0), length - whole)


def test_a_cut_journal_goes_on_and_says_what_it_cut(lived: Path, tmp_path: Path) -> None:
    base, path = copy_of(lived, tmp_path)
    with path.open("ab") as file:
        file.write(frames.frame(frames.EVENT, b'{"never":"acknowledged"}')[:-3])
    with opened(base) as journal:
        assert journal.cut_bytes == 30
        fill(journal, 3)
    assert b"never" not in path.read_bytes()
    all_there({}, base)


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 100, os.urandom(3000), b"gateway"])
def test_rubbish_behind_the_last_signature_is_cut(lived: Path, tmp_path: Path, tail: bytes) -> None:
    base, path = copy_of(lived, tmp_path)
    before = path.read_bytes()
    path.write_bytes(before + tail)
    assert survey(base).cut_bytes == len(tail)
    opened(base).close()
    assert path.read_bytes().startswith(before)


def test_a_flipped_bit_anywhere_is_refused(lived: Path, tmp_path: Path, step: int) -> None:
    base, path = copy_of(lived, tmp_path)
    data, size = path.read_bytes(), max(commit_ends(path).values())
    for place in range(0, len(data), step):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        with pytest.raises((IntegrityError, ConfigError)) as refused:
            survey(base)
        if isinstance(refused.value, IntegrityError):
            assert refused.value.facts["index"] <= size


def test_a_flipped_bit_without_anchor_is_refused_or_costs_the_last_commit(
    lived: Path, tmp_path: Path, step: int
) -> None:
    base, path = copy_of(lived, tmp_path)
    unanchored(base)
    data = path.read_bytes()
    ends = sorted(commit_ends(path).items())
    last_commit, size_before = ends[-2]
    cuts = 0
    for place in range(0, len(data), step):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            found = survey(base)
        except GatewayError:
            continue
        assert place >= last_commit
        assert found.size == size_before
        cuts += 1
    assert cuts


def test_a_forged_frame_with_a_right_crc_is_cut_behind_and_refused_before_a_signature(
    lived: Path, tmp_path: Path
) -> None:
    base, path = copy_of(lived, tmp_path)
    data = path.read_bytes()
    with opened(tmp_path / "donor") as donor:
        event = next(iter(donor.read(0)))
    forged = frames.frame(frames.EVENT, canonical(event.envelope()))
    path.write_bytes(data + forged)
    assert survey(base).cut_bytes == len(forged)
    for end in commit_ends_of(data):
        if end < len(data):
            path.write_bytes(data[:end] + forged + data[end:])
            with pytest.raises(IntegrityError):
                survey(base)


def test_a_forged_checkpoint_signs_nothing(lived: Path, tmp_path: Path) -> None:
    base, path = copy_of(lived, tmp_path)
    data = path.read_bytes()
    *_, (_, note, _) = frames.scan(data, len(frames.MAGIC))
    for forged in (note, note[:-10] + b"AAAAAAAA=\n", b"gateway"):
        path.write_bytes(data + frames.frame(frames.CHECKPOINT, forged))
        found = survey(base)
        assert found.size == max(commit_ends_of(data).values())
        assert found.note is not None


def test_a_changed_event_with_a_right_crc_is_named(lived: Path, tmp_path: Path) -> None:
    base, path = copy_of(lived, tmp_path)
    data, rebuilt, size, bad = path.read_bytes(), bytearray(frames.MAGIC), 0, None
    for kind, payload, _ in frames.scan(data, len(frames.MAGIC)):
        changed = payload.replace(b"grants/0", b"grants/9") if bad is None else payload
        if changed != payload:
            bad = size
        size += kind == frames.EVENT
        rebuilt += frames.frame(kind, changed)
    path.write_bytes(rebuilt)
    for check in (lambda: survey(base), lambda: verify(base / "journal", LOG.public_key)):
        with pytest.raises(IntegrityError) as refused:
            check()
        assert bad is not None
        assert bad - 2 <= refused.value.facts["index"] <= bad


def test_a_journal_rolled_back_alone_is_refused(lived: Path, tmp_path: Path) -> None:
    base, path = copy_of(lived, tmp_path)
    data = path.read_bytes()
    for end in sorted(commit_ends(path))[:-1]:
        path.write_bytes(data[:end])
        with pytest.raises(IntegrityError, match="anchor has seen"):
            opened(base)
    path.unlink()
    with pytest.raises(IntegrityError, match="anchor has seen"):
        opened(base)


def test_an_anchor_rolled_back_alone_is_a_lower_bound_and_moves_on(
    lived: Path, tmp_path: Path
) -> None:
    base, path = copy_of(lived, tmp_path)
    shutil.copy(base / "anchors" / "0", base / "anchor" / ANCHOR)
    opened(base).close()
    path.write_bytes(path.read_bytes()[: sorted(commit_ends(path))[-2]])
    with pytest.raises(IntegrityError, match="anchor has seen"):
        opened(base)


@pytest.mark.parametrize("loss", ["missing", "rubbish", "other key"])
def test_a_journal_without_a_true_anchor_is_refused(lived: Path, tmp_path: Path, loss: str) -> None:
    base, _ = copy_of(lived, tmp_path)
    anchor = base / "anchor" / ANCHOR
    if loss == "missing":
        anchor.unlink()
    else:
        data = anchor.read_bytes()
        anchor.write_bytes(
            b"x" * 2048 if loss == "rubbish" else data.replace(b"\xe2\x80\x94", b"-")
        )
    with pytest.raises(IntegrityError, match="anchor"):
        opened(base)


def test_a_torn_slot_of_the_anchor_leaves_the_other(lived: Path, tmp_path: Path) -> None:
    base, _ = copy_of(lived, tmp_path)
    anchor = base / "anchor" / ANCHOR
    data = anchor.read_bytes()
    for torn in (b"\0" * 1024 + data[1024:], data[:1024] + b"\xff" * 1024):
        anchor.write_bytes(torn)
        survey(base)


def test_another_format_is_refused_with_one_sentence(lived: Path, tmp_path: Path) -> None:
    base, path = copy_of(lived, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"journal/v0.1\n", b"journal/v0.0\n", 1))
    with pytest.raises(ConfigError, match=r"is of format `gateway-journal/v0\.0`"):
        opened(base)


def test_the_journal_of_another_node_is_refused(lived: Path, tmp_path: Path) -> None:
    base, _ = copy_of(lived, tmp_path)
    with pytest.raises(IntegrityError):
        opened(base, node="n2")


def test_a_crash_while_a_next_file_begins_leaves_the_whole_journal(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=3000) as journal:
        while True:  # until a next file was begun and holds nothing yet
            fill(journal, 1)
            time.sleep(0.02)
            last = max((tmp_path / "journal").glob("*.log"))
            if last.stat().st_size < 300:
                break
        size = journal.durable_size
    header = last.read_bytes()
    for length in range(len(header) + 1):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "journal", tmp_path / "copy" / "journal")
        shutil.copytree(tmp_path / "anchor", tmp_path / "copy" / "anchor")
        (tmp_path / "copy" / "journal" / last.name).write_bytes(header[:length])
        assert survey(tmp_path / "copy").size == size
    opened(tmp_path / "copy").close()
    all_there({}, tmp_path / "copy")


def test_a_missing_or_foreign_file_in_the_middle_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=3000) as journal:
        fill(journal, 60, commits=60)
    files = sorted((tmp_path / "journal").glob("*.log"))
    assert len(files) > 3
    data = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(IntegrityError):
        survey(tmp_path)
    files[1].write_bytes(files[2].read_bytes())
    with pytest.raises(IntegrityError):
        survey(tmp_path)
    files[1].write_bytes(data + b"\0")
    with pytest.raises(IntegrityError):
        survey(tmp_path)
