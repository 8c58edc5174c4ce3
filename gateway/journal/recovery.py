"""What an opening finds: the longest signed prefix; a torn tail is cut, the rest is tampering.

Follows docs/formats/journal-v0.md §5. Bytes after the last authentic LogCheckpoint were never
acknowledged: they are cut. A damaged place before one, a header, root or chain that does not
fit, or a journal shorter than its anchor was acknowledged history: IntegrityError, and
nothing is changed on disk.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from gateway.domain.merkle import Tree, leaf_hash
from gateway.errors import IntegrityError
from gateway.journal import frames, segments
from gateway.journal.anchor import read_anchor, sync_directory
from gateway.journal.checkpoint import LogCheckpoint, find_beyond, open_checkpoint, origin_of
from gateway.journal.marks import Marks
from gateway.journal.segments import Segment

_ADVICE = "stop here: keep the files, and compare with a backup and with pinned LogCheckpoints"
_ENDS_KEPT = 16  # a crash leaves at most one commit without a signature


@dataclass(frozen=True, slots=True)
class _End:
    """A LogCheckpoint as it stands in a file; its signature is not yet checked."""

    size: int
    segment: Segment
    offset: int  # right behind it
    note: bytes


@dataclass(slots=True)
class Found:
    """What the files hold, before anything is cut."""

    tree: Tree = field(default_factory=Tree)
    marks: Marks = field(default_factory=Marks)
    note: str | None = None  # the newest authentic LogCheckpoint
    size: int = 0  # events under it
    cut_bytes: int = 0  # never acknowledged bytes that an opening removes
    first_bad: int | None = None  # index of the first event that does not fit
    anchor_slot: int = 1
    commits: int = 0
    ends: deque[_End] = field(default_factory=lambda: deque(maxlen=_ENDS_KEPT))


def survey(directory: Path, *, node: str, log_key: bytes, anchors: Path) -> Found:
    """Read and judge all files; changes nothing.

    Raises:
        IntegrityError: acknowledged history is damaged, missing or replaced; `index` of the
            facts names the first bad event.
        ConfigError: the files are of another format.
    """
    origin = origin_of(node)
    anchored = read_anchor(anchors, log_key, origin)
    files = segments.listed(directory)
    if files and anchored is None:
        raise _refusal("the journal has lost its anchor", 0)
    found = Found()
    for segment in files:
        if found.first_bad is None:
            _walk(found, segment, node)
    _choose(found, log_key, origin)
    _judge(found, files, log_key, origin)
    if anchored is not None:
        found.anchor_slot = anchored[1]
        _compare(found, anchored[0])
    return found


def _walk(found: Found, segment: Segment, node: str) -> None:
    """Hash every event of one file into the tree; stop at the first place that does not fit."""
    tree, origin = found.tree, origin_of(node)
    committed = begin = found.ends[-1].size if found.ends else 0
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if segment.first != tree.size or committed != tree.size:
            found.first_bad = committed  # a file is missing, or the one before has no end
            return
        header = segments.read_header(fd)
        begin = header.end
        if (header.first, header.node, header.edge) != (tree.size, node, tree.edge()):
            found.first_bad = committed  # it continues another history
            return
        for kind, payload, end in frames.stream(fd, begin):
            if kind == frames.EVENT:
                tree.append(leaf_hash(payload))
            elif kind == frames.CHECKPOINT and _fits(payload, tree, origin):
                found.marks.add(committed, segment, begin)
                found.ends.append(_End(tree.size, segment, end, payload))
                found.commits += 1
                committed, begin = tree.size, end
            else:  # one of the events since the last LogCheckpoint is not the one it fixed
                found.first_bad = committed
                return
    except frames.BadFrame:
        found.first_bad = tree.size
    finally:
        os.close(fd)


def _fits(payload: bytes, tree: Tree, origin: str) -> bool:
    expected = LogCheckpoint(origin=origin, size=tree.size, root=tree.root())
    return payload.startswith(expected.text.encode("ascii") + b"\n")


def _choose(found: Found, log_key: bytes, origin: str) -> None:
    """Walk back to the newest LogCheckpoint whose signature holds."""
    while found.ends:
        end = found.ends[-1]
        try:
            note = end.note.decode("utf-8")
            open_checkpoint(note, log_key, origin)
        except (IntegrityError, UnicodeDecodeError):
            found.ends.pop()
            continue
        found.note, found.size = note, end.size
        return
    if found.commits > _ENDS_KEPT:
        raise _refusal("the last LogCheckpoints of the journal are not authentic", 0)


def _judge(found: Found, files: list[Segment], log_key: bytes, origin: str) -> None:
    """Refuse unless everything behind the chosen LogCheckpoint is the tail of one commit."""
    last = found.ends[-1] if found.ends else None
    behind = files[files.index(last.segment) :] if last else files
    bad = found.size if found.first_bad is None else found.first_bad
    own_tail = 0
    for segment in behind:
        offset = last.offset if last and segment == last.segment else 0
        with segment.path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        if find_beyond(data, log_key, origin, found.size):
            raise _refusal(f"the journal was changed at event {bad}", bad)
        if last and segment == last.segment:
            own_tail = len(data)
        found.cut_bytes += len(data)
    begun = len(behind) - (1 if last else 0)  # files that end without any LogCheckpoint
    if begun > 1 or (begun and own_tail):  # a next file begins only behind a whole commit
        raise _refusal(f"the journal is damaged at event {bad}", bad)


def _compare(found: Found, anchor: LogCheckpoint) -> None:
    if found.size < anchor.size:
        bad = found.size if found.first_bad is None else min(found.first_bad, anchor.size)
        raise _refusal(
            f"the journal holds {found.size} signed events; its anchor has seen {anchor.size}", bad
        )
    if found.tree.root(anchor.size) != anchor.root:
        raise _refusal(f"the first {anchor.size} events are not those the anchor has seen", 0)


def _refusal(message: str, index: int) -> IntegrityError:
    return IntegrityError(message, advice=_ADVICE, index=index)


def cut(directory: Path, found: Found) -> tuple[Segment, int] | None:
    """Remove, durably, what `survey` allows to be cut.

    Returns:
        The file to go on in and its size in bytes; None when a new one has to begin.
    """
    last = found.ends[-1] if found.ends else None
    for segment in segments.listed(directory):
        if last is None or segment.first > last.segment.first:
            segment.path.unlink()
    if last is not None and last.segment.path.stat().st_size != last.offset:
        fd = os.open(last.segment.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, last.offset)
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_directory(directory)
    found.tree.truncate(found.size)
    found.marks.truncate(found.size)
    return (last.segment, last.offset) if last else None
