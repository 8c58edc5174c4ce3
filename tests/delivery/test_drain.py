"""A data worker that is to stop: what it began it finishes, and nothing more begins."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from gateway.client.segments import verify
from gateway.wire.leases import LeaseRequest
from tests.delivery.spies import stream_of
from tests.delivery.test_arriving import one_column
from tests.delivery.test_worker import Lease, code_of, eventually, lease_of
from tests.delivery.world import Data, Gateway, Worker


class Draining(threading.Thread):
    """Control's question to the worker: `unfinished` once it is answered."""

    unfinished = -1

    def __init__(self, gateway: Gateway, seconds: float) -> None:
        super().__init__()
        self._ask: Callable[[], int] = lambda: gateway.run(gateway.link.drain(seconds))
        self.start()

    def run(self) -> None:
        self.unfinished = self._ask()


@pytest.fixture
def worker() -> Any:
    """A worker of its own: it is of no use afterwards."""
    worker = Worker()
    yield worker
    worker.close()


class Reading:
    """A reader that asked for a segment of 16 MiB, and has taken no more than the head so far."""

    def __init__(self, lease: Lease, number: int = 0) -> None:
        url = urlsplit(lease.access.data_url)
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._sock.settimeout(10)
        self._sock.connect((url.hostname, url.port))
        path = lease.path(number)
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nGateway-MAC: {lease.mac(path)}\r\n\r\n"
        self._sock.sendall(head.encode())
        self._answer = self._sock.makefile("rb")
        assert self._answer.readline().startswith(b"HTTP/1.1 200")
        self._headers = http.client.parse_headers(self._answer)

    def rest(self) -> memoryview:
        """The whole body."""
        length = int(self._headers["content-length"])
        body = self._answer.read(length)
        assert len(body) == length, "the segment was cut"
        return memoryview(body)

    def close(self) -> None:
        self._answer.close()
        self._sock.close()


def test_a_segment_on_its_way_comes_whole_and_no_other_begins(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    reading = Reading(lease)
    draining = Draining(large, 10)
    eventually(lambda: lease.fetch(1)[0] == 503)
    assert b"the gateway is stopping" in lease.fetch(1)[1]
    assert draining.unfinished < 0, "it waits for the reader"
    with closing(reading):
        segment = verify(reading.rest(), 0, lease.access)
    assert segment.head.segment == 0
    draining.join()
    assert draining.unfinished == 0
    eventually(lambda: 0 in large.control.confirmed.get(lease.name, []))


def test_a_stop_waits_for_nobody_longer_than_it_must(large: Gateway) -> None:
    assert large.run(large.link.drain(10)) == 0, "nothing was on its way"
    assert code_of(lease_of(large).fetch(0)) == (503, "unavailable")


def test_a_reader_that_does_not_read_is_left_behind_when_time_is_up(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    reading = Reading(lease)
    began = time.monotonic()
    assert large.run(large.link.drain(0.5)) == 1
    assert 0.4 < time.monotonic() - began < 3
    reading.close()


@pytest.mark.parametrize("columns", ["one", "all"])
def test_a_consumer_on_the_ring_has_its_segment_and_goes_on_after_the_restart(
    worker: Worker, large_data: Data, columns: str
) -> None:
    data = one_column(large_data) if columns == "one" else large_data
    gateway = Gateway(data, worker)
    with stream_of(gateway, delivery="ring", patience=60, batch_size=512) as stream:
        batches = [next(stream)]
        draining, cut = Draining(gateway, 10), []

        def restart() -> None:
            draining.join()
            cut.append(gateway.status()["streams"])
            gateway.worker.stop()
            gateway.start()

        restarted = threading.Thread(target=restart)
        restarted.start()
        for batch in stream:
            batches.append(batch)
            time.sleep(0.02)  # 16 steps are longer than the worker would have waited
        restarted.join()
    assert (draining.unfinished, cut) == (0, [0])
    for name, column in data.expected.items():
        if name in batches[0]:
            np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), column)
    gateway.close()


def test_rows_that_are_here_do_not_wait_for_a_gateway_that_is_away(
    worker: Worker, large_data: Data
) -> None:
    gateway = Gateway(one_column(large_data), worker)
    with stream_of(gateway, delivery="ring", patience=60, batch_size=512) as stream:
        got = next(stream)["tokens"].copy()
        assert gateway.run(gateway.link.drain(10)) == 0, "a busy consumer's rows are copied ahead"
        time.sleep(0.3)  # and the next segment is refused, again and again
        began = time.monotonic()
        for _ in range(stream.manifest.lanes[0][0] // 512 - 1):
            got = np.concatenate([got, next(stream)["tokens"]])
        assert time.monotonic() - began < 10
    np.testing.assert_array_equal(got, gateway.control.data.expected["tokens"][: len(got)])
    gateway.close()


def test_a_worker_that_is_told_to_end_by_itself_finishes_first(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    reading = Reading(lease)
    os.kill(large.process.pid, signal.SIGTERM)
    eventually(lambda: lease.fetch(1)[0] == 503)
    with closing(reading):
        verify(reading.rest(), 0, lease.access)
    assert large.process.wait(5) == 0
    assert 0 in large.control.confirmed[lease.name]
