"""Rows of a shuffled segment, put in their order while they are copied (windows.py)."""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.windows import Window
from gateway.domain.order import window_order
from gateway.wire.leases import LeaseColumn
from gateway.wire.segments import SegmentHead

KEY = bytes(range(32))


def head_of(rows: int, parts: list[tuple[int, int]], chunks: list[int]) -> SegmentHead:
    return SegmentHead(lease="l", segment=3, plan="p", kind="direct", rows=rows, blocks=1,
                       bytes=sum(chunks), chunks=tuple(chunks), parts=tuple(parts))  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "chunks"),
    [([(0, 80)], [12, 68]), ([(0, 72)], [80]), ([(0, 80), (128, 80)], [208]), ([], [80])],
    ids=["within a row", "another size", "a part too many", "none"],
)
def test_a_segment_that_cannot_be_placed_is_copied_as_it_is(
    parts: list[tuple[int, int]], chunks: list[int]
) -> None:
    column = LeaseColumn(name="x", arrow="int64", dtype="<i8")
    assert Window.of(head_of(10, parts, chunks), [column], KEY) is None


@given(
    rows=st.integers(1, 60),
    widths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 30), max_size=8),
)
def test_rows_lie_in_the_order_of_the_window_however_they_come(
    rows: int, widths: list[int], cuts: list[int]
) -> None:
    columns = [LeaseColumn(name=f"c{i}", arrow="x", dtype="|u1", shape=(w,)) for i, w in
               enumerate(widths)]  # fmt: skip
    sizes = [rows * width for width in widths]
    offsets = list(accumulate((size + -size % 64 for size in sizes), initial=0))
    body = np.random.default_rng(rows).integers(0, 256, offsets[-1], dtype=np.uint8)
    parts = list(zip(offsets, sizes, strict=False))
    # Chunks end between rows of whatever column they end in.
    ends = {offsets[-1]}
    for index, cut in enumerate(cuts):
        column = index % len(widths)
        ends.add(offsets[column] + min(cut, rows) * widths[column])
    bounds = [0, *sorted(ends)]
    chunks = [end - start for start, end in pairwise(bounds)]
    window = Window.of(head_of(rows, parts, chunks), columns, KEY)
    assert window is not None
    placed = np.zeros_like(body)
    for start, size in zip(bounds, chunks, strict=False):
        window.put(memoryview(placed), start, body[start : start + size].copy())
    order = window_order(KEY, 3, rows)
    for (offset, size), width in zip(parts, widths, strict=True):
        stored = body[offset : offset + size].reshape(rows, width)
        np.testing.assert_array_equal(
            placed[offset : offset + size].reshape(rows, width), stored[order]
        )
