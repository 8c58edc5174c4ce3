"""The client over both deliveries; and at a ring whose worker lies."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError, IntegrityError, LeaseRevoked, StreamBroken
from gateway.process.unix_socket import bind_private
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.delivery.spies import SMALL, Liar, rows_of, stream_of
from tests.delivery.world import Data, Gateway, Worker, direct_data, view_data


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    """Data of every shape: small pages, a view, rows that are larger than a slot."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("direct", "odd", "view", "wide")}
    return {
        "direct": direct_data(made["direct"], shard_rows=(500, 301)),
        "odd": direct_data(made["odd"], shard_rows=(97,), block_rows=7, width=3),
        "view": view_data(made["view"]),
        "wide": direct_data(made["wide"], shard_rows=(5,), block_rows=1, width=700_001),
    }


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["direct", "odd", "view", "wide"]),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
    world=st.integers(1, 3),
    window_blocks=st.integers(1, 8),
    batch_size=st.integers(1, 200),
)
def test_both_deliveries_give_the_same_bytes(
    worker: Worker, kinds: dict[str, Data], kind: str, batch_size: int, **order: Any
) -> None:
    gateway = Gateway(kinds[kind], worker)
    request = LeaseRequest(order=OrderRequest(lanes=4, rank=order["world"] - 1, **order))
    got = {}
    for delivery in ("ring", "http"):
        with stream_of(gateway, request, delivery=delivery, batch_size=batch_size) as stream:
            got[delivery] = list(stream)
            assert stream.stats["delivery"] == delivery or not got[delivery]
    gateway.close()
    assert len(got["ring"]) == len(got["http"])
    for one, other in zip(got["ring"], got["http"], strict=True):
        assert one.keys() == other.keys()
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name])


def test_a_batch_that_is_kept_stays_as_it_was(large: Gateway) -> None:
    with stream_of(large, batch_size=512) as stream:
        kept = list(stream)
    for name, expected in large.control.data.expected.items():
        np.testing.assert_array_equal(np.concatenate([b[name] for b in kept]), expected)


def test_what_came_over_the_ring_is_confirmed_and_acknowledged(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, delivery="ring") as stream:
        lease = stream.manifest.lease
        list(stream)
    stats = stream.stats
    assert stats | {"bytes": 0, "seconds": 0} == {
        "producer": stream.manifest.kind, "delivery": "ring", "reason": None,
        "segments": 14, "rows": 1700, "bytes": 0, "seconds": 0,
    }  # fmt: skip
    assert stats["bytes"] > 1700
    assert 0 < stats["seconds"] < 60
    assert sorted(gateway.control.confirmed[lease]) == list(range(14))
    assert gateway.control.acknowledged[-1] == (lease, 14, 1700)


@pytest.mark.parametrize("why", ["offers none", "No such file", "refused", "another account"])
def test_without_a_ring_segments_come_over_http_and_it_is_said_why(
    gateway: Gateway, why: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    gateway.ring = {
        "offers none": None,
        "No such file": str(tmp_path / "ring.sock"),
        "refused": str(tmp_path / "left.sock"),
        "another account": str(tmp_path),
    }[why]
    left = bind_private(tmp_path, "left.sock")
    assert left is not None
    left.close()
    with caplog.at_level(logging.INFO, "gateway.client"), stream_of(gateway, SMALL) as stream:
        assert rows_of(list(stream)) == 1700
        assert stream.stats["delivery"] == "http"
        assert why in stream.stats["reason"]
    assert len(caplog.messages) == 1
    with pytest.raises(StreamBroken, match=why) as stop:
        next(stream_of(gateway, delivery="ring"))
    assert stop.value.facts["cause_code"] == ConfigError.code


def test_a_socket_of_another_gateway_at_the_same_path_is_passed_by(
    gateway: Gateway, data: Data
) -> None:
    other = Worker()
    Gateway(data, other)
    gateway.ring = str(other.ring)
    with stream_of(gateway, SMALL) as stream:
        assert rows_of(list(stream)) == 1700
        assert "no such lease is open here" in stream.stats["reason"]
    assert len(gateway.control.opened) == 1
    other.close()


def test_whoever_wants_http_gets_no_ring(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, delivery="http", prefetch_segments=1) as stream:
        next(stream)
        assert gateway.status()["rings"] == 0
    with pytest.raises(ConfigError, match="pigeon"):
        stream_of(gateway, delivery="pigeon")


@pytest.mark.parametrize("delivery", ["auto", "ring"])
def test_a_worker_killed_in_the_middle_is_a_pause_on_the_ring(
    gateway: Gateway, delivery: str
) -> None:
    with stream_of(gateway, SMALL, prefetch_segments=1, patience=20, delivery=delivery) as stream:
        got = [next(stream)]
        gateway.kill()
        threading.Timer(0.3, gateway.start).start()
        got += list(stream)
        assert stream.stats["delivery"] == "ring"
    np.testing.assert_array_equal(np.concatenate([b["id"] for b in got]), np.arange(1700))


def test_a_lease_goes_on_over_http_where_the_next_worker_has_no_ring(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, prefetch_segments=1, patience=20) as stream:
        got = [next(stream)]
        gateway.kill()
        gateway.ring = None
        gateway.start()
        got += list(stream)
        assert stream.stats["delivery"] == "http"
    np.testing.assert_array_equal(np.concatenate([b["id"] for b in got]), np.arange(1700))


def test_a_revoked_stream_ends_with_its_reason(gateway: Gateway) -> None:
    stream = stream_of(gateway, SMALL, delivery="ring", prefetch_segments=1, prefetch_bytes=1)
    next(stream)
    gateway.revoke(stream.manifest.lease)
    with pytest.raises(LeaseRevoked) as stop:
        list(stream)
    assert stop.value.position is not None


# a worker that lies


@pytest.mark.parametrize("lie", ["slot", "beyond", "size", "seals", "head", "order"])
def test_frames_that_were_changed_on_the_way_end_the_stream(
    gateway: Gateway, lie: str, tmp_path: Path
) -> None:
    stream = stream_of(gateway, SMALL, delivery="ring")
    access = stream._lease.access
    stream._lease.access = replace(access, ring=Liar(access, lie, tmp_path).path)
    with pytest.raises(StreamBroken) as stop:
        next(stream)
    assert stop.value.facts["cause_code"] == IntegrityError.code, stop.value.message
    stream.close()


@pytest.mark.parametrize(
    ("lie", "why"), [("memory", "not that of the worker"), ("unsealed", "is not sealed")]
)
def test_memory_that_others_could_write_is_not_used(
    gateway: Gateway, tmp_path: Path, lie: str, why: str
) -> None:
    stream = stream_of(gateway, SMALL)
    access = stream._lease.access
    stream._lease.access = replace(access, ring=Liar(access, lie, tmp_path).path)
    with stream:
        assert rows_of(list(stream)) == 1700
        assert stream.stats["delivery"] == "http"
        assert why in stream.stats["reason"]
