"""How a stream of one column ends: at its last row, in the middle, forgotten, interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gateway.client.ring as client_ring
from gateway.errors import IntegrityError, StreamBroken
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.delivery.spies import Liar, eventually, stream_of
from tests.delivery.test_arriving import one_column, received
from tests.delivery.world import Data, Gateway, Worker, direct_data


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """24 MiB of one column: two segments of 16 and 8 MiB."""
    place = tmp_path_factory.mktemp("tokens")
    return one_column(direct_data(place, shard_rows=(4000, 2145), width=1024))


@pytest.fixture
def ring(worker: Worker, tokens: Data) -> Iterator[Gateway]:
    gateway = Gateway(tokens, worker)
    yield gateway
    gateway.close()


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_a_stream_that_is_forgotten_within_a_segment_gives_up_its_thread(ring: Gateway) -> None:
    stream = stream_of(ring, delivery="ring", batch_size=64)
    next(stream)
    del stream
    eventually(lambda: threads() == 0)
    eventually(lambda: ring.status()["rings"] == 0)


def test_a_stream_that_began_over_http_goes_on_over_a_ring(ring: Gateway) -> None:
    path, ring.ring = ring.ring, None
    request = LeaseRequest(order=OrderRequest(window_blocks=40))
    with stream_of(ring, request, prefetch_segments=1, patience=90, batch_size=256) as stream:
        got = [next(stream)]
        assert stream.stats["delivery"] == "http"
        ring.ring = path
        ring.kill()
        ring.start()
        got += list(stream)
        assert stream.stats["delivery"] == "ring"
    np.testing.assert_array_equal(received(got), ring.control.data.expected["tokens"])


def test_a_stream_that_began_over_a_ring_goes_on_over_http(ring: Gateway) -> None:
    request = LeaseRequest(order=OrderRequest(window_blocks=40))
    with stream_of(ring, request, prefetch_segments=2, patience=90, batch_size=256) as stream:
        got = [next(stream)]
        assert stream.stats["delivery"] == "ring"
        ring.kill()
        ring.ring = None
        ring.start()
        got += list(stream)
        assert stream.stats["delivery"] == "http"
        assert stream.stats["segments"] == len(stream.manifest.lanes[0])
    np.testing.assert_array_equal(received(got), ring.control.data.expected["tokens"])


@pytest.mark.parametrize("uneven", ["pad", "drop"])
@pytest.mark.parametrize("batch_size", [64, 2048])
def test_every_segment_is_verified_and_acknowledged_at_the_end(
    ring: Gateway, batch_size: int, uneven: str
) -> None:
    for _ in range(3):
        with stream_of(ring, delivery="ring", batch_size=batch_size, uneven=uneven) as stream:
            for _ in range(len(stream)):
                next(stream)
            assert len(stream.receipts) == 2
        assert stream.stats["segments"] == 2
        eventually(lambda: ring.control.acknowledged[-1:] == [(stream.manifest.lease, 2, 6145)])


def test_a_stream_closed_in_the_middle_acknowledges_what_was_verified(ring: Gateway) -> None:
    with stream_of(ring, delivery="ring", batch_size=64) as stream:
        while stream.stats.get("segments", 0) < 1:
            next(stream)
    first = stream.manifest.lanes[0][0]
    eventually(lambda: ring.control.acknowledged[-1:] == [(stream.manifest.lease, 1, first)])


def test_a_false_end_of_the_last_segment_is_found_before_its_last_batch(
    ring: Gateway, tmp_path: Path
) -> None:
    stream = stream_of(ring, delivery="ring", batch_size=6145)
    access = stream._lease.access
    stream._lease.access = replace(access, ring=Liar(access, "last", tmp_path).path)
    with pytest.raises(StreamBroken) as stop:
        next(stream)
    assert stop.value.facts["cause_code"] == IntegrityError.code
    assert stop.value.position.rows == 0


def test_a_batch_that_was_interrupted_is_not_passed_over(ring: Gateway) -> None:
    """By a signal whose handler raises; whoever goes on then would miss its rows."""
    stream = stream_of(ring, delivery="ring", batch_size=3000)
    ring.process.send_signal(signal.SIGSTOP)
    threading.Timer(1.0, ring.process.send_signal, (signal.SIGCONT,)).start()
    before = signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(StreamBroken, match="interrupted") as stop:
        next(stream)
    assert stop.value.position.rows == 0
    assert stream.position.rows == 0
    assert threads() == 0


def test_a_signal_may_close_a_stream_whose_consumer_waits_for_the_worker(ring: Gateway) -> None:
    """As SIGTERM does it, to hand the lease back."""
    stream = stream_of(ring, delivery="ring", batch_size=256)
    next(stream)
    ring.process.send_signal(signal.SIGSTOP)
    threading.Timer(1.5, ring.process.send_signal, (signal.SIGCONT,)).start()
    before = signal.signal(signal.SIGALRM, lambda *_: stream.close())
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(StreamBroken, match="closed"):
            list(stream)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert threads() == 0


def _raise(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_a_column_of_another_width_than_its_type_is_refused(
    worker: Worker, tokens: Data, delivery: str
) -> None:
    column = replace(tokens.columns[0], shape=(1025,))
    gateway = Gateway(replace(tokens, columns=(column,)), worker)
    with pytest.raises(StreamBroken) as stop:
        list(stream_of(gateway, delivery=delivery))
    assert stop.value.facts["cause_code"] == IntegrityError.code
    gateway.close()


def test_a_consumer_that_is_busy_with_small_segments_stalls_nobody(
    tmp_path: Path, tokens: Data
) -> None:
    """Four segments of two slots fill the ring: the end of the fourth waits for a slot."""
    impatient = Worker(stall_seconds=0.5)
    gateway = Gateway(tokens, impatient)
    request = LeaseRequest(order=OrderRequest(window_blocks=8))
    how = {"delivery": "ring", "batch_size": 64, "prefetch_bytes": 1}
    with stream_of(gateway, request, **how) as stream:
        got = [next(stream)]
        time.sleep(2)
        got += list(stream)
    segments = len(stream.manifest.lanes[0])
    assert gateway.status()["segments"] == segments, "no segment was sent twice"
    np.testing.assert_array_equal(received(got), tokens.expected["tokens"])
    gateway.close()
    impatient.close()


def test_a_silent_worker_is_left_when_the_consumer_waits_and_not_before(
    ring: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_ring, "_TICK_SECONDS", 0.05)
    monkeypatch.setattr(client_ring, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(client_ring, "GREETING_SECONDS", 0.5)
    with stream_of(ring, delivery="ring", batch_size=256, patience=0.5, prefetch_bytes=1) as stream:
        next(stream)
        reader = stream._running().delivery.reader
        assert isinstance(reader, client_ring.RingReader)
        sock = reader._sock
        time.sleep(1)
        assert reader._sock is sock, "nobody waits for the worker"
        ring.process.send_signal(signal.SIGSTOP)
        threading.Timer(3, ring.process.send_signal, (signal.SIGCONT,)).start()
        with pytest.raises(StreamBroken) as stop:
            list(stream)
    assert stop.value.position.rows >= 256


def test_rows_in_a_forked_process_stay_as_they_were(ring: Gateway) -> None:
    with stream_of(ring, delivery="ring", batch_size=256) as stream:
        batch = next(stream)["tokens"]
        before = batch.copy()
        said, says = os.pipe()
        child = os.fork()
        if not child:
            os.read(said, 1)
            os._exit(not np.array_equal(batch, before))
        del batch
        got = [before] + [b["tokens"] for b in stream]
        os.write(says, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(np.concatenate(got), ring.control.data.expected["tokens"])
