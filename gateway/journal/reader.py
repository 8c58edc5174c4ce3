"""Read a journal from outside its writer: follow the signed prefix, or verify all of it.

Nothing is believed before a LogCheckpoint signed by the log key covers it, and nothing is
written. Bytes behind the last LogCheckpoint are a commit in progress or a torn tail: not yet
there. Damaged bytes before one are IntegrityError, with the first bad index in its facts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from gateway.domain.events import Event, EventKind
from gateway.domain.merkle import EMPTY_ROOT, Frontier, leaf_hash
from gateway.domain.spelled import spelled
from gateway.errors import IntegrityError, NotFound
from gateway.journal import frames, segments
from gateway.journal.anchor import read_anchor
from gateway.journal.chains import Chains
from gateway.journal.checkpoint import (
    LogCheckpoint,
    find_beyond,
    open_checkpoint,
    origin_of,
    parse_checkpoint,
)
from gateway.journal.composer import read_event
from gateway.journal.segments import Segment

__all__ = ["Reader", "Verified", "parse_checkpoint", "tail", "verify"]

Progress = Callable[[float, str], None]  # 0..1 and words


@dataclass(slots=True)
class _Place:
    """Right behind an authentic LogCheckpoint, or at the beginning of a file."""

    segment: Segment
    offset: int
    frontier: Frontier
    node: str
    before: _Place | None = None  # the end of the last file, until a commit of this one was read


@dataclass(slots=True)
class Commit:
    """The events under one more LogCheckpoint, verified."""

    first: int
    payloads: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    note: str = ""


class Reader:
    """Remembers how far it has verified; for one thread."""

    def __init__(self, directory: Path, log_key: bytes) -> None:
        """Read the journal in `directory`, signed by the log key (32 bytes)."""
        self._directory = directory
        self._key = log_key
        self._place: _Place | None = None

    def tail(self, start: int) -> Iterator[tuple[Event, bytes]]:
        """Each signed event from index `start` on, with its leaf hash; ends where they end.

        Call it again with the next index: it goes on where it was. Events come without actor
        and details, which need keys.

        Raises:
            IntegrityError: what was acknowledged is damaged, or shorter than it was.
        """
        if self._place is None or start < self._place.frontier.size:
            self._place = None
            if not self.seek(start):
                return
        for commit in self.commits():
            for number, payload in enumerate(commit.payloads):
                index = commit.first + number
                if index >= start:
                    yield read_event(payload, index, self.node), commit.leaves[number]

    @property
    def node(self) -> str:
        """Whose journal it is."""
        if self._place is None:
            raise NotFound("the journal has no events yet")
        return self._place.node

    @property
    def size(self) -> int:
        """Events verified so far (all before the file where it began are taken as signed)."""
        return self._place.frontier.size if self._place else 0

    @property
    def root(self) -> bytes:
        """Root of the events so far, as the LogCheckpoint signs it."""
        return self._place.frontier.root() if self._place else EMPTY_ROOT

    def head(self) -> tuple[str, int, bytes]:
        """Node, size and root of the newest LogCheckpoint verified; for any thread."""
        place = self._place
        if place is None:
            raise NotFound("the journal has no events yet")
        frontier = place.frontier  # replaced whole, never changed
        return place.node, frontier.size, frontier.root()

    def unsigned_bytes(self) -> int:
        """Bytes behind the last LogCheckpoint: a commit in progress, or a tail to be cut."""
        if self._place is None:
            return 0
        first = self._place.segment.first
        later = [s for s in segments.listed(self._directory) if s.first >= first]
        return sum(s.path.stat().st_size for s in later) - self._place.offset

    def commits(self) -> Iterator[Commit]:
        """Every further verified commit that is there now."""
        if self._place is None and not self.seek(0):
            return
        assert self._place is not None
        while True:
            self._leave_what_was_cut()
            yield from self._in_file(self._place)
            following = self._next_file(self._place)
            if following is None:
                return
            self._place = following

    def seek(self, start: int) -> bool:
        """Stand at the beginning of the file that holds event `start`; False = not there yet."""
        if not self._directory.is_dir():
            return False
        files = [s for s in segments.listed(self._directory) if s.first <= max(start, 0)]
        if not files:
            return False
        try:
            self._place = _begin(files[-1])
        except frames.BadFrame as bad:
            if bad.is_short and files[-1] == segments.listed(self._directory)[-1]:
                return False  # the file is being created
            raise _damage(
                f"the file of event {files[-1].first} is damaged", files[-1].first
            ) from bad
        return True

    def _leave_what_was_cut(self) -> None:
        """A file without a signed event may be gone when its writer was killed and came back."""
        place = self._place
        if place and place.before and not place.segment.path.exists():
            self._place = place.before

    def _in_file(self, place: _Place) -> Iterator[Commit]:
        fd = os.open(place.segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < place.offset:
                self._place = None
                raise _damage("the journal is shorter than it was", place.frontier.size)
            trial = Frontier(place.frontier.size, place.frontier.edge)
            commit = Commit(trial.size)
            for kind, payload, end in frames.stream(fd, place.offset):
                if kind == frames.EVENT:
                    leaf = leaf_hash(payload)
                    trial.append(leaf)
                    commit.payloads.append(payload)
                    commit.leaves.append(leaf)
                    continue
                commit.note = self._checked(kind, payload, trial, place)
                place.frontier = Frontier(trial.size, trial.edge)
                place.offset, place.before = end, None
                yield commit
                commit = Commit(trial.size)
        except frames.BadFrame:
            self._refuse_damage(place)
        finally:
            os.close(fd)

    def _checked(self, kind: int, payload: bytes, trial: Frontier, place: _Place) -> str:
        origin, first = origin_of(place.node), place.frontier.size
        expected = LogCheckpoint(origin=origin, size=trial.size, root=trial.root())
        try:
            note = payload.decode("utf-8")
            found = open_checkpoint(note, self._key, origin)
        except (IntegrityError, UnicodeDecodeError) as cause:
            raise _damage(f"the LogCheckpoint behind event {first} is forged", first) from cause
        if kind != frames.CHECKPOINT or found != expected:
            raise _damage(f"an event from {first} on is not the one that was signed", first)
        return note

    def _refuse_damage(self, place: _Place) -> None:
        """Bad bytes are damage when an authentic LogCheckpoint or a next file follows them.

        The writer may have gone on since: a next file that is seen first proves that what is
        read afterwards is whole, and the bytes are judged as they were read together.
        """
        followed = any(s.first > place.segment.first for s in segments.listed(self._directory))
        with place.segment.path.open("rb") as file:
            file.seek(place.offset)
            rest = file.read()
        size = place.frontier.size
        bad, at = size, 0
        try:
            for kind, _, end in frames.scan(rest):
                bad, at = bad + (kind == frames.EVENT), end
        except frames.BadFrame:
            if followed or find_beyond(rest[at:], self._key, origin_of(place.node), size):
                raise _damage(f"the journal was changed at event {bad}", bad) from None

    def _next_file(self, place: _Place) -> _Place | None:
        size = place.frontier.size
        later = [s for s in segments.listed(self._directory) if s.first > place.segment.first]
        if not later:
            return None
        try:
            following = _begin(later[0])
        except frames.BadFrame:
            if len(later) > 1:
                raise _damage(f"the file behind event {size} is damaged", size) from None
            return None  # it is being created
        if place.segment.path.stat().st_size != place.offset:
            return None  # written to since we looked; come back
        same = following.frontier.edge == place.frontier.edge and following.node == place.node
        if later[0].first != size or not same:
            raise _damage(f"the file behind event {size} continues another history", size)
        following.before = place
        return following


def _begin(segment: Segment) -> _Place:
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = segments.read_header(fd)
    finally:
        os.close(fd)
    if header.first != segment.first or header.first.bit_count() != len(header.edge):
        raise _damage(f"the file of event {segment.first} has another header", segment.first)
    frontier = Frontier(header.first, header.edge)
    return _Place(segment, header.end, frontier, header.node)


def _damage(message: str, index: int) -> IntegrityError:
    return IntegrityError(message, index=index)


@lru_cache(maxsize=8)
def _reader(directory: Path, log_key: bytes) -> Reader:
    """One per journal in a process, so that a repeated `tail` goes on where it was."""
    return Reader(directory, log_key)


def tail(directory: Path, log_key: bytes, start: int) -> Iterator[tuple[Event, bytes]]:
    """`Reader.tail` of the process's one Reader of this journal: for one following thread."""
    return _reader(Path(directory), log_key).tail(start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What `verify` found true."""

    size: int  # events
    root: bytes
    note: str  # the newest LogCheckpoint
    commits: int
    unsigned_bytes: int  # behind it: a commit in progress, or a tail to be cut


def verify(
    directory: Path,
    log_key: bytes,
    anchor: Path | None = None,
    progress: Progress | None = None,
    pinned: str | None = None,
) -> Verified:
    """Read everything: frames, canonical events, chains, TenantHeads, tree, every signature.

    Args:
        directory: of the journal.
        log_key: 32-byte public key, from a place that the journal's owner cannot write.
        anchor: directory of the anchor; the journal must extend what it has seen.
        progress: called now and then with the share done and words.
        pinned: a LogCheckpoint note kept elsewhere; the journal must extend it too.

    Raises:
        IntegrityError: something does not hold; `index` is the first bad event.
        NotFound: there is no journal.
    """
    reader, chains = Reader(directory, log_key), Chains()
    found = _Totals(sum(s.path.stat().st_size for s in _files(directory)))
    known: dict[int, bytes] = {}
    wanted = _pins(reader, log_key, anchor, pinned)
    for commit in reader.commits():
        _check_events(commit, reader.node, chains)
        found.take(commit)
        if reader.size in wanted:
            known[reader.size] = reader.root
        if progress is not None:
            progress(found.share, f"{reader.size} events")
    _check_pins(wanted, known, reader.size)
    return Verified(
        size=reader.size,
        root=reader.root,
        note=found.note,
        commits=found.commits,
        unsigned_bytes=reader.unsigned_bytes(),
    )


@dataclass(slots=True)
class _Totals:
    bytes_all: int
    bytes_done: int = 0
    note: str = ""
    commits: int = 0

    def take(self, commit: Commit) -> None:
        self.bytes_done += sum(map(len, commit.payloads))
        self.note = commit.note
        self.commits += 1

    @property
    def share(self) -> float:
        return min(self.bytes_done / max(self.bytes_all, 1), 1.0)


def _files(directory: Path) -> list[Segment]:
    files = segments.listed(directory) if directory.is_dir() else []
    if not files:
        raise NotFound(f"there is no journal in `{directory}`")
    if files[0].first != 0:
        raise _damage("the first file of the journal is missing", 0)
    return files


def _check_events(commit: Commit, node: str, chains: Chains) -> None:
    """Every event is canonical, of a known kind with its facts, and continues its chains."""
    name = node.encode("ascii")
    for index, (payload, leaf) in enumerate(
        zip(commit.payloads, commit.leaves, strict=True), commit.first
    ):
        links = spelled(payload, index, name)
        if links:
            chains.follow(links, leaf, index)
        else:  # rare kinds, and TenantHeads, which concerns nobody
            _check_event(read_event(payload, index, node), chains, leaf)


def _check_event(event: Event, chains: Chains, leaf: bytes) -> None:
    if event.kind is EventKind.TenantHeads:
        facts = {"root": chains.root().hex(), "tenants": chains.tenants}
        if event.facts != facts:
            raise _damage(f"event {event.index} fixes other tenant heads", event.index)
    chains.check(event.chains, event.index)
    chains.extend(event.chains, leaf)


def _pins(
    reader: Reader, log_key: bytes, anchor: Path | None, pinned: str | None
) -> dict[int, bytes]:
    """Size to root of every LogCheckpoint from outside that the journal must extend."""
    if not reader.seek(0):
        raise _damage("the journal has no readable beginning", 0)
    origin = origin_of(reader.node)
    wanted = [open_checkpoint(pinned, log_key, origin)] if pinned else []
    if anchor is not None:
        seen = read_anchor(anchor, log_key, origin)
        if seen is None:
            raise _damage("the journal has lost its anchor", 0)
        wanted.append(seen[0])
    roots: dict[int, bytes] = {}
    for checkpoint in wanted:
        if roots.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
            raise _damage("two LogCheckpoints from outside contradict each other", 0)
    return {size: root for size, root in roots.items() if size}


def _check_pins(wanted: dict[int, bytes], known: dict[int, bytes], size: int) -> None:
    for pinned, root in wanted.items():
        if pinned > size:
            raise _damage(f"the journal ends at event {size}; {pinned} were seen", size)
        if known.get(pinned) != root:
            raise _damage(f"the first {pinned} events are not those that were seen", 0)
