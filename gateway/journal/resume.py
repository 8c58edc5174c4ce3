"""Take up the journal where a snapshot left it, without reading the events before.

A snapshot is signed and sealed, and may still be of another history, older, or vouch for files
that were changed since. What is checked here is cheap: of every closed file its name, its size,
its header, and that it ends with an authentic LogCheckpoint over what the next header says; the
file that was open then is hashed whole. Whatever differs is an IntegrityError, and the caller
reads the whole journal instead. An event changed in the middle of a closed file passes: it is
noticed when it is read (tree.py), and by `verify`.
"""

from __future__ import annotations

import os

from gateway.domain.merkle import Frontier, leaf_hash
from gateway.errors import IntegrityError, InvalidInput
from gateway.journal import frames, segments
from gateway.journal.checkpoint import LogCheckpoint, find_beyond, open_checkpoint, origin_of
from gateway.journal.marks import Marks
from gateway.journal.memory import Memory
from gateway.journal.segments import Header, Segment
from gateway.journal.tree import LogTree
from gateway.journal.walk import End, Found

_END_BYTES = 1024  # a LogCheckpoint is shorter


def take_up(memory: Memory, files: list[Segment], node: str, log_key: bytes) -> Found:
    """As if every event under the snapshot's LogCheckpoint had been read.

    Raises:
        IntegrityError: the files do not begin with what the snapshot has seen.
        ConfigError: they are of another format.
    """
    then = open_checkpoint(memory.note, log_key, origin_of(node))
    old = files[: len(memory.firsts)]
    if tuple(segment.first for segment in old) != memory.firsts or not old:
        raise _differs("files are missing, or others are there")
    try:
        headers = [_header(segment, node) for segment in old]
        for number, segment in enumerate(old[:-1]):
            _check_closed(segment, memory.sizes[number], headers[number + 1], log_key)
        _check_open(old[-1], headers[-1], memory.sizes[-1], then)
    except (frames.BadFrame, InvalidInput) as cause:
        raise _differs("a file is damaged") from cause
    return _found(memory, old, then)


def _found(memory: Memory, old: list[Segment], then: LogCheckpoint) -> Found:
    columns = (memory.mark_indexes, memory.mark_files, memory.mark_offsets)
    marks = Marks.restored(old, list(memory.sizes), columns)
    tree = LogTree(bytes.fromhex(memory.blocks), bytes.fromhex(memory.leaves), marks.leaves)
    if (tree.size, tree.root()) != (then.size, then.root):
        raise _differs("it holds another tree than its LogCheckpoint")
    found = Found(tree=tree, marks=marks, commits=1)
    found.ends.append(End(then.size, old[-1], memory.sizes[-1], memory.note.encode()))
    return found


def _header(segment: Segment, node: str) -> Header:
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = segments.read_header(fd)
    finally:
        os.close(fd)
    if (header.first, header.node) != (segment.first, node):
        raise _differs("a file has another header")
    return header


def _check_closed(segment: Segment, size: int, following: Header, log_key: bytes) -> None:
    """The file ends, at its size, with a signature over the tree that the next one continues."""
    with segment.path.open("rb") as file:
        if file.seek(0, os.SEEK_END) != size:
            raise _differs("a file has another size")
        file.seek(max(size - _END_BYTES, 0))
        end = file.read()
    root = Frontier(following.first, following.edge).root()
    found = find_beyond(end, log_key, origin_of(following.node), following.first - 1)
    if found is None or (found.size, found.root) != (following.first, root):
        raise _differs("a file ends with another LogCheckpoint")


def _check_open(segment: Segment, header: Header, size: int, then: LogCheckpoint) -> None:
    """The events up to `size` bytes lead from the header to the snapshot's LogCheckpoint."""
    frontier, at = Frontier(header.first, header.edge), header.end
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for kind, payload, end in frames.stream(fd, at):
            if end > size:
                break
            at = end
            if kind == frames.EVENT:
                frontier.append(leaf_hash(payload))
    finally:
        os.close(fd)
    if (at, frontier.size, frontier.root()) != (size, then.size, then.root):
        raise _differs("the last file holds other events")


def _differs(what: str) -> IntegrityError:
    return IntegrityError(f"the snapshot does not fit the journal: {what}")
