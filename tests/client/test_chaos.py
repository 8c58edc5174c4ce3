"""A network that cuts, delays, flips, drops and reorders, for a whole epoch.

What comes out is exact to the row, or a typed error that says where it stopped; never silence.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.client import segments
from gateway.client.leases import LeaseTerms
from gateway.client.stream import StreamOptions, open_stream
from gateway.errors import StreamStopped
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.delivery.world import Data, Gateway, Worker, direct_data

pytestmark = pytest.mark.usefixtures("small_trays")

ROWS = 1700
EPOCHS, EPOCHS_LONG = 10, 400
HARM = ("cut", "delay", "flip", "drop", "swap")


@dataclass
class Chaos:
    """Relays to the worker; harms some of the pieces that go to the client."""

    target: int
    seed: int
    often: float  # of pieces that are harmed
    harms: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[socket.socket] = []
        self.port = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._pairs.append(client)
                server = socket.create_connection(("127.0.0.1", self.target))
                self._pairs.append(server)
                for pump in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, harmful: bool) -> None:  # noqa: FBT001
        held = b""
        with contextlib.suppress(OSError):
            while data := source.recv(8192):
                harm = str(self._random.choice(HARM)) if harmful and self._is_bad() else ""
                if harm:
                    self.harms.append(harm)
                if harm == "cut":
                    break
                if harm == "swap" and not held:
                    held = data  # comes after the next piece
                    continue
                sink.sendall(self._harmed(harm, data) + held)
                held = b""
            sink.sendall(held)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _is_bad(self) -> bool:
        return float(self._random.random()) < self.often

    def _harmed(self, harm: str, data: bytes) -> bytes:
        if harm == "delay":
            time.sleep(0.02)
        if harm == "flip":
            at = int(self._random.integers(len(data)))
            return (
                data[:at] + bytes([data[at] ^ 1 << int(self._random.integers(8))]) + data[at + 1 :]
            )
        if harm == "drop":
            return data[: len(data) // 2]
        return data

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # ends `accept`, which `close` would not
        self._accepting.join()
        self._listening.close()
        for sock in self._pairs:
            sock.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    place: Path = tmp_path_factory.mktemp("data")
    return direct_data(place)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(stall_seconds=2.0)
    yield worker
    worker.close()


def test_an_epoch_through_chaos_is_exact_or_says_where_it_stopped(
    worker: Worker, data: Data, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "TIMEOUT_SECONDS", 0.3)  # what was dropped never comes
    gateway = Gateway(data, worker)
    calm = read(gateway, [])
    assert sorted(calm) == list(range(ROWS))
    is_long = request.config.getoption("--long")
    ends: list[bool] = []
    harms: set[str] = set()

    @settings(max_examples=EPOCHS_LONG if is_long else EPOCHS,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(seed=st.integers(0, 1 << 30), often=st.sampled_from([0.01, 0.05, 0.2]))
    def holds(seed: int, often: float) -> None:
        chaos = Chaos(worker.port, seed, often)
        gateway.port = chaos.port
        got: list[int] = []
        stopped: StreamStopped | None = None
        try:
            read(gateway, got)
        except StreamStopped as error:
            stopped = error
        finally:
            chaos.close()
        harms.update(chaos.harms)
        assert got == calm[: len(got)]
        if stopped is None:
            assert len(got) == ROWS
        else:
            assert stopped.position is not None
            assert stopped.position.rows == len(got)
        ends.append(stopped is None)

    holds()
    assert len(harms) > 1  # the network was bad, and in more than one way
    assert any(ends)  # chaos is no excuse to give up always
    gateway.port = worker.port
    gateway.close()


def read(gateway: Gateway, got: list[int]) -> list[int]:
    """One shuffled pass; `got` has what came, whatever happens."""
    order = OrderRequest(seed=5, shuffle=True, lanes=3, window_blocks=2)
    options = StreamOptions(batch_size=64, terms=LeaseTerms(patience_seconds=4, delivery="http"))
    with open_stream(gateway, LeaseRequest(order=order), options) as stream:
        for batch in stream:
            got += [int(i) for i in batch["id"]]
    return got
