"""Frames of a view that are used in the slots of the ring while their segment arrives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.client.arriving import Arriving, Came
from gateway.client.drawing import Turns
from gateway.client.frames import FrameLayout
from gateway.client.slots import KEPT_MAX, Slots
from gateway.errors import IntegrityError, LeaseRevoked, StreamBroken
from gateway.wire.leases import LeaseRequest, OrderRequest
from gateway.wire.segments import SegmentHead
from tests.delivery.spies import Liar, stream_of
from tests.delivery.world import Data, Gateway, Worker, view_data

ROWS = 6000
REQUEST = LeaseRequest(order=OrderRequest(window_blocks=8))


def long_name(row: int) -> str:
    return f"{row:05d} " * (150 + row % 7)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """5.5 MiB in 20 frames, three or four to a chunk: three segments of eight frames."""
    return view_data(tmp_path_factory.mktemp("v"), rows=ROWS, block_rows=300, name=long_name)


@pytest.fixture
def ring(worker: Worker, people: Data) -> Iterator[Gateway]:
    gateway = Gateway(people, worker)
    yield gateway
    gateway.close()


def all_of(batches: list[Any]) -> Any:
    return pa.Table.from_batches(batches).combine_chunks()


def require_rows(batches: list[Any], first: int = 0, last: int = ROWS) -> None:
    table = all_of(batches)
    assert table["id"].to_pylist() == list(range(first, last))
    assert table["name"].to_pylist() == [long_name(row) for row in range(first, last)]
    assert table["x"].to_pylist() == [1.5 if row % 2 else None for row in range(first, last)]


# -- one segment, by itself -----------------------------------------------------------------


def message(first: int, count: int) -> Any:
    return pa.record_batch({"x": np.arange(first, first + count)}).serialize().to_pybytes()


def head_of(chunks: list[list[bytes]]) -> SegmentHead:
    parts, sizes, at = [], [], 0
    for chunk in chunks:
        for part in chunk:
            parts.append((at, len(part)))
            at += len(part)
        sizes.append(sum(map(len, chunk)))
    return SegmentHead(lease="l", segment=0, plan="p", kind="view", rows=6, blocks=len(parts),
                       bytes=at, chunks=tuple(sizes), parts=tuple(parts))  # fmt: skip


CHUNKS = [[message(0, 2), message(2, 1)], [message(3, 3)]]
SCHEMA = pa.schema([("x", pa.int64())])


def arriving(count: int = 6, *chunks: list[bytes]) -> Arriving:
    segment = Arriving("", FrameLayout(SCHEMA), count, Turns())
    segment.source = iter([Came(bytes_of(chunk), None) for chunk in chunks])
    return segment


def bytes_of(chunk: list[bytes]) -> Any:
    return np.frombuffer(b"".join(chunk), dtype=np.uint8)


def numbers(rows: Iterator[Any]) -> list[int]:
    return [n for some in rows for batch in some.batches() for n in batch["x"].to_pylist()]


def test_frames_that_go_on_in_another_chunk_are_not_used_as_they_lie() -> None:
    head = head_of(CHUNKS)
    assert arriving().begin(head)
    assert not arriving(5).begin(head)
    first, second = head.chunks
    assert not arriving().begin(replace(head, chunks=(first - 8, second + 8)))
    assert not arriving().begin(replace(head, chunks=(first + 8, second - 8)))


def test_what_is_no_arrow_message_and_rows_too_many_are_refused() -> None:
    segment = arriving(6, [bytes(head_of(CHUNKS).chunks[0])])
    segment.begin(head_of(CHUNKS))
    with pytest.raises(IntegrityError, match="no Arrow message"):
        next(segment.pieces(0, 1))
    more = [[message(0, 2), message(2, 1)], [message(3, 4)]]
    segment = arriving(6, *more)
    segment.begin(head_of(more))
    with pytest.raises(IntegrityError, match="more rows"):
        list(segment.pieces(0, 6))


def test_rows_before_a_cut_do_not_come_again() -> None:
    def source() -> Iterator[Came]:
        for chunks in (CHUNKS[:1], CHUNKS[:1], [[*CHUNKS[0], *CHUNKS[1]]]):  # at last over HTTP
            segment.begin(head_of(CHUNKS))
            yield from (Came(bytes_of(chunk), None) for chunk in chunks)

    segment = arriving()
    segment.source = source()
    assert numbers(segment.pieces(0, 2)) == [0, 1]
    assert numbers(segment.pieces(2, 4)) == [2, 3, 4, 5]
    assert segment.is_whole


def test_rows_that_are_copied_let_go_of_their_slot() -> None:
    slots = Slots(memoryview(bytes(1 << 12)), 1 << 11)
    content = slots.lend(0, 1 << 10)
    layout, chunk = FrameLayout(SCHEMA), bytes_of(CHUNKS[0])
    layout.begin(head_of(CHUNKS))
    rows = layout.rows(chunk)[1:]
    copied = rows.copy()
    del content
    assert numbers(iter([copied])) == numbers(iter([rows])) == [1, 2]
    lying = {batch.column(0).buffers()[1].address for batch in rows.batches()}
    assert lying.isdisjoint(batch.column(0).buffers()[1].address for batch in copied.batches())


# -- over a real worker ---------------------------------------------------------------------


@settings(max_examples=10)
@given(
    world=st.integers(1, 3),
    window_blocks=st.integers(1, 64),
    batch_size=st.sampled_from([1, 150, 256, 300, 1000, 5000]),
    uneven=st.sampled_from(["pad", "drop"]),
    output=st.sampled_from(["arrow", "numpy"]),
    keep=st.booleans(),
)
def test_rows_in_slots_are_the_rows_over_http(
    worker: Worker, people: Data, world: int, window_blocks: int, *, keep: bool, **options: Any
) -> None:
    gateway = Gateway(people, worker)
    order = OrderRequest(world=world, rank=world - 1, lanes=world, window_blocks=window_blocks)
    got: dict[str, list[Any]] = {}
    for delivery in ("ring", "http"):
        kept: list[Any] = []
        got[delivery] = []
        with stream_of(gateway, LeaseRequest(order=order), delivery=delivery, **options) as stream:
            for batch in stream:
                got[delivery].append(values(batch))
                kept += [batch] if keep else []
            assert stream.stats["delivery"] == delivery
        assert [values(batch) for batch in kept] == got[delivery][: len(kept)]
    gateway.close()
    assert got["ring"] == got["http"]


def values(batch: Any) -> Any:
    if isinstance(batch, pa.RecordBatch):
        batch.validate(full=True)
        return batch.to_pydict()
    return {name: [repr(value) for value in column.tolist()] for name, column in batch.items()}


def test_a_batch_within_a_frame_lies_in_the_ring(ring: Gateway) -> None:
    with stream_of(ring, REQUEST, delivery="ring", output="arrow", batch_size=150) as stream:
        first = next(stream)
        slots = stream._prefetcher.delivery.reader._slots  # type: ignore[union-attr, attr-defined]
        memory = np.frombuffer(slots._memory, dtype=np.uint8)
        inside = range(memory.ctypes.data, memory.ctypes.data + len(memory))
        assert all(b.address in inside for c in first.columns for b in c.buffers() if b)
        assert not any(b.is_mutable for c in first.columns for b in c.buffers() if b)
        require_rows([first, *stream])


def test_a_consumer_that_keeps_all_its_batches_keeps_few_slots(ring: Gateway) -> None:
    got = []
    with stream_of(ring, REQUEST, delivery="ring", output="arrow", batch_size=150) as stream:
        for batch in stream:
            got.append(batch)
            reader = stream._prefetcher and stream._prefetcher.delivery.reader
            assert reader is None or reader._slots.kept <= KEPT_MAX + 1  # type: ignore[attr-defined]
    require_rows(got)


def test_a_batch_stays_as_it_was_when_its_lease_is_revoked_and_its_worker_killed(
    people: Data,
) -> None:
    mine = Worker()
    gateway = Gateway(people, mine)
    how = {"output": "arrow", "batch_size": 150, "prefetch_bytes": 1}
    stream = stream_of(gateway, REQUEST, delivery="ring", **how)
    batch = next(stream)
    gateway.revoke(stream.manifest.lease)
    with pytest.raises(LeaseRevoked):
        list(stream)
    mine.close()
    require_rows([batch], 0, 150)


@pytest.mark.parametrize("batches", [1, 7, 13])
def test_a_worker_killed_within_a_segment_is_a_pause_and_no_row_comes_twice(
    people: Data, batches: int
) -> None:
    mine = Worker()
    gateway = Gateway(people, mine)
    with stream_of(gateway, REQUEST, patience=20, output="arrow", batch_size=128) as stream:
        got = [next(stream) for _ in range(batches)]
        gateway.kill()
        threading.Timer(0.2, gateway.start).start()
        got += list(stream)
    require_rows(got)
    gateway.close()
    mine.close()


def test_rows_before_a_changed_frame_are_given_and_none_of_it(
    tmp_path: Path, worker: Worker
) -> None:
    data = view_data(tmp_path, rows=ROWS, block_rows=300, name=long_name)
    path = Path(data.source.path)  # type: ignore[union-attr]
    sealed = bytearray(path.read_bytes())
    sealed[len(sealed) * 3 // 4] ^= 1
    path.write_bytes(sealed)
    gateway = Gateway(data, worker)
    got: list[Any] = []
    stream = stream_of(gateway, REQUEST, output="arrow", batch_size=100)
    with pytest.raises(StreamBroken) as stop:
        got.extend(pa.concat_batches([batch, batch.slice(0, 0)]) for batch in stream)
    assert stop.value.facts["cause_code"] == IntegrityError.code
    rows = sum(batch.num_rows for batch in got)
    assert 2400 <= stop.value.position.rows == rows <= 4500  # type: ignore[union-attr]
    require_rows(got, 0, rows)
    gateway.close()


def test_a_false_end_of_the_last_segment_is_found_before_its_last_batch(
    ring: Gateway, tmp_path: Path
) -> None:
    stream = stream_of(ring, delivery="ring", output="arrow", batch_size=ROWS)
    access = stream._lease.access
    stream._lease.access = replace(access, ring=Liar(access, "last", tmp_path).path)
    with pytest.raises(StreamBroken) as stop:
        next(stream)
    assert stop.value.facts["cause_code"] == IntegrityError.code
    assert stop.value.position.rows == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("output", ["arrow", "numpy"])
def test_frames_larger_than_a_slot_are_copied(tmp_path: Path, worker: Worker, output: str) -> None:
    def name(row: int) -> str:
        return "x" * (1_500_000 if row == 7 else 10)

    data = view_data(tmp_path, rows=20, block_rows=2, name=name)
    gateway = Gateway(data, worker)
    with stream_of(gateway, REQUEST, delivery="ring", output=output, batch_size=3) as stream:
        found = [len(str(n)) for batch in stream for n in batch["name"]]
    assert found == [1_500_000 if row == 7 else 10 for row in range(20)]
    gateway.close()
