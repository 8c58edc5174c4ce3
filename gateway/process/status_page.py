"""The one page of memory that control writes and every data worker reads (DESIGN §4a).

It holds the PolicyEpoch, a heartbeat and the durable journal index, so that a worker can
compare them before every chunk for the price of a memory read. 8-byte aligned words are
written whole on the 64-bit machines we run on; each word is independent of the others.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading
import time

_BYTES = mmap.PAGESIZE
_EPOCH, _HEARTBEAT, _DURABLE = 0, 1, 2
HEARTBEAT_SECONDS = 0.1
HEARTBEAT_STALE_SECONDS = 1.0


def create() -> int:
    """Return the file descriptor of a new zeroed page (anonymous; dies with its users)."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("gateway-status", os.MFD_CLOEXEC)
    else:  # macOS: an unlinked file does the same
        fd, path = tempfile.mkstemp()
        os.unlink(path)  # noqa: PTH108 - beside mkstemp
    os.ftruncate(fd, _BYTES)
    return fd


class StatusWriter:
    """Control's side."""

    def __init__(self, fd: int) -> None:
        """Map `fd` for writing; the descriptor may be closed afterwards."""
        self._map = mmap.mmap(fd, _BYTES)
        self._words = (ctypes.c_uint64 * 8).from_buffer(self._map)
        self._stop = threading.Event()

    def set_policy_epoch(self, epoch: int) -> None:
        """Publish the PolicyEpoch; workers act on it before their next chunk."""
        self._words[_EPOCH] = epoch

    def set_durable(self, size: int) -> None:
        """Publish how many journal events are durable."""
        self._words[_DURABLE] = size

    def beat(self) -> None:
        """Say: control is alive (CLOCK_MONOTONIC nanoseconds, shared by all processes)."""
        self._words[_HEARTBEAT] = time.monotonic_ns()

    def start_heart(self) -> None:
        """Beat from a thread of its own, so that a busy event loop is not a dead control."""
        self.beat()
        threading.Thread(target=self._heart, name="heart", daemon=True).start()

    def stop_heart(self) -> None:
        """Stop beating; workers stop all streams within HEARTBEAT_STALE_SECONDS."""
        self._stop.set()

    def _heart(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self.beat()


class StatusReader:
    """A worker's side: read only."""

    def __init__(self, fd: int) -> None:
        """Map `fd` read-only."""
        self._map = mmap.mmap(fd, _BYTES, prot=mmap.PROT_READ)
        self._words = memoryview(self._map).cast("Q")

    @property
    def policy_epoch(self) -> int:
        """The PolicyEpoch in force."""
        return self._words[_EPOCH]

    @property
    def durable(self) -> int:
        """Number of durable journal events."""
        return self._words[_DURABLE]

    @property
    def is_alive(self) -> bool:
        """Whether control beat within the last HEARTBEAT_STALE_SECONDS."""
        age = time.monotonic_ns() - self._words[_HEARTBEAT]
        return age < HEARTBEAT_STALE_SECONDS * 1e9
