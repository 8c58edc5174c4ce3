"""Memory in which batches are put together, and which is used again, in the next pass too.

Fresh memory costs more than the copy that fills it (page faults). It is cut into trays of
some consecutive batches. A tray comes back by itself, when the last array, slice or Arrow
buffer over it is gone: a batch that the caller keeps stays as it is.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidInput

KEPT_MAX = 8  # trays that a caller keeps; of what he keeps beyond he is given copies
TRAY_BYTES = 1 << 20  # of several batches, if they are smaller
MEMORY_BYTES_MAX = 512 << 20  # of a stream; more only if one segment of each lane needs it
_GRAIN = 2 << 20  # a huge page: one fault instead of 512
_UNRESERVED = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE: few trays are ever filled
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _UNRESERVED
_WORDS = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """One column of a batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]  # of one row

    @cached_property
    def width(self) -> int:
        """Bytes of one row."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))

    @property
    def unit(self) -> np.dtype[Any]:
        """One row, as what is copied fastest."""
        return np.dtype(_WORDS.get(self.width, f"V{self.width}"))


@dataclass(frozen=True, slots=True)
class Layout:
    """What a tray looks like."""

    columns: tuple[Column, ...]
    batch_rows: int
    batches: int  # of a tray

    @classmethod
    def of(cls, columns: Sequence[Column], batch_rows: int) -> Layout:
        """As many batches as TRAY_BYTES hold, at least one."""
        size = batch_rows * sum(column.width for column in columns)
        return cls(tuple(columns), batch_rows, max(1, TRAY_BYTES // max(1, size)))

    @property
    def rows(self) -> int:
        """Of a tray."""
        return self.batch_rows * self.batches

    def count(self, steps: int, windows: int) -> int:
        """How many trays a stream needs.

        Args:
            steps: the most batches that have rows of one segment.
            windows: how many segments of one lane are used or fetched at the same time.
        """
        window, more = steps // self.batches + 2, KEPT_MAX + 1
        size = self.rows * sum(column.width for column in self.columns)
        most = MEMORY_BYTES_MAX // max(1, size)
        return max(window + more, min(windows * window + more, most))


class Trays:
    """`count` trays, and memory for them. One thread takes trays, another hands them out."""

    def __init__(self, layout: Layout, count: int) -> None:
        """Reserve the memory; the kernel gives it as it is filled for the first time."""
        self.layout, self.count = layout, count
        self._free = deque(reversed(range(count)))  # the newest is used first: it is there already
        self._out: dict[int, weakref.ref[NDArray[np.uint8]]] = {}  # in the caller's hands
        sizes = [count * layout.rows * column.width for column in layout.columns]
        self._begins = [0]
        for size in sizes:
            self._begins.append(self._begins[-1] + size + -size % mmap.PAGESIZE)
        length = max(1, self._begins[-1])
        self._memory = _mapped(length + -length % _GRAIN)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.rows = [self._all_rows(index) for index in range(len(sizes))]
        self._cuts = [
            (c.name, np.dtype(c.dtype), (layout.rows, *c.shape), begin, layout.rows * c.width)
            for c, begin in zip(layout.columns, self._begins, strict=False)
        ]

    def _all_rows(self, index: int) -> NDArray[Any]:
        """One column over all trays, to be filled: row `n` of tray `t` is `t * layout.rows + n`."""
        column = self.layout.columns[index]
        count = self.count * self.layout.rows if column.width else 0
        return np.ndarray((count,), column.unit, self._memory, self._begins[index])

    @property
    def free(self) -> int:
        """How many can be taken now."""
        return len(self._free)

    @property
    def kept(self) -> int:
        """How many the caller has in his hands."""
        return len(self._out)

    def take(self) -> int:
        """Return a tray to be filled; what it holds is left from before."""
        return self._free.pop()

    def hand_out(self, tray: int) -> Arrays:
        """Return a tray's columns; it can be taken again when nobody looks at them any more."""
        owner = np.frombuffer(self._memory, dtype=np.uint8)  # not a memoryview: no array holds one
        # Called in whatever thread lets go last, at any moment: no lock can be taken in it.
        self._out[tray] = weakref.ref(owner, partial(self._come_back, tray))
        found: Arrays = {}
        for name, dtype, shape, begin, size in self._cuts:
            found[name] = np.ndarray(shape, dtype, owner, begin + tray * size)
        return found

    def _come_back(self, tray: int, _: object) -> None:
        self._out.pop(tray)
        self._free.append(tray)


def _mapped(length: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, length, flags=_PRIVATE)
    except (OSError, OverflowError) as cause:
        raise InvalidInput(
            f"there is no memory for shuffled batches ({length >> 20} MiB)",
            advice="use a smaller `batch_size`, fewer `lanes` or fewer columns",
        ) from cause


class Memory:
    """The trays of one loader between two passes."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._kept: deque[Trays] = deque(maxlen=1)  # its methods are atomic: one stream has them

    def trays(self, layout: Layout, count: int) -> Trays:
        """Return at least `count` trays, those of the last pass if they are alike."""
        with contextlib.suppress(IndexError):
            kept = self._kept.pop()
            if kept.layout == layout and kept.count >= count:
                return kept
        return Trays(layout, count + count // 8)  # segments of another epoch are a little longer

    def keep(self, trays: Trays) -> None:
        """Keep them for the next pass."""
        self._kept.append(trays)

    def clear(self) -> None:
        """Give back to the system what is kept."""
        self._kept.clear()
