"""Several processes that verify find what one finds: all good, or the same first bad event."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.events import EventKind
from gateway.domain.merkle import leaf_hash
from gateway.errors import IntegrityError
from gateway.journal import apart, frames
from gateway.journal.chains import Chains
from gateway.journal.composer import read_event
from gateway.journal.reader import Commit, Reader
from gateway.journal.segments import listed
from gateway.journal.spans import join, spans_of
from gateway.journal.verification import Verified, verify
from tests.journal.places import LOG, NODE, opened, refused_request

KEY = LOG.public_key


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of some files, three tenants and many commits."""
    base = tmp_path_factory.mktemp("written")
    with opened(base, segment_bytes=12_000) as journal:
        for number in range(120):
            tenant = ("clinic", "bank", "startup")[number % 3]
            index = journal.append(refused_request(number, tenant=tenant, concerns=("auditors",)))
            if number % 4 == 0:
                journal.wait_durable(index)
    assert len(listed(base / "journal")) > 6
    return base


def found_by(base: Path, processes: int) -> Verified | tuple[str, object]:
    try:
        return verify(base / "journal", KEY, base / "anchor", processes=processes)
    except IntegrityError as refused:
        return str(refused), refused.facts.get("index")


def flip(place: float) -> Callable[[list[Path]], None]:
    def change(files: list[Path]) -> None:
        path = files[len(files) // 2]
        data = bytearray(path.read_bytes())
        data[int(place * (len(data) - 1))] ^= 1
        path.write_bytes(bytes(data))

    return change


def unsigned(files: list[Path]) -> None:
    with files[2].open("ab") as file:
        file.write(frames.frame(frames.EVENT, b"{}"))


def swapped(files: list[Path]) -> None:
    one, two = files[1].read_bytes(), files[2].read_bytes()
    files[1].write_bytes(two)
    files[2].write_bytes(one)


def cut(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-7])


DAMAGES: dict[str, Callable[[list[Path]], object]] = {
    "a bit of a header": flip(0.01),
    "a bit of an event": flip(0.5),
    "the last bit of a file": flip(1.0),
    "a file is missing": lambda files: files[3].unlink(),
    "the newest files are missing": lambda files: [path.unlink() for path in files[-2:]],
    "unsigned bytes behind a closed file": unsigned,
    "two files changed places": swapped,
    "a closed file is shorter": cut,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_at_the_same_event_by_many_as_by_one(
    damage: str, written: Path, tmp_path: Path
) -> None:
    shutil.copytree(written, tmp_path / "j")
    DAMAGES[damage](sorted((tmp_path / "j/journal").glob("*.log")))
    one = found_by(tmp_path / "j", 0)
    assert isinstance(one, tuple)
    assert found_by(tmp_path / "j", 2) == one


def test_a_whole_journal_is_found_whole_by_many_as_by_one(written: Path) -> None:
    told: list[float] = []
    one = found_by(written, 0)
    many = verify(
        written / "journal", KEY, written / "anchor", lambda share, _: told.append(share),
        processes=3,
    )  # fmt: skip
    assert many == one
    assert told == sorted(told)
    files = listed(written / "journal")
    assert len(told) < many.commits  # files came whole, from children
    assert apart.processes_for(files) == 0  # so small a journal is read by one


def test_a_pin_within_any_file_is_looked_at(written: Path, tmp_path: Path) -> None:
    notes = [commit.note for commit in Reader(written / "journal", KEY).commits()]
    shutil.copytree(written, tmp_path / "j")
    with opened(tmp_path / "fork", segment_bytes=12_000) as journal:
        journal.wait_durable(journal.append(refused_request(1)))
        forked = journal.checkpoint()
    for note in (notes[3], notes[len(notes) // 2]):
        verify(written / "journal", KEY, pinned=note, processes=2)
    with pytest.raises(IntegrityError, match="not those that were seen"):
        verify(written / "journal", KEY, pinned=forked, processes=2)


def test_a_log_of_another_key_is_refused_by_many(written: Path) -> None:
    with pytest.raises(IntegrityError):
        verify(written / "journal", b"y" * 32, processes=2)


def commits_of(base: Path) -> list[Commit]:
    return list(Reader(base / "journal", KEY).commits())


def first_bad(commits: list[Commit]) -> object:
    """By the book: every event against its predecessors, one by one."""
    chains = Chains()
    try:
        for commit in commits:
            for number, payload in enumerate(commit.payloads):
                event = read_event(payload, commit.first + number, NODE)
                if event.kind is EventKind.TenantHeads and event.facts != {
                    "root": chains.root().hex(), "tenants": chains.tenants,
                }:  # fmt: skip
                    return event.index
                chains.check(event.chains, event.index)
                chains.extend(event.chains, commit.leaves[number])
    except IntegrityError as refused:
        return refused.facts["index"]
    return None


CHANGES = (
    (b'"seq":1', b'"seq":2'),
    (b'"prev":"', b'"prev":"0'),
    (b'"prev":"a', b'"prev":"b'),
    (b'"tenants":', b'"tenants":1'),
    (b'"root":"', b'"root":"f'),
    (b"/v1/", b"/v2/"),
)


@given(st.data())
def test_spans_break_at_the_event_at_which_chains_break(written: Path, data: st.DataObject) -> None:
    """Events changed as only the holder of the log key could: chains and heads must tell."""
    commits = commits_of(written)
    for _ in range(data.draw(st.integers(0, 2))):
        commit = commits[data.draw(st.integers(0, len(commits) - 1))]
        place = data.draw(st.integers(0, len(commit.payloads) - 1))
        one, other = data.draw(st.sampled_from(CHANGES))
        changed = commit.payloads[place].replace(one, other, 1)
        commit.payloads[place] = changed
        commit.leaves[place] = leaf_hash(changed)
    chains, found = Chains(), None
    try:
        for commit in commits:
            for span in spans_of(commit, NODE):
                join(chains, span)
    except IntegrityError as refused:
        found = refused.facts["index"]
    assert found == first_bad(commits)
