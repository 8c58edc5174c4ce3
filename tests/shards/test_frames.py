"""Frames of a view fit into a chunk, and nearly fill it, whatever the lengths of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shards import frames
from gateway.shards.frames import cut

SMALL = 8 << 10


@pytest.fixture(scope="module", autouse=True)
def _small_frames() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FRAME_BYTES", SMALL)
        yield


def batches_of(lengths: list[int], cuts: list[int]) -> list[Any]:
    """Rows with values of these lengths, in batches that end at `cuts`; some are missing."""
    table = pa.record_batch(
        {
            "id": range(len(lengths)),
            "text": ["x" * n for n in lengths],
            "part": [None if n % 3 else [n] * (n % 5) for n in lengths],
        }
    )
    ends = sorted({min(end, len(lengths)) for end in cuts} | {len(lengths)})
    return [table.slice(a, b - a) for a, b in zip([0, *ends], ends, strict=False)]


LENGTHS = st.lists(
    st.one_of(st.integers(0, 40), st.integers(0, 2000), st.sampled_from([9_000, 30_000])),
    min_size=1, max_size=150,
)  # fmt: skip


@given(LENGTHS, st.lists(st.integers(0, 150), max_size=6), st.integers(1, 200))
def test_every_row_is_in_one_frame_in_order_and_frames_fit(
    lengths: list[int], cuts: list[int], rows_max: int
) -> None:
    batches = batches_of(lengths, cuts)
    found = list(cut(iter(batches), rows_max))
    assert pa.Table.from_batches(found).equals(pa.Table.from_batches(batches))
    for frame in found:
        assert 1 <= len(frame) <= rows_max
        assert len(frame) == 1 or frame.serialize().size <= SMALL


@given(LENGTHS, st.lists(st.integers(0, 150), max_size=6))
def test_a_frame_has_room_for_few_more_rows(lengths: list[int], cuts: list[int]) -> None:
    batches = batches_of(lengths, cuts)
    found = list(cut(iter(batches), len(lengths)))
    for frame, following in pairwise(found):
        more = following.slice(0, 1 + len(frame) // frames._STEP)
        assert frame.nbytes + more.nbytes > frames._room(frame)


def test_rows_without_a_byte_are_cut_by_their_count() -> None:
    nothing = pa.record_batch([pa.nulls(1000)], names=["x"])
    assert [len(frame) for frame in cut(iter([nothing]), 300)] == [300, 300, 300, 100]
    assert list(cut(iter([]), 300)) == []


def test_columns_beyond_number_leave_half_of_a_frame_for_values() -> None:
    wide = pa.record_batch([pa.array(range(100))] * 200, names=[f"c{n}" for n in range(200)])
    assert {len(frame) for frame in cut(iter([wide]), 100)} == {SMALL // 2 // (200 * 8)}
