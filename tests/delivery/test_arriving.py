"""Rows that are used in the slots of the ring while their segment arrives (ring-v1.md §5)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.client.ring as client_ring
from gateway.client.arriving import Arriving, Came, ColumnLayout
from gateway.client.drawing import Turns
from gateway.client.slots import KEPT_MAX, Slots
from gateway.errors import IntegrityError, LeaseRevoked, StreamBroken, Unavailable
from gateway.wire.leases import LeaseColumn, LeaseRequest, OrderRequest
from gateway.wire.ring import SLOTS
from gateway.wire.segments import SegmentHead
from tests.delivery.spies import eventually, stream_of
from tests.delivery.world import Data, Gateway, Worker, direct_data

COLUMN = LeaseColumn(name="x", arrow="int64", dtype="<i8")
SLOT_BYTES = 64


def one_column(data: Data) -> Data:
    """The same shards under a plan of one column, which is streamed as it lies."""
    source = replace(data.source, columns=data.source.columns[1:])  # type: ignore[union-attr, call-arg, type-var]
    return replace(data, source=source, columns=data.columns[1:],
                   expected={"tokens": data.expected["tokens"]})  # fmt: skip


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """24 MiB of one column: two segments of 16 and 8 MiB."""
    place = tmp_path_factory.mktemp("tokens")
    return one_column(direct_data(place, shard_rows=(4000, 2145), width=1024))


@pytest.fixture
def ring(worker: Worker, tokens: Data) -> Any:
    gateway = Gateway(tokens, worker)
    yield gateway
    gateway.close()


def received(batches: list[Any]) -> Any:
    return np.concatenate([batch["tokens"] for batch in batches])


# -- one segment, by itself -----------------------------------------------------------------


def head_of(chunks: list[int]) -> SegmentHead:
    size = 8 * sum(chunks)
    sizes = tuple(8 * n for n in chunks)
    return SegmentHead(lease="l", segment=0, plan="p", kind="direct", rows=sum(chunks), blocks=1,
                       bytes=size, chunks=sizes, parts=((0, size),))  # fmt: skip


def arriving_of(rows: int, turns: Turns | None = None) -> Arriving:
    return Arriving(COLUMN.name, ColumnLayout(COLUMN), rows, turns or Turns())


def came(first: int, stop: int) -> Came:
    return Came(np.arange(first, stop).view(np.uint8), None)


def test_chunks_that_end_within_a_row_are_not_used_as_they_lie() -> None:
    arriving = arriving_of(4)
    head = head_of([2, 2])
    assert arriving.begin(head)
    assert not arriving.begin(replace(head, chunks=(12, 20)))
    assert not arriving.begin(replace(head, chunks=(16,)))
    assert not arriving.begin(replace(head, rows=3))


def test_a_segment_with_fewer_rows_than_it_said_is_refused() -> None:
    arriving = arriving_of(4)
    arriving.begin(head_of([2, 2]))
    arriving.source = iter([came(0, 2)])
    with pytest.raises(IntegrityError, match="fewer rows"):
        list(arriving.pieces(0, 4))
    assert not arriving.is_whole


def test_a_slot_that_is_lent_or_outside_is_not_lent() -> None:
    slots = Slots(memoryview(bytes(SLOTS * SLOT_BYTES)), SLOT_BYTES)
    kept = slots.lend(0, 8)
    with pytest.raises(IntegrityError, match="before it was given back"):
        slots.lend(0, 8)
    for slot, length in ((SLOTS, 8), (1, SLOT_BYTES + 1), (1 << 31, 8)):
        with pytest.raises(IntegrityError, match="outside"):
            slots.lend(slot, length)
    del kept
    slots.lend(1, 8)
    assert slots.take_returned(is_waiting=False) == [0, 1]


def failing_in_the_middle() -> Arriving:
    def source() -> Iterator[Came]:
        yield came(0, 2)
        raise Unavailable("gone")

    arriving = arriving_of(4)
    arriving.begin(head_of([2, 2]))
    arriving.source = source()
    return arriving


def test_what_a_segment_fails_with_comes_after_what_it_had() -> None:
    arriving = failing_in_the_middle()
    assert [piece.tolist() for piece in arriving.pieces(0, 2)] == [[0, 1]]
    with pytest.raises(Unavailable, match="gone"):
        list(arriving.pieces(2, 1))


def test_what_drawing_ahead_fails_with_comes_after_what_it_had() -> None:
    arriving = failing_in_the_middle()
    assert [arriving.draw_ahead() for _ in range(3)] == [True, False, False]
    assert [piece.tolist() for piece in arriving.pieces(0, 2)] == [[0, 1]]
    for _ in range(2):
        with pytest.raises(Unavailable, match="gone"):
            list(arriving.pieces(2, 1))


def test_rows_before_the_end_stay_when_what_is_to_come_is_absorbed_or_finished() -> None:
    turns = Turns()
    arriving = arriving_of(6, turns)
    arriving.begin(head_of([2, 2, 2]))
    arriving.source = iter([came(0, 2), came(2, 4), came(4, 6)])
    assert [piece.tolist() for piece in arriving.pieces(0, 1)] == [[0]]
    arriving.absorb()
    arriving.finish()
    assert turns.ahead == 4 * 8
    assert [piece.tolist() for piece in arriving.pieces(1, 5)] == [[1], [2, 3], [4, 5]]
    assert turns.ahead == 0, "there is room again"


@settings(max_examples=60)
@given(
    chunks=st.lists(st.integers(1, 8), min_size=1, max_size=30),
    takes=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 30), max_size=3),
    keep=st.integers(0, 20),
    absorb_at=st.integers(0, 60),
    ahead=st.lists(st.integers(0, 4), max_size=20),
)
def test_every_row_comes_once_however_it_is_cut_taken_and_kept(
    chunks: list[int],
    takes: list[int],
    cuts: list[int],
    keep: int,
    absorb_at: int,
    ahead: list[int],
) -> None:
    """A worker with eight slots that waits for credits, and a consumer that keeps batches."""
    rows = sum(chunks)
    worker = _Worker(chunks, [*cuts, len(chunks)])
    arriving = worker.arriving
    kept: deque[Any] = deque(maxlen=keep)
    at = 0
    for seen, count in enumerate(takes):
        for piece in arriving.pieces(at, min(count, rows - at)):
            assert piece.tolist() == list(range(at, at + len(piece)))
            at += len(piece)
            kept.append((piece, piece.tolist()))
            assert worker.slots.kept <= KEPT_MAX + 1
        for _ in range(ahead[seen] if seen < len(ahead) else 0):  # the consumer is busy
            arriving.draw_ahead()
        if seen == absorb_at:
            arriving.absorb()
    arriving.absorb()
    assert arriving.is_whole
    assert worker.is_over
    assert all(piece.tolist() == values for piece, values in kept)
    kept.clear()
    piece = None
    del arriving, worker.arriving
    worker.slots.take_returned(is_waiting=True)
    assert worker.slots.kept == 0


class _Worker:
    """Fills slots with whole rows, is cut now and then, begins again."""

    def __init__(self, chunks: list[int], ends: list[int]) -> None:
        self._chunks, self._ends = chunks, ends
        self._rows = np.arange(sum(chunks))
        self._free: deque[int] = deque()
        self.slots = self._connect()
        self.arriving = arriving_of(sum(chunks))
        self.arriving.source = self._source()
        self.is_over = False

    def _connect(self) -> Slots:
        self._free = deque(range(SLOTS))
        self._memory = bytearray(SLOTS * SLOT_BYTES)
        return Slots(memoryview(self._memory).toreadonly(), SLOT_BYTES)

    def _source(self) -> Iterator[Came]:
        for end in self._ends:
            self.arriving.begin(head_of(self._chunks))
            at = 0
            for size in self._chunks[:end]:
                content = self._rows[at : at + size].tobytes()
                yield Came(self._filled(content), self.slots)
                at += size
            if end < len(self._chunks):
                self.slots = self._connect()
        self.is_over = True

    def _filled(self, content: bytes) -> Any:
        self._free.extend(self.slots.take_returned(is_waiting=True))
        slot = self._free.popleft()  # there is always one: the consumer keeps four at most
        start = slot * SLOT_BYTES
        self._memory[start : start + len(content)] = content
        return self.slots.lend(slot, len(content))


# -- over a real worker ---------------------------------------------------------------------


@settings(max_examples=12)
@given(
    world=st.integers(1, 3),
    window_blocks=st.integers(1, 64),
    batch_size=st.sampled_from([1, 63, 64, 100, 256, 4096, 7000]),
    uneven=st.sampled_from(["pad", "drop"]),
    keep=st.booleans(),
)
def test_rows_in_slots_are_the_rows_over_http(
    worker: Worker, tokens: Data, world: int, window_blocks: int, batch_size: int,
    uneven: str, *, keep: bool
) -> None:  # fmt: skip
    gateway = Gateway(tokens, worker)
    order = OrderRequest(world=world, rank=world - 1, lanes=world, window_blocks=window_blocks)
    got: dict[str, list[Any]] = {}
    for delivery in ("ring", "http"):
        kept: list[Any] = []
        got[delivery] = []
        with stream_of(gateway, LeaseRequest(order=order), delivery=delivery,
                       batch_size=batch_size, uneven=uneven) as stream:  # fmt: skip
            for batch in stream:
                got[delivery].append(batch["tokens"][:, 0].copy())
                kept += [batch] if keep else []
            assert stream.stats["delivery"] == delivery
        for batch, first in zip(kept, got[delivery], strict=False):
            np.testing.assert_array_equal(batch["tokens"][:, 0], first)
    gateway.close()
    assert len(got["ring"]) == len(got["http"])
    for one, other in zip(got["ring"], got["http"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_lies_in_the_ring_and_nobody_can_write_to_it(ring: Gateway) -> None:
    with stream_of(ring, delivery="ring", batch_size=64) as stream:
        batch = next(stream)["tokens"]
        assert not batch.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            batch[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            batch.flags.writeable = True


def test_a_batch_stays_as_it_was_when_its_lease_is_revoked_and_its_worker_killed(
    worker: Worker, tokens: Data
) -> None:
    mine = Worker()
    gateway = Gateway(tokens, mine)
    stream = stream_of(gateway, delivery="ring", batch_size=256, prefetch_bytes=1)
    batch = next(stream)["tokens"]
    gateway.revoke(stream.manifest.lease)
    with pytest.raises(LeaseRevoked):
        list(stream)
    mine.close()
    np.testing.assert_array_equal(batch, tokens.expected["tokens"][:256])


def test_a_consumer_may_be_busy_for_longer_than_a_client_may_stall(
    tokens: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_ring, "LIFE_SECONDS", 0.1)
    impatient = Worker(stall_seconds=1.0)
    gateway = Gateway(tokens, impatient)
    with stream_of(gateway, delivery="ring", batch_size=256, prefetch_bytes=1) as stream:
        got = [next(stream)]
        time.sleep(2.5)
        assert gateway.status()["rings"] == 1, "it was not cut"
        got += list(stream)
        # The client may have the end of a segment before the worker has counted it.
        eventually(lambda: gateway.status()["segments"] >= 2)
        assert gateway.status()["segments"] == 2, "no segment was sent twice"
    np.testing.assert_array_equal(received(got), tokens.expected["tokens"])
    gateway.close()
    impatient.close()


def test_rows_are_copied_ahead_while_the_consumer_is_busy_as_far_as_the_budget_goes(
    ring: Gateway,
) -> None:
    """24 MiB: the ring alone holds eight of them."""
    for budget, segments in ((64 << 20, 2), (2 << 20, 0)):
        before = ring.status()["segments"]
        with stream_of(ring, delivery="ring", batch_size=64, prefetch_bytes=budget) as stream:
            got = [next(stream)]
            eventually(lambda: ring.status()["segments"] - before == segments)  # noqa: B023
            time.sleep(0.1)
            assert ring.status()["segments"] - before == segments
            got += list(stream)
        np.testing.assert_array_equal(received(got), ring.control.data.expected["tokens"])


@pytest.mark.parametrize("batches", [1, 3, 5, 17])
def test_a_worker_killed_within_a_segment_is_a_pause_and_no_row_comes_twice(
    tokens: Data, batches: int
) -> None:
    mine = Worker()
    gateway = Gateway(tokens, mine)
    with stream_of(gateway, delivery="ring", batch_size=256, patience=20) as stream:
        got = [next(stream) for _ in range(batches)]
        gateway.kill()
        threading.Timer(0.2, gateway.start).start()
        got += list(stream)
    np.testing.assert_array_equal(received(got), tokens.expected["tokens"])
    gateway.close()
    mine.close()


def test_rows_before_a_changed_page_are_given_and_none_of_it(
    tmp_path: Path, worker: Worker
) -> None:
    data = one_column(direct_data(tmp_path, shard_rows=(4000,), width=1024))
    path = Path(data.source.shards[0].path)  # type: ignore[union-attr]
    sealed = bytearray(path.read_bytes())
    sealed[len(sealed) * 3 // 4] ^= 1
    path.write_bytes(sealed)
    gateway = Gateway(data, worker)
    got: list[Any] = []
    stream = stream_of(gateway, batch_size=64)
    with pytest.raises(StreamBroken) as stop:
        got.extend(batch["tokens"].copy() for batch in stream)
    assert stop.value.facts["cause_code"] == IntegrityError.code
    rows = np.concatenate(got)
    assert 2048 <= stop.value.position.rows == len(rows) <= 3000  # type: ignore[union-attr]
    np.testing.assert_array_equal(rows, data.expected["tokens"][: len(rows)])
    gateway.close()
