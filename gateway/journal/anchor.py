"""The newest LogCheckpoint, kept in another directory than the journal (failure domain).

A file of two slots, written in turn and each padded with NUL, so that a torn write leaves the
other one. It is a lower bound: a journal that is shorter, or differs below it, was rolled back
or replaced and does not open. Written before each acknowledgement, synced once a second and
at close: after a power loss it may lag, after a `kill -9` it does not.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import IntegrityError, InvalidInput
from gateway.journal.checkpoint import LogCheckpoint, open_checkpoint

SLOT_BYTES = 1024
FILE_NAME = "anchor"


class Anchor:
    """The open anchor of one log."""

    def __init__(self, directory: Path) -> None:
        """Open the file in `directory`, or create it (0600) with both slots empty."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / FILE_NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._turn = 0
        if os.fstat(self._fd).st_size < 2 * SLOT_BYTES:
            os.posix_fallocate(self._fd, 0, 2 * SLOT_BYTES)
            os.fsync(self._fd)
            sync_directory(directory)

    def write(self, note: str) -> None:
        """Put `note` into the older slot (in the page cache; see `sync`)."""
        data = note.encode("utf-8")
        if len(data) > SLOT_BYTES:
            raise InvalidInput("a LogCheckpoint is too long for the anchor")
        padded = data.ljust(SLOT_BYTES, b"\0")
        if os.pwrite(self._fd, padded, self._turn * SLOT_BYTES) != SLOT_BYTES:
            raise OSError("the anchor took only a part of a LogCheckpoint")
        self._turn ^= 1

    def sync(self) -> None:
        """Make what was written durable."""
        os.fdatasync(self._fd)

    def take_turn_after(self, kept: int) -> None:
        """Write the next note into the slot that is not `kept`."""
        self._turn = kept ^ 1

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            os.close(self._fd)


def read_anchor(
    directory: Path, log_key: bytes, origin: str
) -> tuple[LogCheckpoint, int, str] | None:
    """The newest authentic LogCheckpoint of the anchor, its slot and its note.

    Returns:
        None when there is no anchor, or both slots are still empty (a log being created).

    Raises:
        IntegrityError: something stands there and none of it is authentic.
    """
    try:
        data = (directory / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return None
    if not data.strip(b"\0"):
        return None
    found: list[tuple[LogCheckpoint, int, str]] = []
    problem: Exception | None = None
    for slot in (0, 1):
        part = data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES].rstrip(b"\0")
        try:
            note = part.decode("utf-8")
            found.append((open_checkpoint(note, log_key, origin), slot, note))
        except (IntegrityError, UnicodeDecodeError) as error:
            problem = error  # one torn or empty slot is what a crash leaves
    if not found:
        raise IntegrityError(
            "the anchor holds no LogCheckpoint of this log and key",
            advice="use the log key and the anchor directory that belong to this journal",
        ) from problem
    return max(found, key=lambda item: item[0].size)


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed names durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
