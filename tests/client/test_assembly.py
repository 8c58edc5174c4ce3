"""Rows of shuffled segments are put into their batches while they arrive (assembly.py)."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.client import trays
from gateway.client.assembly import Assembly
from gateway.client.position import Walk
from gateway.client.row_places import RowPlaces
from gateway.client.segments import Segment
from gateway.client.trays import KEPT_MAX, Arrays, Memory
from gateway.domain.order import Deal, window_order
from gateway.errors import IntegrityError
from gateway.wire.leases import (
    LEASE_MANIFEST_FORMAT,
    LeaseColumn,
    LeaseManifest,
    OrderRequest,
)
from gateway.wire.segments import SegmentHead

KEY = bytes(range(32))
_SEGMENTS_AHEAD = 2


class Pass:
    """One pass over segments of which row `i` of lane `l` says so itself."""

    def __init__(
        self,
        lanes: list[list[int]],
        deal: Deal,
        widths: list[int],
        start: int = 0,
        memory: Memory | None = None,
        tray_bytes: int = trays.TRAY_BYTES,
    ) -> None:
        order = OrderRequest(shuffle=True, lanes=len(lanes), rank=deal.rank, world=deal.world)
        columns = tuple(
            LeaseColumn(name=f"c{i}", arrow="x", dtype="<u2", shape=(width,))
            for i, width in enumerate(widths)
        )
        self.manifest = LeaseManifest(
            format=LEASE_MANIFEST_FORMAT, lease="lease_x", boot="b", dataset="t/d@1", split=None,
            kind="direct", plan_digest="p", columns=columns, schema=None,
            rows=sum(map(sum, lanes)), lanes=tuple(map(tuple, lanes)), order=order,
            order_id="o", window_key=KEY.hex(),
        )  # fmt: skip
        self.lanes, self.deal, self.widths, self.start = lanes, deal, widths, start
        self.walk = Walk(lanes, deal)
        places = RowPlaces(self.walk, deal, start)
        with mock.patch.object(trays, "TRAY_BYTES", tray_bytes):
            self.assembly = Assembly(self.manifest, places, memory or Memory(), _SEGMENTS_AHEAD)
        random.Random(tray_bytes).shuffle(self.assembly._trays._free)  # as later in a pass

    def delivered(self, segment: int) -> np.ndarray:
        """The number of each row of a segment, in the order of delivery."""
        lane, first, end = self.walk.span_of(segment)
        return np.arange(first, end) + 1000 * lane

    def segment(self, number: int) -> tuple[SegmentHead, np.ndarray]:
        """Head (one chunk) and body of a segment, as it is stored."""
        rows = self.delivered(number)
        stored = np.empty_like(rows)
        stored[window_order(KEY, number, len(rows))] = rows
        parts, body = [], bytearray()
        for width in self.widths:
            column = np.repeat(stored, width).astype("<u2").tobytes()
            parts.append((len(body), len(column)))
            body += column + bytes(-len(column) % 64)
        head = SegmentHead(lease="lease_x", segment=number, plan="p", kind="direct",
                           rows=len(rows), blocks=1, bytes=len(body), chunks=(len(body),),
                           parts=tuple(parts))  # fmt: skip
        return head, np.frombuffer(bytes(body), dtype=np.uint8)

    def place(self, number: int, cuts: list[int]) -> None:
        """Put a segment in, cut into chunks between rows of whatever column they end in."""
        head, body = self.segment(number)
        ends = {head.bytes}
        for index, cut in enumerate(cuts):
            (offset, _), width = (x[index % len(self.widths)] for x in (head.parts, self.widths))
            ends.add(offset + min(cut, head.rows) * width * 2)
        bounds = [0, *sorted(ends - {0})]
        sizes = tuple(b - a for a, b in pairwise(bounds))
        placing = self.assembly.placing(dataclasses.replace(head, chunks=sizes))
        assert placing is not None
        for at, size in zip(bounds, sizes, strict=False):
            placing.put(at, body[at : at + size].copy())

    def batches(self, cuts: list[int]) -> Iterator[Arrays]:
        """Every batch; segments are put in as far ahead as a stream does that."""
        needs, received, placed = list(self.walk.needs(self.start)), 0, 0
        for step in self.assembly.steps(self.walk.opens(self.start)):
            self.assembly.begin()
            for number in step.opens:
                assert needs[received] == number
                received += 1
            while placed < min(received + _SEGMENTS_AHEAD, len(needs)):
                if not self.assembly.has_room(needs[placed]):
                    break
                self.place(needs[placed], cuts)
                placed += 1
            assert placed >= received, "there is always room for what is needed now"
            yield self.assembly.batch()

    def wanted(self) -> Iterator[list[int]]:
        """The rows of each batch, by the steps of the walk."""
        for step in self.walk.steps(self.start):
            takes = [self.delivered(t.segment)[t.start : t.start + t.count] for t in step.takes]
            yield np.concatenate(takes).tolist()


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    lanes = draw(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=4))
    world = draw(st.integers(1, len(lanes)))
    deal = Deal(rank=draw(st.integers(0, world - 1)), world=world,
                batch_rows=draw(st.integers(1, 12)))  # fmt: skip
    widths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    start = draw(st.integers(0, sum(map(sum, lanes))))
    return Pass(lanes, deal, widths, start, tray_bytes=draw(st.integers(1, 400)))


@settings(max_examples=300)
@given(passes(), st.lists(st.integers(1, 9), max_size=6))
def test_batches_hold_the_rows_that_the_steps_say(made: Pass, cuts: list[int]) -> None:
    kept = list(made.batches(cuts))
    for batch, rows in zip(kept, made.wanted(), strict=True):
        for name, width in zip(batch, made.widths, strict=True):
            assert batch[name].shape == (len(rows), width)
            assert (batch[name] == np.array(rows, dtype="<u2")[:, None]).all()


@given(passes(), st.lists(st.integers(1, 9), max_size=6))
def test_a_segment_that_came_whole_is_placed_as_one_that_came_in_chunks(
    made: Pass, cuts: list[int]
) -> None:
    made.place = lambda number, _: made.assembly.place(  # type: ignore[method-assign]
        Segment(made.segment(number)[0], memoryview(made.segment(number)[1]), "receipt")
    )
    for batch, rows in zip(made.batches(cuts), made.wanted(), strict=True):
        assert (batch["c0"][:, 0] == np.array(rows, dtype="<u2")).all()


@pytest.mark.parametrize(
    "change",
    [{"rows": 5}, {"rows": 7}, {"parts": ((0, 24), (64, 24))}, {"parts": ()},
     {"parts": ((0, 22),)}],
    ids=["fewer rows", "more rows", "a column more", "none", "a narrower one"],
)  # fmt: skip
def test_a_segment_with_other_rows_or_columns_than_the_lease_is_refused(
    change: dict[str, object],
) -> None:
    made = Pass([[6, 6]], Deal(batch_rows=4), [2])
    head, body = made.segment(1)
    head = dataclasses.replace(head, **change)
    with pytest.raises(IntegrityError):
        made.assembly.placing(head)
    with pytest.raises(IntegrityError):
        made.assembly.place(Segment(head, memoryview(body), "receipt"))


def test_a_segment_with_chunks_that_end_within_a_row_is_not_placed_as_it_comes() -> None:
    made = Pass([[6, 6]], Deal(batch_rows=4), [2])
    head, _ = made.segment(1)
    assert made.assembly.placing(dataclasses.replace(head, chunks=(5, 59))) is None
    assert made.assembly.placing(dataclasses.replace(head, chunks=(8, 56))) is not None


def test_a_segment_that_was_cut_and_comes_again_is_placed_again() -> None:
    made = Pass([[6], [6]], Deal(batch_rows=4), [2])
    head, _ = made.segment(0)
    cut = made.assembly.placing(dataclasses.replace(head, chunks=(8, 56)))
    assert cut is not None
    cut.put(0, np.full(8, 255, np.uint8))
    for batch, rows in zip(made.batches([]), made.wanted(), strict=True):
        assert batch["c0"][:, 0].tolist() == rows


@pytest.mark.parametrize("batch_rows", [1, 7, 4_000])
def test_a_caller_may_keep_all_batches_and_they_stay_as_they_were(batch_rows: int) -> None:
    """Beyond KEPT_MAX trays he has copies: the memory of a stream does not grow with them."""
    made = Pass([[900] * 20, [900] * 20], Deal(batch_rows=batch_rows), [400])
    wanted = made.wanted()
    kept: list[tuple[np.ndarray, list[int]]] = []
    for index, batch in enumerate(made.batches([])):
        rows = next(wanted)
        if batch_rows > 1 or index % 97 == 0:
            kept.append((batch["c0"], rows))
        assert made.assembly._trays.kept <= KEPT_MAX + 1
        del batch
    for cells, rows in kept:
        assert (cells == np.array(rows).astype("<u2")[:, None]).all()


def test_the_next_pass_has_the_memory_of_a_pass_that_ended() -> None:
    memory = Memory()
    for _ in range(2):
        made = Pass([[6, 6], [6, 6]], Deal(batch_rows=4), [2], memory=memory)
        found = [batch["c0"][:, 0].tolist() for batch in made.batches([])]
        assert found == list(made.wanted())
        used = made.assembly._trays
        made.assembly.keep()
        assert used.free == used.count
        assert memory._kept[0] is used


def test_nothing_is_fetched_for_which_there_is_no_tray() -> None:
    """A consumer who does not come holds the thread that fetches, not its memory."""
    made = Pass([[5_000] * 50], Deal(batch_rows=100), [512])
    number = 0
    while made.assembly.has_room(number):
        made.place(number, [])
        number += 1
    assert 0 < number < 50
    assert not made.assembly.wait(number, 0.0)
