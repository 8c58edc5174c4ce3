"""Memory for segments that is used again when nobody looks at it any more.

Fresh memory costs ten times the copy that fills it (page faults). A buffer comes back by
itself, when the last array, slice or Arrow buffer over it is gone: a batch that the caller
keeps stays as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from collections import deque
from collections.abc import Callable

_GRAIN = 2 << 20  # a huge page: one fault instead of 512
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Buffers:
    """Lends memory, and keeps the newest `keep` buffers that nobody uses."""

    def __init__(self, keep: int, claim: Callable[[int], None] = lambda _: None) -> None:
        """Start without any; `claim` is told how many bytes are wanted, and may raise."""
        self._claim = claim
        self._free: deque[mmap.mmap] = deque(maxlen=keep)  # its methods are atomic: see _give_back

    def lend(self, length: int) -> memoryview:
        """Return `length` writable bytes, page-aligned; what they hold is left from before."""
        self._claim(length)
        memory = self._take(length)
        owner = (ctypes.c_char * len(memory)).from_buffer(memory)
        # Called in whatever thread lets go last, at any moment: no lock can be taken in it.
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return memoryview(owner).cast("B")[:length]

    def _take(self, length: int) -> mmap.mmap:
        while self._free:
            try:
                memory = self._free.pop()
            except IndexError:
                break
            if len(memory) >= length:
                return memory
        memory = mmap.mmap(-1, max(length, 1) + -length % _GRAIN, flags=_PRIVATE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                memory.madvise(mmap.MADV_HUGEPAGE)
        return memory
