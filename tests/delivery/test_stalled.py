"""Readers that read nothing, or a byte now and then, beside one that reads.

They are dropped when their time is over; whoever reads gets everything; memory and
descriptors of the worker come back. `--long`: a thousand of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gateway.process.confine import resident_bytes
from gateway.wire import ring as frames
from gateway.wire.leases import LeaseRequest
from gateway.wire.segments import HEAD_MAGIC
from tests.delivery.spies import Spy, access_of, eventually, stream_of
from tests.delivery.test_worker import lease_of
from tests.delivery.world import Data, Gateway, Worker

STALLED, STALLED_LONG = 24, 1000
STALL_SECONDS, STALL_SECONDS_LONG = 1.0, 30.0  # a thousand need time to be there at once
HELLO_SECONDS = 0.5
A_STREAM_BYTES = 5 << 20  # of worker's memory at most, for a reader that takes nothing
KEPT_BYTES = 48 << 20  # of it at most, when they are gone


@dataclass
class Crowd:
    """Stalled readers; one thread plays all that do something now and then."""

    gateway: Gateway
    sockets: list[socket.socket] = field(default_factory=list)
    refused: int = 0
    _slow: list[tuple[socket.socket, Iterator[bytes]]] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def join(self, kind: str) -> None:
        """One more; what the worker refuses, for want of room, counts as well."""
        try:
            getattr(self, kind)()
        except (OSError, EOFError, AssertionError):
            self.refused += 1

    def http_reads_nothing(self) -> None:
        self._ask()

    def http_reads_a_byte(self) -> None:
        self._slow.append((self._ask(), iter(())))

    def ring_says_nothing(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        self.sockets.append(sock)
        sock.connect(str(self.gateway.ring))

    def ring_gives_nothing_back(self) -> None:
        self._begin()

    def ring_gives_back_a_byte(self) -> None:
        """One frame, byte after byte: it is over before the frame is whole."""
        credit = frames.frame(frames.CREDIT, frames.RETURNED.pack(0))
        endless = itertools.chain((bytes([b]) for b in credit[:-1]), itertools.repeat(b""))
        self._slow.append((self._begin(), endless))

    def _ask(self) -> socket.socket:
        """Ask for a segment of 16 MiB, and take the first byte of the answer."""
        lease = lease_of(self.gateway, LeaseRequest())
        sock = socket.socket()
        self.sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", self.gateway.port))
        path = lease.path(0)
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nGateway-MAC: {lease.mac(path)}\r\n\r\n"
        sock.sendall(head.encode())
        assert sock.recv(12) == b"HTTP/1.1 200"
        return sock

    def _begin(self) -> socket.socket:
        spy = Spy(access_of(self.gateway, LeaseRequest()))
        self.sockets.append(spy.sock)
        try:
            spy.greet()
            spy.get(0)
            spy.expect(HEAD_MAGIC)
        finally:
            if spy.descriptor >= 0:
                os.close(spy.descriptor)
                spy.descriptor = -1
        return spy.sock

    def _play(self) -> None:
        while not self._is_over.wait(0.1):
            for sock, said in list(self._slow):
                with contextlib.suppress(OSError):
                    sock.setblocking(False)
                    sock.recv(1)
                with contextlib.suppress(OSError):
                    sock.send(next(said, b""))

    def leave(self) -> None:
        self._is_over.set()
        self._thread.join()
        for sock in self.sockets:
            sock.close()


KINDS = (
    "http_reads_nothing", "http_reads_a_byte", "http_reads_nothing", "ring_says_nothing",
    "ring_gives_nothing_back", "ring_gives_back_a_byte",
)  # fmt: skip


def held(gateway: Gateway) -> int:
    status = gateway.status()
    return int(status["streams"] + status["rings"])


def descriptors(gateway: Gateway) -> int:
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def test_stalled_readers_are_dropped_and_leave_nothing_while_another_reads_all(
    large_data: Data, request: pytest.FixtureRequest
) -> None:
    is_long = request.config.getoption("--long")
    count, stall = (STALLED_LONG, STALL_SECONDS_LONG) if is_long else (STALLED, STALL_SECONDS)
    worker = Worker(stall_seconds=stall, hello_seconds=HELLO_SECONDS)
    gateway = Gateway(large_data, worker)
    read_whole(gateway)
    eventually(lambda: gateway.status()["rings"] == 0)
    before, idle = descriptors(gateway), resident_bytes(gateway.process.pid)
    try:
        for _ in range(2 if is_long else 1):  # a second crowd shows what a first leaves
            peak = crowd_of(gateway, count, stall)
            assert peak - idle < count * A_STREAM_BYTES + KEPT_BYTES
            gateway.close()  # their leases, of 25 KiB each, are not what is looked for
            gateway.is_closed = False
            gateway.specs.clear()
            eventually(lambda: descriptors(gateway) <= before)
            eventually(lambda: resident_bytes(gateway.process.pid) - idle < KEPT_BYTES)
        assert read_whole(gateway) == gateway.control.data.rows
    finally:
        worker.close()


def crowd_of(gateway: Gateway, count: int, stall: float) -> int:
    """Let so many stall, and one read meanwhile; the most memory of the worker, in bytes."""
    passes: list[int] = []
    healthy = threading.Thread(target=lambda: passes.append(read_whole(gateway)))
    crowd, peak = Crowd(gateway), 0
    try:
        for number in range(count):
            crowd.join(KINDS[number % len(KINDS)])
            peak = max(peak, resident_bytes(gateway.process.pid))
            if number == count // 2:
                healthy.start()
        healthy.join(120)
        assert passes == [gateway.control.data.rows]
        eventually(lambda: held(gateway) == 0, stall + 15)
        print(f"{count} stalled, {crowd.refused} of them refused; at most {peak >> 20} MiB")
        return peak
    finally:
        crowd.leave()


def read_whole(gateway: Gateway) -> int:
    """Both ways, compared with what is stored; the rows of one of them."""
    expected = gateway.control.data.expected
    for delivery in ("auto", "http"):
        with stream_of(gateway, delivery=delivery, batch_size=512, patience=60) as stream:
            batches = list(stream)
        for name, column in expected.items():
            np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), column)
    return len(expected["id"])
