"""Where rows go, reckoned for whole segments, is where the steps take them (row_places.py)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.client.position import Walk
from gateway.client.row_places import NOWHERE, RowPlaces
from gateway.domain.order import Deal


def by_steps(walk: Walk, batch_rows: int, start: int) -> dict[tuple[int, int], list[int]]:
    """Of each row (segment, number) its places, step by step."""
    found: dict[tuple[int, int], list[int]] = {}
    for index, step in enumerate(walk.steps(start)):
        at = index * batch_rows
        for take in step.takes:
            for row in range(take.start, take.start + take.count):
                found.setdefault((take.segment, row), []).append(at)
                at += 1
    return found


@settings(max_examples=400)
@given(
    lanes=st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=5),
    batch_rows=st.integers(1, 12),
    uneven=st.sampled_from(["pad", "drop"]),
    world=st.integers(1, 4),
    start=st.integers(0, 80),
    data=st.data(),
)
def test_every_row_has_the_place_at_which_a_step_takes_it(
    lanes: list[list[int]],
    batch_rows: int,
    uneven: str,
    world: int,
    start: int,
    data: st.DataObject,
) -> None:
    world = min(world, len(lanes))
    rank = data.draw(st.integers(0, world - 1))
    deal = Deal(rank=rank, world=world, batch_rows=batch_rows, uneven=uneven)
    walk = Walk(lanes, deal)
    start = min(start, walk.order.rows)
    places, wanted = RowPlaces(walk, deal, start), by_steps(walk, batch_rows, start)
    assert places.batches == walk.batches(start)
    repeated: list[int] = []
    for segment in range(sum(map(len, lanes))):
        low, high = places.steps(segment)
        rows = walk.span_of(segment)[2] - walk.span_of(segment)[1]
        begins = np.arange(low, high + 1) * batch_rows
        found = places.of(segment, begins).tolist() if low <= high else [NOWHERE] * rows
        for row, place in enumerate(found):
            first, *more = wanted.pop((segment, row), [NOWHERE])
            assert place == first
            repeated += more
            if place != NOWHERE:
                assert low <= place // batch_rows <= high
                assert high - low < places.steps_max
    assert not wanted
    if places.batches:
        rows, size = places.last_rows()
        begin = (places.batches - 1) * batch_rows
        assert repeated == list(range(begin + rows, begin + size))
        positions = [step.position for step in walk.steps(start)]
        assert positions == [places.position(n + 1) for n in range(places.batches)]


@given(
    lanes=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    batch_rows=st.integers(1, 9),
)
def test_many_positions_and_rows_are_reckoned_as_one_by_one(
    lanes: list[int], batch_rows: int
) -> None:
    walk = Walk([[rows] if rows else [] for rows in lanes], Deal(batch_rows=batch_rows))
    order = walk.order
    positions = np.arange(order.rows + 1)
    assert order.taken_at(positions).tolist() == [order.taken(p) for p in positions.tolist()]
    rows = [(lane, row) for lane, count in enumerate(lanes) for row in range(count)]
    if rows:
        found = order.places(*(np.array(x) for x in zip(*rows, strict=True)))
        assert found.tolist() == [order.place(*row) for row in rows]
