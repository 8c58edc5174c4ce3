"""Memory of segments comes back when nobody looks at it any more, and never before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gateway.client.buffers import Buffers


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_memory_is_lent_again_when_the_last_array_slice_or_arrow_buffer_is_gone() -> None:
    buffers = Buffers(2)
    lent = buffers.lend(1000)
    place = address(lent)
    array = np.frombuffer(lent[64:128], "<i4")[3:5]
    arrow = pa.py_buffer(lent[128:256])
    del lent
    assert address(buffers.lend(1000)) != place
    del array
    assert address(buffers.lend(1000)) != place
    del arrow
    assert address(buffers.lend(1000)) == place


def test_a_smaller_buffer_is_not_lent_for_a_larger_segment() -> None:
    buffers = Buffers(2)
    buffers.lend(1000)  # given back at once
    large = buffers.lend(5 << 20)
    assert len(large) == 5 << 20
    assert address(large) % 64 == 0


def test_no_more_than_so_many_buffers_wait() -> None:
    buffers = Buffers(2)
    lent = [buffers.lend(1000) for _ in range(5)]
    places = {address(view) for view in lent}
    lent.clear()
    again = [buffers.lend(1000) for _ in range(2)]
    assert {address(view) for view in again} <= places
    assert len(buffers._free) == 0


def test_an_empty_segment_has_memory_too() -> None:
    assert len(Buffers(2).lend(0)) == 0
