"""Segment files of a journal directory: their names, headers and order.

A file is named by the index of its first event (20 digits, `.log`), begins with the magic
line and a header frame {edge, first, node}, and ends, once the next one exists, right after
a LogCheckpoint. One process writes; it holds the lock file.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway import failpoints
from gateway.domain.events import canonical
from gateway.errors import ConfigError, Unavailable
from gateway.journal import frames
from gateway.journal.anchor import sync_directory

SEGMENT_BYTES = 64 << 20  # a new file is begun after the commit that passes this size
LOCK_NAME = "lock"
_NAME, _NAME_OF = re.compile(r"[0-9]{20}\.log\Z"), "{:020d}.log"  # in order as text, too
_FORMAT_STEM = b"gateway-journal/"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file and the index of its first event."""

    path: Path
    first: int


def listed(directory: Path) -> list[Segment]:
    """The segment files in order of their first index; other files are none of ours."""
    return [_segment(directory, name) for name in sorted(_names(directory))]


def following(directory: Path, first: int) -> list[Segment]:
    """The next files behind the one that begins at `first`, two at most.

    Who reads file after file asks this for each of them, and a follower at each look.
    """
    here = _NAME_OF.format(first)
    later = (name for name in _names(directory) if name > here)
    return [_segment(directory, name) for name in heapq.nsmallest(2, later)]


def _names(directory: Path) -> Iterator[str]:
    names = os.listdir(directory)  # noqa: PTH208 - a Path for each of them costs ten times as much
    return (name for name in names if _NAME.match(name))


def _segment(directory: Path, name: str) -> Segment:
    return Segment(directory / name, int(name[:20]))


def create(directory: Path, *, first: int, node: str, edge: Sequence[bytes]) -> tuple[Segment, int]:
    """Begin a durable new file; returns it and a descriptor that stands at its end."""
    segment = Segment(directory / _NAME_OF.format(first), first)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(segment.path, flags, 0o600)
    failpoints.reach("journal.file")
    write_all(fd, frames.MAGIC + frames.frame(frames.HEADER, _header(first, node, edge)))
    os.fsync(fd)
    sync_directory(directory)
    return segment, fd


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its place: believed only below a signature over the whole tree."""

    first: int  # index of the first event
    node: str
    edge: tuple[bytes, ...]  # right edge of the tree of the events before
    end: int  # offset of the first frame behind the header


def read_header(fd: int) -> Header:
    """Read magic and header of a file.

    Raises:
        BadFrame: the file ends before its header does, or begins with other bytes.
        ConfigError: another format.
    """
    start = len(frames.MAGIC)
    magic = os.pread(fd, 64, 0)
    if not magic.startswith(frames.MAGIC):
        name, newline, _ = magic.partition(b"\n")
        if name.startswith(_FORMAT_STEM) and newline:
            raise ConfigError(
                f"the journal is of format `{name.decode('ascii', 'replace')}`;"
                f" this gateway reads `{frames.MAGIC.decode().strip()}`",
                advice="use the release that wrote it, or begin a new state directory",
            )
        raise frames.BadFrame(0, is_short=True)
    kind, payload, end = next(frames.stream(fd, start), (0, b"", start))
    try:
        fields = json.loads(payload if kind == frames.HEADER else b"{}")
        edge = tuple(bytes.fromhex(part) for part in fields["edge"])
        header = Header(int(fields["first"]), str(fields["node"]), edge, end)
    except (ValueError, TypeError, KeyError) as cause:
        raise frames.BadFrame(start, is_short=True) from cause
    if payload != _header(header.first, header.node, header.edge):
        raise frames.BadFrame(start, is_short=True)
    return header


def _header(first: int, node: str, edge: Sequence[bytes]) -> bytes:
    return canonical({"edge": [part.hex() for part in edge], "first": first, "node": node})


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; os.write may take only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def lock(directory: Path) -> int:
    """Take the directory for this process; the lock ends with the descriptor.

    Raises:
        Unavailable: another process writes this journal.
    """
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        os.close(fd)
        raise Unavailable(
            f"another process writes the journal in `{directory}`",
            advice="stop that gateway, or use another state directory",
        ) from cause
    return fd
