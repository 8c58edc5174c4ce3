"""Rows of a view are cut from its frames as they lie in the segment's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.batches import Batches, OpenSegment, Part
from gateway.client.frames import Frames


def batch_of(parts: list[Part], schema: Any) -> Any:
    rows = sum(part.count for part in parts)
    return Batches(schema, is_view=True, is_arrow=True).make(parts, rows)


def frames_of(*sizes: int) -> list[Any]:
    """Frames of so many rows each, numbered over all."""
    rows = pa.record_batch(
        {
            "id": range(sum(sizes)),
            "name": [None if n % 3 == 0 else f"name {n}" for n in range(sum(sizes))],
            "list": [[n] * (n % 4) for n in range(sum(sizes))],
        }
    )
    ends = np.cumsum(sizes)
    return [rows.slice(end - size, size) for end, size in zip(ends, sizes, strict=True)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_batches_are_the_rows_that_one_table_of_all_frames_has(
    sizes: list[int], data: st.DataObject
) -> None:
    frames, rows = frames_of(*sizes), sum(sizes)
    whole = pa.concat_batches(frames)
    order = np.random.default_rng(7).permutation(rows) if data.draw(st.booleans()) else None
    segment = OpenSegment({}, Frames(frames), order)
    start = data.draw(st.integers(0, rows))
    count = data.draw(st.integers(0, rows - start))
    if not count:
        return
    head = data.draw(st.integers(0, rows))
    parts = [Part(segment, start, count), *([Part(segment, 0, head)] if head else [])]
    taken = np.arange(rows) if order is None else order
    wanted = np.concatenate([taken[start : start + count], taken[:head]])
    batch = batch_of(parts, whole.schema)
    batch.validate(full=True)
    assert batch.equals(whole.take(pa.array(wanted)))


def test_a_batch_within_a_frame_is_no_copy_and_one_across_frames_has_only_its_rows() -> None:
    frames = frames_of(4, 4)
    segment = OpenSegment({}, Frames(frames), None)
    inside = batch_of([Part(segment, 5, 2)], frames[0].schema)
    assert inside.column(0).buffers()[1].address == frames[1].column(0).buffers()[1].address
    across = batch_of([Part(segment, 3, 2)], frames[0].schema)
    assert across.column("id").to_pylist() == [3, 4]
    assert across.nbytes < frames[0].nbytes


def test_a_shuffled_segment_is_put_together_once() -> None:
    joined = Frames(frames_of(3, 2)).joined()
    assert joined.rows == 5
    assert joined.joined() is joined
