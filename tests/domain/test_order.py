"""The order of rows: refusals, geometry, and every row exactly once under any schedule."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.lease import OrderSpec
from gateway.domain.order import (
    Deal,
    GlobalOrder,
    _ascending,
    lay_out,
    order_id,
    permutation,
    window_key,
    window_order,
)
from gateway.domain.position import StreamPosition
from gateway.errors import InvalidInput, PlanChanged

KEY = bytes(range(32))
_M = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_W = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def philox(key: bytes, label: int, count: int) -> list[int]:
    """Philox4x64-10 written a second time, from Salmon et al. 2011, to check numpy's words."""
    k = [int.from_bytes(key[i : i + 8], "little") for i in (0, 8, 16, 24)]
    words: list[int] = []
    block = 0
    while len(words) < count:
        block += 1
        c, (k0, k1) = [block, label, k[2], k[3]], (k[0], k[1])
        for _ in range(10):
            p0, p1 = _M[0] * c[0], _M[1] * c[2]
            low = (1 << 64) - 1
            c = [(p1 >> 64) ^ c[1] ^ k0, p1 & low, (p0 >> 64) ^ c[3] ^ k1, p0 & low]
            k0, k1 = (k0 + _W[0]) & low, (k1 + _W[1]) & low
        words += c
    return words[:count]


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInput):
        permutation(b"short", 0, 4)


def test_more_ranks_than_lanes_are_refused_with_the_number_of_lanes() -> None:
    with pytest.raises(InvalidInput, match="`5` ranks does not fit `4` lanes"):
        GlobalOrder([9, 9, 9, 9]).batch(0, Deal(world=5, batch_rows=1))


def test_rows_that_do_not_divide_are_refused_when_uneven_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="do not divide"):
        GlobalOrder([5, 5]).batches(0, Deal(world=2, batch_rows=3, uneven="error"))


def test_a_position_outside_the_rows_is_refused() -> None:
    with pytest.raises(InvalidInput):
        GlobalOrder([5]).taken(6)


def test_a_position_of_another_order_is_refused() -> None:
    position = StreamPosition(
        order="a" * 16, seed=1, epoch=0, shuffle=True, lanes=8, window=64, rows=5
    )
    with pytest.raises(PlanChanged) as stop:
        position.require("b" * 16, 100)
    assert stop.value.position is position


@pytest.mark.parametrize(
    "change", [{"rows": -1}, {"rows": True}, {"v": 1}, {"extra": 0}, {"order": 7}, {"shuffle": 1}]
)
def test_a_malformed_position_is_refused(change: dict[str, object]) -> None:
    position = StreamPosition(
        order="a" * 16, seed=1, epoch=0, shuffle=True, lanes=8, window=64, rows=5
    ).to_dict()
    with pytest.raises(InvalidInput):
        StreamPosition.from_dict({**position, **change})


def test_a_position_stays_below_200_bytes_whatever_it_holds() -> None:
    most = (1 << 53) - 1
    position = StreamPosition(
        order="f" * 16, seed=most, epoch=most, shuffle=False, lanes=240, window=64, rows=most
    )
    assert len(json.dumps(position.to_dict())) < 200
    assert StreamPosition.from_dict(position.to_dict()) == position


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**40), st.integers(0, 40))
def test_words_are_philox_as_published(key: bytes, label: int, count: int) -> None:
    words = philox(key, label, count)
    expected = sorted(range(count), key=lambda i: (words[i], i))
    assert permutation(key, label, count).tolist() == expected


def test_the_window_key_and_the_order_id_are_not_the_order_key() -> None:
    assert window_key(KEY) != KEY
    assert order_id(KEY, spec()) != order_id(window_key(KEY), spec())
    assert sorted(window_order(window_key(KEY), 3, 100).tolist()) == list(range(100))


def test_another_order_of_the_same_rows_has_another_id() -> None:
    orders = [spec(), spec(shuffle=False), spec(lanes=2), spec(window_blocks=63), spec(lanes=26)]
    assert len({order_id(KEY, order) for order in orders}) == len(orders)
    assert order_id(KEY, spec(rank=1, world=2)) == order_id(KEY, spec())


def spec(**change: object) -> OrderSpec:
    return OrderSpec(**{"shuffle": True, **change})  # type: ignore[arg-type]


