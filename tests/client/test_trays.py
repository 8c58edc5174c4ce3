"""Trays come back when nobody looks at their batches any more, and never before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gateway.client.trays import TRAY_BYTES, Column, Layout, Memory, Trays
from gateway.errors import InvalidInput

COLUMNS = (Column("a", "<i4", (3,)), Column("b", "|u1", ()), Column("none", "<f8", (0,)))
LAYOUT = Layout(COLUMNS, batch_rows=4, batches=2)


def test_batches_that_no_machine_has_memory_for_are_refused_with_advice() -> None:
    wide = Layout((Column("a", "<f8", (1 << 20,)),), batch_rows=1 << 30, batches=1)
    for count in (1, 1 << 20):
        with pytest.raises(InvalidInput, match="no memory for shuffled batches") as refused:
            Trays(wide, count)
        assert "`batch_size`" in refused.value.advice


def test_a_tray_is_not_taken_again_while_any_look_at_it_is_left() -> None:
    trays = Trays(LAYOUT, 1)
    arrays = trays.hand_out(trays.take())
    looks = [arrays["a"][2:4], memoryview(arrays["b"])[1:2], pa.array(arrays["a"][:, 0].copy()),
             pa.py_buffer(arrays["a"][1]), arrays["b"].reshape(2, 4)[1]]  # fmt: skip
    del arrays
    while looks:
        holds = not isinstance(looks[-1], pa.Array)
        assert trays.free == 0 or not holds
        assert trays.kept == 1 - trays.free
        looks.pop(0)
    assert (trays.free, trays.kept) == (1, 0)


@pytest.mark.parametrize("name", ["a", "b", "none"])
def test_each_column_alone_holds_its_tray(name: str) -> None:
    trays = Trays(LAYOUT, 1)
    column = trays.hand_out(trays.take())[name]
    assert trays.free == 0
    del column
    assert trays.free == 1


def test_what_is_filled_in_is_what_is_handed_out() -> None:
    trays = Trays(LAYOUT, 3)
    taken = [trays.take() for _ in range(3)]
    assert sorted(taken) == [0, 1, 2]
    cells = np.arange(3 * LAYOUT.rows * 3, dtype="<i4").reshape(-1, 3)
    for tray in taken:
        rows = slice(tray * LAYOUT.rows, (tray + 1) * LAYOUT.rows)
        trays.rows[0][rows] = cells[rows].reshape(-1).view(COLUMNS[0].unit)
        trays.rows[1][rows] = tray
    out = {tray: trays.hand_out(tray) for tray in taken}
    for tray, arrays in out.items():
        assert (arrays["a"] == cells[tray * LAYOUT.rows : (tray + 1) * LAYOUT.rows]).all()
        assert (arrays["b"] == tray).all()
        assert arrays["none"].shape == (LAYOUT.rows, 0)
        arrays["a"][:] = -1  # the caller may write
    assert trays.kept == 3


def test_small_batches_share_a_tray_and_large_ones_have_one_each() -> None:
    small, large = Column("x", "<i8", ()), Column("x", "<i8", (1 << 20,))
    assert Layout.of([small], 1024).batches == TRAY_BYTES // 8192
    assert Layout.of([large], 3).batches == 1
    assert Layout.of([Column("x", "<i8", (0,))], 3).batches >= 1


def test_the_next_pass_has_the_same_memory_if_its_batches_are_alike() -> None:
    memory = Memory()
    first = memory.trays(LAYOUT, 16)
    assert first.count >= 16
    memory.keep(first)
    assert memory.trays(LAYOUT, first.count) is first
    assert memory.trays(LAYOUT, 4) is not first, "it is lent"
    memory.keep(first)
    assert memory.trays(LAYOUT, first.count + 1) is not first
    memory.keep(first)
    assert memory.trays(Layout(COLUMNS, 4, 3), 4) is not first
    memory.keep(first)
    memory.clear()
    assert memory.trays(LAYOUT, 4) is not first


def test_a_batch_kept_from_the_last_pass_is_not_filled_in_the_next() -> None:
    memory = Memory()
    trays = memory.trays(LAYOUT, 2)
    kept = trays.hand_out(trays.take())["b"]
    kept[:] = 7
    memory.keep(trays)
    again = memory.trays(LAYOUT, 2)
    assert again is trays
    for _ in range(again.free):
        tray = again.take()
        again.rows[1][tray * LAYOUT.rows : (tray + 1) * LAYOUT.rows] = 9
    assert (kept == 7).all()
