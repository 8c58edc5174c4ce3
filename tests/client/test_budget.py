"""What a stream holds ahead: never more than its budget, and never nothing at all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.budget import Budget, NoRoom
from gateway.client.leases import LeaseTerms
from gateway.client.ring import RingReader
from gateway.client.segments import SegmentReader
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.client.streaming import open_under
from gateway.config import load
from gateway.errors import InvalidInput
from gateway.wire.leases import (
    LEASE_MANIFEST_FORMAT,
    LeaseColumn,
    LeaseManifest,
    LeaseRequest,
    OrderRequest,
)
from tests.delivery.test_arriving import one_column
from tests.delivery.world import Gateway, Worker, direct_data, view_data
from tests.journeys.home import wait

BUDGET = 512 << 10
LONG = 20 << 20


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def manifest_of(kind: str, rows: list[int]) -> LeaseManifest:
    column = LeaseColumn(name="x", arrow="int64", dtype="<i8") if kind == "direct" else None
    return LeaseManifest(
        format=LEASE_MANIFEST_FORMAT, lease="lease_x", dataset="clinic/icu@1", split=None,
        kind=kind, plan_digest="", schema=None, rows=sum(rows), lanes=(tuple(rows),),
        order=OrderRequest(), order_id="", window_key="", boot="",
        columns=() if column is None else (column,),
    )  # fmt: skip


def stream_of(gateway: Gateway, delivery: str, lanes: int = 1, **options: Any) -> Stream:
    terms = LeaseTerms(patience_seconds=20, delivery=delivery)
    given = {"batch_size": 64, "terms": terms, "prefetch_segments": 1000, **options}
    wanted = LeaseRequest(order=OrderRequest(window_blocks=1, lanes=lanes))
    return open_stream(gateway, wanted, StreamOptions(**given))


def quiet(what: Callable[[], int]) -> int:
    """Its value when it has not changed for a while."""
    value, since = what(), time.monotonic()
    while time.monotonic() - since < 0.3:
        time.sleep(0.02)
        if what() != value:
            value, since = what(), time.monotonic()
    return value


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="prefetch_bytes"):
        StreamOptions(prefetch_bytes=0)


@given(
    sizes=st.lists(st.integers(1, 40 << 20), min_size=1, max_size=30),
    bytes_max=st.integers(1, 100 << 20),
    takes=st.randoms(),
)
def test_no_more_than_the_budget_is_ever_ahead_unless_it_is_one_segment(
    sizes: list[int], bytes_max: int, takes: Any
) -> None:
    budget, held = Budget(bytes_max, manifest_of("view", [1] * len(sizes))), deque[int]()
    for number, size in enumerate(sizes):
        while True:
            while not budget.has_room(number) or (held and takes.random() < 0.3):
                budget.take(held.popleft())  # a deadlock here would be one of a stream
            try:
                budget.claim(size)
            except NoRoom:
                assert sum(held) + size > bytes_max
                continue
            break
        held.append(budget.keep())
        assert held[-1] == size
        assert sum(held) <= bytes_max or len(held) == 1


@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_a_consumer_that_pauses_finds_no_more_than_the_budget(
    tmp_path: Path, worker: Worker, delivery: str
) -> None:
    gateway = Gateway(direct_data(tmp_path, shard_rows=(4096,), width=256), worker)
    with stream_of(gateway, delivery, prefetch_bytes=BUDGET) as stream:
        got = [next(stream)]
        taken = sum(column.nbytes for column in got[0].values())
        wait(lambda: stream.stats["bytes"] - taken > BUDGET // 2, 15, "nothing is fetched ahead")
        assert quiet(lambda: stream.stats["bytes"]) - taken <= BUDGET
        got += list(stream)
    np.testing.assert_array_equal(np.concatenate([b["id"] for b in got]), np.arange(4096))
    gateway.close()


@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_a_budget_below_one_segment_lets_one_through_at_a_time(
    tmp_path: Path, worker: Worker, delivery: str
) -> None:
    gateway = Gateway(direct_data(tmp_path), worker)
    with stream_of(gateway, delivery, prefetch_bytes=1) as stream:
        got = [next(stream)]
        wait(lambda: stream.stats["segments"] == 2, 15, "none is fetched ahead")
        assert quiet(lambda: stream.stats["segments"]) == 2
        got += list(stream)
    np.testing.assert_array_equal(np.concatenate([b["id"] for b in got]), np.arange(1700))
    gateway.close()


@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_an_over_large_row_waits_until_nothing_is_held_beside_it(
    tmp_path: Path, worker: Worker, delivery: str
) -> None:
    def name(row: int) -> str:
        return "x" * (LONG if row == 3 else 10)

    gateway = Gateway(view_data(tmp_path, rows=6, block_rows=1, name=name), worker)
    # Of two lanes, all are copied; of one, those before it would wait in the ring.
    with stream_of(gateway, delivery, 2, prefetch_bytes=LONG - 1, batch_size=1) as stream:
        lengths = [len(next(stream)["name"][0])]
        assert quiet(lambda: stream.stats["bytes"]) < LONG
        lengths += [len(batch["name"][0]) for batch in stream]
    assert lengths == [10, 10, 10, LONG, 10, 10]
    gateway.close()


def test_over_large_rows_of_a_stream_that_reads_the_ring_are_held_one_by_one(
    tmp_path: Path, worker: Worker
) -> None:
    def name(row: int) -> str:
        return "x" * (LONG if row > 1 else 10)

    gateway = Gateway(view_data(tmp_path, rows=8, block_rows=1, name=name), worker)
    with stream_of(
        gateway, "ring", prefetch_bytes=LONG, prefetch_segments=1, batch_size=1
    ) as stream:
        lengths = [len(next(stream)["name"][0])]
        assert quiet(lambda: stream.stats["bytes"]) < LONG, "they wait in the ring"
        lengths += [len(next(stream)["name"][0]) for _ in range(4)]
        assert 4 * LONG < quiet(lambda: stream.stats["bytes"]) < 5 * LONG, "one is ahead again"
        lengths += [len(batch["name"][0]) for batch in stream]
    assert lengths == [10, 10, *[LONG] * 6]
    gateway.close()


def test_a_stream_that_waits_for_room_is_closed_at_once(tmp_path: Path, worker: Worker) -> None:
    gateway = Gateway(direct_data(tmp_path), worker)
    stream = stream_of(gateway, "http", prefetch_bytes=1)
    next(stream)
    quiet(lambda: stream.stats["segments"])
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 5
    gateway.close()


def test_the_budget_is_a_setting_that_a_keyword_overrules(
    tmp_path: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_PREFETCH_BYTES", "12345")
    gateway = Gateway(direct_data(tmp_path), worker)
    gateway.tls = None  # type: ignore[attr-defined] # what else a Transport has
    for how, expected in (({}, 12345), ({"prefetch_bytes": 6}, 6)):
        stream = open_under(gateway, lambda: "token", how, None, load())  # type: ignore[arg-type]
        assert stream._options.prefetch_bytes == expected
        stream.close()
    gateway.close()


@pytest.mark.parametrize("reader", [SegmentReader, RingReader])
def test_a_consumer_that_waits_has_the_next_segment_asked_for_while_one_comes(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any
) -> None:
    """Else the worker has nothing to do from the end of one to the question for the next."""
    asked: list[int | None] = []
    fetch = reader.fetch

    def noted(self: Any, number: int, received: Any, following: int | None, *more: Any) -> Any:
        asked.append(following)
        time.sleep(0.02)  # a consumer that is done at once waits for this
        return fetch(self, number, received, following, *more)

    monkeypatch.setattr(reader, "fetch", noted)
    gateway = Gateway(view_data(tmp_path), worker)
    # Of two lanes, all are copied; of one, the consumer itself would read the ring.
    how = ("ring", 2) if reader is RingReader else ("http",)
    with stream_of(gateway, *how, prefetch_segments=2) as stream:
        assert sum(len(batch["id"]) for batch in stream) == 900
    gateway.close()
    assert len(asked) == sum(map(len, stream.manifest.lanes))
    assert asked.count(None) <= 5  # one for the last; more where the consumer got no processor


def test_a_consumer_that_is_busy_has_no_more_asked_for_than_it_has_room_for(
    worker: Worker, tmp_path: Path
) -> None:
    gateway = Gateway(view_data(tmp_path), worker)
    with stream_of(gateway, "http", prefetch_segments=2) as stream:
        next(stream)
        assert quiet(lambda: len(gateway.control.intents)) <= 9
        assert quiet(lambda: gateway.status()["segments"]) <= 4  # in hand, two, and one that waits
        assert sum(len(batch["id"]) for batch in stream) == 900 - 64
    gateway.close()


@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_wide_rows_of_one_column_are_not_held_beyond_the_budget(
    worker: Worker, tmp_path: Path, delivery: str
) -> None:
    """They are wider than a slot, so that they are copied although the column is the only one."""
    data = one_column(direct_data(tmp_path, shard_rows=(12,), block_rows=1, width=300_000))
    gateway = Gateway(data, worker)
    with stream_of(gateway, delivery, batch_size=1, prefetch_bytes=3 << 20) as stream:
        next(stream)
        assert quiet(lambda: stream.stats["segments"]) <= 1 + 2
        assert len(list(stream)) == 11
    gateway.close()
