"""Read a journal from outside its writer: follow its signed prefix.

Nothing is believed before a LogCheckpoint signed by the log key covers it, and nothing is
written. Bytes behind the last LogCheckpoint are a commit in progress or a torn tail: not yet
there. Damaged bytes before one are IntegrityError, with the first bad index in its facts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gateway.domain.events import Event
from gateway.domain.merkle import EMPTY_ROOT, Frontier, leaf_hash
from gateway.errors import IntegrityError, NotFound
from gateway.journal import frames, segments
from gateway.journal.checkpoint import (
    LogCheckpoint,
    find_beyond,
    open_checkpoint,
    origin_of,
    parse_checkpoint,
)
from gateway.journal.composer import read_event
from gateway.journal.segments import Header, Segment

__all__ = ["Reader", "parse_checkpoint", "tail"]


@dataclass(slots=True)
class _Place:
    """Right behind an authentic LogCheckpoint, or at the beginning of a file."""

    segment: Segment
    offset: int
    frontier: Frontier
    node: str
    header: Header
    before: _Place | None = None  # the end of the last file, until a commit of this one was read


@dataclass(slots=True)
class Commit:
    """The events under one more LogCheckpoint, verified."""

    first: int
    payloads: list[bytes]
    leaves: list[bytes]
    note: str


@dataclass(frozen=True, slots=True)
class FileRead:
    """Up to where one file was read and held, and what its header says of the files before."""

    first: int  # event
    before: tuple[bytes, ...]  # right edge of the tree before it
    size: int  # events of the journal, those of the file included
    edge: tuple[bytes, ...]  # right edge of the tree of that many
    offset: int  # bytes of the file
    node: str


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
        for index, payload, leaf in self.leaves(start):
            yield read_event(payload, index, self.node), leaf

    def leaves(self, start: int) -> Iterator[tuple[int, bytes, bytes]]:
        """`tail` without reading the events: index, canonical bytes, leaf hash."""
        if self._place is None or start < self._place.frontier.size:
            self._place = None
            if not self.seek(start):
                return
        for commit in self.commits():
            for index, (payload, leaf) in enumerate(
                zip(commit.payloads, commit.leaves, strict=True), commit.first
            ):
                if index >= start:
                    yield index, payload, leaf

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
            if not self.enter_next():
                return

    def rest_of_file(self) -> Iterator[Commit]:
        """Every further verified commit of the file in which this one stands."""
        if self._place is not None:
            yield from self._in_file(self._place)

    def read(self) -> FileRead:
        """How far this one has come in its file."""
        place = self._place
        if place is None:
            raise NotFound("the journal has no events yet")
        return FileRead(place.segment.first, place.header.edge, place.frontier.size,
                        place.frontier.edge, place.offset, place.node)  # fmt: skip

    def take_over(self, read: FileRead) -> bool:
        """Stand where another reader of the same file has come; False = it is another file."""
        place, here = self._place, self.read()
        if (here.first, here.before, here.node) != (read.first, read.before, read.node):
            return False
        assert place is not None
        place.frontier, place.offset = Frontier(read.size, read.edge), read.offset
        place.before = None
        return True

    def enter_next(self) -> bool:
        """Go to the next file if this one is read to its end; the next must continue it."""
        following = self._next_file(self._place) if self._place else None
        if following is not None:
            self._place = following
        return following is not None

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
            raise damage(
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
                raise damage("the journal is shorter than it was", place.frontier.size)
            for payloads, kind, note, end in frames.runs(fd, place.offset):
                first, edge = place.frontier.size, place.frontier.edge
                trial = Frontier(first, edge)
                leaves = list(map(leaf_hash, payloads))
                trial.extend(leaves)
                text = self._checked(kind, note, trial, place)
                place.frontier, place.offset, place.before = trial, end, None
                yield Commit(first, payloads, leaves, text)
        except frames.BadFrame:
            self._refusedamage(place)
        finally:
            os.close(fd)

    def _checked(self, kind: int, payload: bytes, trial: Frontier, place: _Place) -> str:
        origin, first = origin_of(place.node), place.frontier.size
        expected = LogCheckpoint(origin=origin, size=trial.size, root=trial.root())
        try:
            note = payload.decode("utf-8")
            found = open_checkpoint(note, self._key, origin)
        except (IntegrityError, UnicodeDecodeError) as cause:
            raise damage(f"the LogCheckpoint behind event {first} is forged", first) from cause
        if kind != frames.CHECKPOINT or found != expected:
            raise damage(f"an event from {first} on is not the one that was signed", first)
        return note

    def _refusedamage(self, place: _Place) -> None:
        """Bad bytes are damage when an authentic LogCheckpoint or a next file follows them.

        The writer may have gone on since: a next file that is seen first proves that what is
        read afterwards is whole, and the bytes are judged as they were read together.
        """
        followed = bool(segments.following(self._directory, place.segment.first))
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
                raise damage(f"the journal was changed at event {bad}", bad) from None

    def _next_file(self, place: _Place) -> _Place | None:
        size = place.frontier.size
        later = segments.following(self._directory, place.segment.first)
        if not later:
            return None
        try:
            following = _begin(later[0])
        except frames.BadFrame:
            if len(later) > 1:
                raise damage(f"the file behind event {size} is damaged", size) from None
            return None  # it is being created
        if place.segment.path.stat().st_size != place.offset:
            return None  # written to since we looked; come back
        same = following.frontier.edge == place.frontier.edge and following.node == place.node
        if later[0].first != size or not same:
            raise damage(f"the file behind event {size} continues another history", size)
        following.before = place
        return following


def _begin(segment: Segment) -> _Place:
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = segments.read_header(fd)
    finally:
        os.close(fd)
    if header.first != segment.first or header.first.bit_count() != len(header.edge):
        raise damage(f"the file of event {segment.first} has another header", segment.first)
    frontier = Frontier(header.first, header.edge)
    return _Place(segment, header.end, frontier, header.node, header)


def damage(message: str, index: int) -> IntegrityError:
    """Acknowledged history that does not hold, from event `index` on."""
    return IntegrityError(message, index=index)


@lru_cache(maxsize=8)
def _reader(directory: Path, log_key: bytes) -> Reader:
    """One per journal in a process, so that a repeated `tail` goes on where it was."""
    return Reader(directory, log_key)


def tail(directory: Path, log_key: bytes, start: int) -> Iterator[tuple[Event, bytes]]:
    """`Reader.tail` of the process's one Reader of this journal: for one following thread."""
    return _reader(Path(directory), log_key).tail(start)
