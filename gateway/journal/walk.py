"""Walk through the files of a journal and hash every event into its tree."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field

from gateway.domain.merkle import leaf_hash
from gateway.journal import frames, segments
from gateway.journal.checkpoint import LogCheckpoint, origin_of
from gateway.journal.marks import Marks
from gateway.journal.segments import Segment
from gateway.journal.tree import LogTree

ENDS_KEPT = 16  # a crash leaves at most one commit without a signature


@dataclass(frozen=True, slots=True)
class End:
    """A LogCheckpoint as it stands in a file; its signature is not yet checked."""

    size: int
    segment: Segment
    offset: int  # right behind it
    note: bytes


@dataclass(slots=True)
class Found:
    """What the files hold, before anything is cut."""

    tree: LogTree = field(default_factory=LogTree)
    marks: Marks = field(default_factory=Marks)
    note: str | None = None  # the newest authentic LogCheckpoint
    size: int = 0  # events under it
    cut_bytes: int = 0  # never acknowledged bytes that an opening removes
    first_bad: int | None = None  # index of the first event that does not fit
    anchor_slot: int = 1
    commits: int = 0
    ends: deque[End] = field(default_factory=lambda: deque(maxlen=ENDS_KEPT))


def walk(found: Found, segment: Segment, node: str) -> None:
    """Hash every event of one file into the tree; stop at the first place that does not fit.

    Of the file that `found` ends in, only what comes behind that end.
    """
    last = found.ends[-1] if found.ends else None
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        begin = (
            last.offset if last and last.segment == segment else _enter(found, segment, node, fd)
        )
        if begin is not None:
            _walk_frames(found, segment, fd, begin, origin_of(node))
    except frames.BadFrame:
        found.first_bad = found.tree.size
    finally:
        os.close(fd)


def _enter(found: Found, segment: Segment, node: str, fd: int) -> int | None:
    """Where the first event stands; None = the file does not continue the tree."""
    tree, last = found.tree, found.ends[-1] if found.ends else None
    committed = last.size if last else 0
    if segment.first == committed == tree.size:  # else a file is missing, or the last has no end
        header = segments.read_header(fd)
        if (header.first, header.node, header.edge) == (tree.size, node, tree.edge()):
            if last:
                found.marks.end_file(last.offset)
            return header.end
    found.first_bad = committed
    return None


def _walk_frames(found: Found, segment: Segment, fd: int, begin: int, origin: str) -> None:
    tree, committed = found.tree, found.tree.size
    for kind, payload, end in frames.stream(fd, begin):
        if kind == frames.EVENT:
            tree.append(leaf_hash(payload))
        elif kind == frames.CHECKPOINT and _fits(payload, tree, origin):
            found.marks.add(committed, segment, begin)
            found.ends.append(End(tree.size, segment, end, payload))
            found.commits += 1
            committed, begin = tree.size, end
        else:  # one of the events since the last LogCheckpoint is not the one it fixed
            found.first_bad = committed
            return


def _fits(payload: bytes, tree: LogTree, origin: str) -> bool:
    expected = LogCheckpoint(origin=origin, size=tree.size, root=tree.root())
    return payload.startswith(expected.text.encode("ascii") + b"\n")
