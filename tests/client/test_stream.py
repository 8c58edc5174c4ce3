"""Streams from a real worker process: what is refused, then what comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.client.batches import arrow_schema
from gateway.client.leases import HeldLease, LeaseTerms
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.errors import (
    Conflict,
    GatewayError,
    LimitExceeded,
    NotFound,
    PlanChanged,
    StreamBroken,
)
from gateway.wire.leases import (
    LEASE_MANIFEST_FORMAT,
    LeaseColumn,
    LeaseManifest,
    LeaseRequest,
    OrderRequest,
)
from tests.delivery.world import Answer, Gateway, Worker, direct_data, view_data

pytestmark = pytest.mark.usefixtures("small_trays")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def direct(tmp_path: Path, worker: Worker) -> Iterator[Gateway]:
    gateway = Gateway(direct_data(tmp_path), worker)
    yield gateway
    gateway.close()


@pytest.fixture
def view(tmp_path: Path, worker: Worker) -> Iterator[Gateway]:
    gateway = Gateway(view_data(tmp_path), worker)
    yield gateway
    gateway.close()


def ask(**order: Any) -> LeaseRequest:
    return LeaseRequest(order=OrderRequest(**order))


def stream_of(gateway: Gateway, request: LeaseRequest | None = None, **options: Any) -> Stream:
    patience = options.pop("patience", 5.0)
    terms = LeaseTerms(patience_seconds=patience)
    return open_stream(
        gateway, request or ask(), StreamOptions(**{"batch_size": 50, "terms": terms, **options})
    )


def ids(batches: Any) -> list[int]:
    return [int(i) for batch in batches for i in batch["id"]]


def test_unshuffled_rows_come_as_stored_and_untouched(direct: Gateway) -> None:
    with stream_of(direct) as stream:
        batches = list(stream)
    for name, expected in direct.control.data.expected.items():
        got = np.concatenate([batch[name] for batch in batches])
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_shuffled_rows_come_once_each_in_another_order_per_epoch(direct: Gateway) -> None:
    orders = []
    for epoch in (0, 1):
        with stream_of(direct, ask(shuffle=True, seed=7, epoch=epoch, window_blocks=4)) as stream:
            assert len(stream) == 34
            batches = list(stream)
        assert len(batches) == 34
        tokens = np.concatenate([b["tokens"] for b in batches])
        orders.append(ids(batches))
        np.testing.assert_array_equal(tokens, direct.control.data.expected["tokens"][orders[-1]])
        assert sorted(orders[-1]) == list(range(1700))
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1700, 1701, 10**9, 10**30])
def test_a_batch_is_never_larger_than_all_rows(
    direct: Gateway,
    batch_size: int,
    shuffle: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    request = ask(shuffle=shuffle, seed=3)
    with stream_of(direct, request, batch_size=batch_size) as stream:
        assert len(stream) == 1
        assert sorted(ids(stream)) == list(range(1700))
    with stream_of(direct, request, batch_size=batch_size, uneven="drop") as stream:
        assert len(list(stream)) == len(stream) == (batch_size == 1700)


def test_a_view_gives_text_and_missing_values(view: Gateway) -> None:
    with stream_of(view, ask(shuffle=True, seed=1, lanes=3, window_blocks=2)) as stream:
        batches = list(stream)
    got = ids(batches)
    assert sorted(got) == list(range(900))
    assert got != sorted(got)
    names = [name for batch in batches for name in batch["name"]]
    assert names == [f"name-{i}" for i in got]
    with stream_of(view, output="arrow") as arrow:
        first = next(arrow)
    assert first.num_rows == 50
    assert first.column("x").null_count == 25


def test_direct_columns_can_be_had_as_arrow(direct: Gateway) -> None:
    with stream_of(direct, output="arrow") as stream:
        batch = next(stream)
    assert batch.schema.names == ["id", "tokens"]
    assert batch.column("tokens").to_pylist()[3] == (
        direct.control.data.expected["tokens"][3].tolist()
    )


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_the_rows_and_yield_equally_many_batches(direct: Gateway, world: int) -> None:
    shares = []
    for rank in range(world):
        request = ask(shuffle=True, lanes=6, window_blocks=2, rank=rank, world=world)
        with stream_of(direct, request, uneven="drop", batch_size=17) as stream:
            shares.append([b["id"].tolist() for b in stream])
            assert len(shares[-1]) == len(stream) == 1700 // (world * 17)
    seen = [i for share in shares for batch in share for i in batch]
    assert len(seen) == len(set(seen)) == len(shares[0]) * world * 17


def test_a_position_taken_anywhere_resumes_in_any_world(direct: Gateway) -> None:
    seen: list[int] = []
    state: dict[str, Any] | None = None
    for world, batch_size, steps in ((2, 30, 4), (3, 11, 9), (1, 100, 2), (4, 25, 3), (1, 64, 99)):
        states = []
        for rank in range(world):
            request = ask(shuffle=True, seed=3, lanes=4, window_blocks=3, rank=rank, world=world)
            stream = stream_of(direct, request, batch_size=batch_size)
            if state is not None:
                stream.load_state_dict(state)
            with stream:
                for _ in range(min(steps, len(stream))):
                    seen += next(stream)["id"].tolist()
                states.append(stream.state_dict())
        assert all(s == states[0] for s in states)
        state = states[0]
    assert sorted(seen) == list(range(1700))


@pytest.mark.parametrize(
    "other", [{"lanes": 2}, {"window_blocks": 2}, {"shuffle": False}, {"seed": 4}, {"epoch": 1}]
)
def test_a_position_is_good_for_its_own_order_only(direct: Gateway, other: dict[str, Any]) -> None:
    words = {"shuffle": True, "seed": 3, "lanes": 4, "window_blocks": 3}
    with stream_of(direct, ask(**words)) as stream:
        next(stream)
        state = stream.state_dict()
    with pytest.raises(PlanChanged, match="another plan, version, seed, epoch or order"):
        stream_of(direct, replace(ask(**{**words, **other}), position=state))


def test_who_waits_for_a_view_is_told_how_far_it_is(
    direct: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [time.time()]

    class Building:
        """A gateway that makes a view for twelve seconds; its progress is seen once."""

        began, seen = clock[0], 0

        def request(self, method: str, path: str, **rest: Any) -> Answer:
            if path == "/v1/operations/op_1":
                self.seen += 1
                if self.seen > 1:
                    raise NotFound("no such operation")
                shown = {"id": "op_1", "kind": "view", "state": "running", "progress": 0.41}
                return Answer({**shown, "detail": "building the view", "result": None})
            if clock[0] < self.began + 12:
                view = {"lease": "", "state": "building", "expires_at": 0, "operation": "op_1"}
                return Answer(view)
            return direct.request(method, path, **rest)

    wait = lambda seconds: clock.__setitem__(0, clock[0] + seconds)  # noqa: E731
    terms = LeaseTerms(now=lambda: clock[0], sleep=wait)
    HeldLease(Building(), ask(), terms).close()
    assert caplog.messages == [
        "the gateway makes the rows ready: building the view, 41%",
        "the gateway makes the rows ready",
    ]


@pytest.mark.parametrize("where", ["page", "swap", "truncate"])
def test_tampered_storage_is_refused_and_reported(direct: Gateway, where: str) -> None:
    shards = direct.control.data.source.shards  # type: ignore[union-attr]
    path = Path(shards[0].path)
    data = bytearray(path.read_bytes())
    if where == "swap":
        path.write_bytes(Path(shards[1].path).read_bytes())
    elif where == "truncate":
        path.write_bytes(data[:-100])
    else:
        data[5000] ^= 1
        path.write_bytes(data)
    with pytest.raises(GatewayError) as stop, stream_of(direct) as stream:
        list(stream)
    assert stop.value.code in ("stream-broken", "integrity")
    if where == "page":
        time.sleep(0.2)
        assert isinstance(stop.value, StreamBroken)
        assert stop.value.position.rows == 0
        assert direct.control.refusals[0][2] == "integrity"


def test_a_stream_that_is_forgotten_gives_up_its_thread(direct: Gateway) -> None:
    stream = stream_of(direct, ask(window_blocks=1), prefetch_segments=1)
    next(stream)
    del stream
    deadline = time.monotonic() + 5
    while any(t.name == "prefetch" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_budget_that_ends_keeps_its_name_and_the_position(direct: Gateway) -> None:
    record = direct.control.intent

    async def charge(lease: str, first: int, last: int, rows: int, size: int) -> Any:
        if last >= 3:
            raise LimitExceeded("max_rows is used up")
        return await record(lease, first, last, rows, size)

    direct.control.intent = charge  # type: ignore[method-assign]
    with pytest.raises(LimitExceeded) as stop, stream_of(direct, ask(window_blocks=1)) as stream:
        list(stream)
    assert stop.value.position.rows == 150  # type: ignore[attr-defined]


def test_a_bad_page_late_in_a_segment_is_refused_without_waiting_for_patience(
    tmp_path: Path, worker: Worker
) -> None:
    gateway = Gateway(direct_data(tmp_path, shard_rows=(4000,), width=256), worker)
    try:
        path = Path(gateway.control.data.source.shards[0].path)  # type: ignore[union-attr]
        data = bytearray(path.read_bytes())
        data[3 * len(data) // 4] ^= 1
        path.write_bytes(data)
        start = time.monotonic()
        with pytest.raises(StreamBroken) as stop, stream_of(gateway, patience=60.0) as stream:
            list(stream)
        assert time.monotonic() - start < 20
        assert stop.value.facts["cause_code"] == "integrity"
    finally:
        gateway.close()


def test_a_state_is_loaded_before_the_first_batch_only(direct: Gateway) -> None:
    with stream_of(direct) as stream:
        next(stream)
        with pytest.raises(Conflict):
            stream.load_state_dict(stream.state_dict())


def test_what_was_sent_is_confirmed_and_what_was_received_acknowledged(direct: Gateway) -> None:
    with stream_of(direct, ask(window_blocks=4)) as stream:
        lease = stream.manifest.lease
        list(stream)
    recorded = sorted(n for i in direct.control.intents for n in range(i[1], i[2] + 1))
    assert recorded == sorted(set(recorded)) == list(range(7))
    assert sorted(direct.control.confirmed[lease]) == list(range(7))
    assert direct.control.acknowledged[-1] == (lease, 7, 1700)
    assert sum(i[3] for i in direct.control.intents) == 1700
    assert len(direct.control.intents) < 7


def test_a_stream_without_rows_still_has_a_schema() -> None:
    manifest = LeaseManifest(
        format=LEASE_MANIFEST_FORMAT, lease="lease_x", dataset="clinic/empty@1", split=None,
        kind="direct", plan_digest="", schema=None, rows=0, lanes=((),), order=OrderRequest(),
        order_id="", window_key="", boot="",
        columns=(
            LeaseColumn(name="age", arrow="int64", dtype="<i8"),
            LeaseColumn(name="t", arrow="fixed_size_list<float>[2]", dtype="<f4", shape=(2,)),
        ),
    )  # fmt: skip
    schema = arrow_schema(manifest)
    assert schema.names == ["age", "t"]
    assert str(schema.field("age").type) == "int64"
    assert schema.field("t").type.list_size == 2
