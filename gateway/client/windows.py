"""Rows of a shuffled segment, brought into their order while they are copied out of the ring.

A batch takes rows of each lane in turn. Were they gathered then, each would be fetched from
somewhere in 16 MiB; so they lie side by side, for the price of the copy that is made anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.client.slots import Bytes
from gateway.domain.order import window_order
from gateway.wire.leases import LeaseColumn
from gateway.wire.segments import SegmentHead

_WORDS = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}


class _Part(NamedTuple):
    """One column of a body."""

    offset: int
    size: int
    value: np.dtype[Any]  # one row


class Window:
    """Where the rows of one segment belong."""

    def __init__(self, parts: Sequence[_Part], order: NDArray[np.int64]) -> None:
        """Use `Window.of`."""
        self._parts = parts
        self._places = np.empty(len(order), dtype=np.intp)
        self._places[order] = np.arange(len(order))

    @classmethod
    def of(cls, head: SegmentHead, columns: Sequence[LeaseColumn], key: bytes) -> Window | None:
        """Return it for a segment of plain columns; None when a chunk ends within a row."""
        parts = []
        for column, (offset, size) in zip(columns, head.parts, strict=False):
            width = np.dtype(column.dtype).itemsize * int(np.prod(column.shape, dtype=np.int64))
            if not width or size != head.rows * width:
                return None
            parts.append(_Part(offset, size, np.dtype(_WORDS.get(width, f"V{width}"))))
        ends = accumulate(head.chunks, initial=0)
        whole = all(_is_between_rows(end, part) for end in ends for part in parts)
        if not whole or not len(columns) == len(head.parts) == len(parts):
            return None
        return cls(parts, window_order(key, head.segment, head.rows))

    def put(self, body: memoryview, at: int, content: Bytes) -> None:
        """Put the rows in `content`, which begins at byte `at` of the segment, into `body`."""
        for offset, size, value in self._parts:
            start, stop = max(at, offset), min(at + len(content), offset + size)
            if start < stop:
                rows = content[start - at : stop - at].view(value)
                first = (start - offset) // value.itemsize
                column = np.frombuffer(body[offset : offset + size], dtype=value)
                column[self._places[first : first + len(rows)]] = rows


def _is_between_rows(at: int, part: _Part) -> bool:
    inside = part.offset < at < part.offset + part.size
    return not inside or (at - part.offset) % part.value.itemsize == 0
