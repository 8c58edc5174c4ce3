"""Which segments a rank needs, in which order (position.py)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.client.position import Walk
from gateway.domain.order import Deal, GlobalOrder


@given(lanes=st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_the_place_of_a_row_is_where_its_lane_has_taken_as_many(lanes: list[int]) -> None:
    order = GlobalOrder(lanes)
    for lane, rows in enumerate(lanes):
        for row in range(rows):
            place = order.place(lane, row)
            assert order.taken(place)[lane] == row
            assert order.taken(place + 1)[lane] == row + 1


@settings(max_examples=300)
@given(
    lanes=st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=5),
    batch_rows=st.integers(1, 12),
    uneven=st.sampled_from(["pad", "drop"]),
    world=st.integers(1, 3),
    start=st.integers(0, 80),
)
def test_segments_are_fetched_in_the_order_in_which_batches_open_them(
    lanes: list[list[int]], batch_rows: int, uneven: str, world: int, start: int
) -> None:
    world = min(world, len(lanes))
    deal = Deal(rank=world - 1, world=world, batch_rows=batch_rows, uneven=uneven)
    walk = Walk(lanes, deal)
    start = min(start, walk.order.rows)
    opened = [number for step in walk.steps(start) for number in step.opens]
    assert list(walk.needs(start)) == opened
    assert len(set(opened)) == len(opened)
