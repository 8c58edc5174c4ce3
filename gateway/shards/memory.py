"""Let a child's memory follow its data without asking the system for every buffer.

Fresh pages are the largest cost of moving data (a fault per 4 KiB); Arrow's own pool keeps a
bounded amount of freed memory for reuse, glibc is told to do the same for large blocks.
"""

from __future__ import annotations

import contextlib
import ctypes

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 16 << 20


def keep_small() -> None:
    """Bound what glibc keeps of freed memory, in few arenas."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return what Arrow's pool keeps of freed memory: before a block as large as that may be."""
    pa.default_memory_pool().release_unused()