def test_segments_hold_at_most_64_blocks_and_16_mib_or_one_block() -> None:
    sizes = [1 << 20, 40 << 20, 3 << 20] * 50
    segments = lay_out(KEY, spec(lanes=3), [10] * 150, sizes)
    assert all(s.bytes <= 16 << 20 or len(s.blocks) == 1 for s in segments)
    segments = lay_out(KEY, spec(), [1] * 500, [8] * 500)
    assert max(len(s.blocks) for s in segments) == 64


def test_an_unshuffled_lane_is_the_stored_order() -> None:
    segments = lay_out(KEY, spec(shuffle=False), [3] * 130, [8] * 130)
    assert [b for s in segments for b in s.blocks] == list(range(130))
    assert [s.number for s in segments] == [0, 1, 2]


def test_epochs_differ() -> None:
    other = bytes(reversed(KEY))
    assert lay_out(KEY, spec(), [1] * 99, [8] * 99) != lay_out(other, spec(), [1] * 99, [8] * 99)


lanes_of_rows = st.lists(st.integers(0, 40), min_size=1, max_size=12)


@given(lanes_of_rows)
def test_each_position_takes_one_row_of_one_lane(lane_rows: list[int]) -> None:
    order = GlobalOrder(lane_rows)
    before = order.taken(0)
    assert before == [0] * len(lane_rows)
    for position in range(1, order.rows + 1):
        after = order.taken(position)
        assert sum(after) == position
        assert max(np.subtract(after, before).tolist()) == 1
        before = after
    assert before == lane_rows


@settings(max_examples=settings.default.max_examples // 3)
@given(lanes_of_rows, st.data())
def test_every_row_comes_exactly_once_for_any_world_and_any_kill(
    lane_rows: list[int], data: st.DataObject
) -> None:
    order = GlobalOrder(lane_rows)
    seen: list[tuple[int, int]] = []
    position = 0
    while position < order.rows:
        last = data.draw(st.booleans())
        world = 1 if last else data.draw(st.integers(1, len(lane_rows)))
        batch_rows = data.draw(st.integers(1, 20))
        deal = Deal(world=world, batch_rows=batch_rows, uneven="pad" if last else "drop")
        steps = order.batches(position, deal)
        for _ in range(steps if last else data.draw(st.integers(0, steps))):
            for rank in range(world):
                mine = Deal(rank=rank, world=world, batch_rows=batch_rows, uneven=deal.uneven)
                for piece in order.batch(position, mine):
                    seen += [(piece.lane, piece.start + i) for i in range(piece.count)]
            position = min(order.rows, position + deal.step_rows)
    assert sorted(seen) == [(lane, i) for lane, rows in enumerate(lane_rows) for i in range(rows)]
    assert len(seen) == len(set(seen))


@given(lanes_of_rows, st.data())
def test_every_rank_gets_equally_many_rows_and_at_most_world_minus_one_repeats(
    lane_rows: list[int], data: st.DataObject
) -> None:
    order = GlobalOrder(lane_rows)
    world = data.draw(st.integers(1, len(lane_rows)))
    batch_rows = data.draw(st.integers(1, 20))
    position = 0
    while position < order.rows:
        deals = [Deal(rank=r, world=world, batch_rows=batch_rows) for r in range(world)]
        sizes = {sum(s.count for s in order.batch(position, deal)) for deal in deals}
        end = min(order.rows, position + world * batch_rows)
        assert len(sizes) == 1
        assert 0 <= sizes.pop() * world - (end - position) < world
        position = end


@given(st.integers(1, 6), st.integers(1, 4), st.integers(20, 60))
def test_a_rank_reads_only_its_own_lanes_when_the_world_divides_them(
    per_rank: int, world: int, rows: int
) -> None:
    order = GlobalOrder([rows] * (per_rank * world))
    deal = Deal(rank=world - 1, world=world, batch_rows=7)
    touched = {
        piece.lane
        for step in range(order.batches(0, deal) - 1)
        for piece in order.batch(step * deal.step_rows, deal)
    }
    assert all(lane % world == world - 1 for lane in touched)


@given(st.lists(st.integers(0, 5), max_size=60))
def test_equal_words_keep_their_order(words: list[int]) -> None:
    found = _ascending(np.array(words, dtype=np.uint64))
    assert found.tolist() == sorted(range(len(words)), key=words.__getitem__)
