"""A real data worker, attacked over its port: who may ask, and when it stops."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.client.segments import Access
from gateway.client.stream import StreamOptions, open_stream
from gateway.crypto.segments import RequestLine, sign_request
from gateway.errors import GatewayError, LimitExceeded, PlanChanged
from gateway.wire import codec
from gateway.wire.leases import LeaseManifest, LeaseRequest, OrderRequest
from tests.delivery.world import Data, Gateway, Worker

ROW_BYTES = 4096 + 8
SMALL = LeaseRequest(order=OrderRequest(window_blocks=2))


@dataclass
class Lease:
    """A lease in the hands of an attacker who has its key."""

    gateway: Gateway
    access: Access
    counter: int = 0

    @property
    def name(self) -> str:
        return self.access.manifest.lease

    def path(self, number: int) -> str:
        return f"/v1/leases/{self.name}/segments/{number}"

    def mac(self, path: str, span: str = "", /, **change: Any) -> str:
        self.counter += 1
        given = {
            "lease": self.name,
            "method": "GET",
            "path": path,
            "range": span,
            "boot": self.access.manifest.boot,
        }
        line = RequestLine(**{**given, **change})
        return sign_request(self.access.key, line, self.counter)

    def get(self, path: str, mac: str | None, span: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        headers = {} if mac is None else {"Gateway-MAC": mac}
        connection.request("GET", path, headers={**headers, **({"Range": span} if span else {})})
        response = connection.getresponse()
        try:
            return response.status, response.read()
        finally:
            connection.close()

    def fetch(self, number: int) -> tuple[int, bytes]:
        path = self.path(number)
        return self.get(path, self.mac(path))


def lease_of(gateway: Gateway, request: LeaseRequest = SMALL) -> Lease:
    view = gateway.open(request)
    payload = json.loads(base64.b64decode(view["manifest"]["payload"]))
    manifest = codec.decode_reply(LeaseManifest, payload)
    return Lease(gateway, Access(manifest, view["data_url"], base64.b64decode(view["lease_key"])))


def code_of(answer: tuple[int, bytes]) -> tuple[int, str]:
    return answer[0], json.loads(answer[1])["code"]


def eventually(holds: Any, seconds: float = 15.0) -> None:
    """Sooner than STALL_SECONDS, which would end any transfer that waits for its client."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it never came to hold"
        time.sleep(0.005)


# -- who may ask ------------------------------------------------------------------------


def test_a_request_without_or_with_a_wrong_mac_records_nothing(gateway: Gateway) -> None:
    lease = lease_of(gateway)
    path = lease.path(0)
    wrong = Lease(gateway, Access(lease.access.manifest, "", os.urandom(32)))
    for mac in (None, "", "v0.1." + "0" * 64, wrong.mac(path), lease.mac(path)[:-1]):
        assert code_of(lease.get(path, mac)) == (401, "not-authenticated")
    assert not gateway.control.intents


@pytest.mark.parametrize(
    "change",
    [{"path": "/v1/leases/x/segments/1"}, {"method": "POST"}, {"range": "bytes=7-"},
     {"boot": "boot-0"}, {"lease": "lease_other"}],
    ids=["path", "method", "range", "boot", "lease"],
)  # fmt: skip
def test_a_mac_made_for_something_else_is_refused(gateway: Gateway, change: Any) -> None:
    lease = lease_of(gateway)
    path = lease.path(0)
    assert code_of(lease.get(path, lease.mac(path, **change)))[0] == 401


def test_a_request_is_good_once(gateway: Gateway) -> None:
    lease = lease_of(gateway)
    path = lease.path(0)
    mac = lease.mac(path)
    assert lease.get(path, mac)[0] == 200
    assert code_of(lease.get(path, mac)) == (401, "not-authenticated")


def test_a_request_recorded_before_a_restart_is_refused_after_it(gateway: Gateway) -> None:
    lease = lease_of(gateway)
    path = lease.path(0)
    recorded = lease.mac(path)
    spec = gateway.specs[lease.name]
    gateway.kill()
    gateway.control.boot = "boot-2"
    gateway.start()
    assert code_of(lease.get(path, recorded)) == (404, "not-found")
    from dataclasses import replace

    gateway.run(gateway.link.open(replace(spec, boot="boot-2")))  # even the same key again
    assert code_of(lease.get(path, recorded)) == (401, "not-authenticated")


def test_the_mac_of_one_lease_does_not_open_another(gateway: Gateway) -> None:
    mine, other = lease_of(gateway), lease_of(gateway)
    path = other.path(0)
    assert code_of(mine.get(path, mine.mac(path)))[0] == 401


@pytest.mark.parametrize(
    ("path", "span", "expected"),
    [
        ("/v1/leases/{}/segments/99999", "", (404, "not-found")),
        ("/v1/leases/{}/segments/0", "bytes=5-9", (422, "invalid-input")),
        ("/v1/leases/{}/segments/0", "bytes=99999999-", (422, "invalid-input")),
        ("/v1/leases/{}/segments/0?received=x", "", (422, "invalid-input")),
    ],
)
def test_what_makes_no_sense_is_refused(
    gateway: Gateway, path: str, span: str, expected: tuple[int, str]
) -> None:
    lease = lease_of(gateway)
    target = path.format(lease.name)
    assert code_of(lease.get(target, lease.mac(target, span), span)) == expected


@pytest.mark.parametrize("said", [(2, 100), (1, 10_000), (10**14, 10**14)])
def test_no_more_is_acknowledged_than_was_sent(gateway: Gateway, said: tuple[int, int]) -> None:
    lease = lease_of(gateway)
    path = lease.path(0)
    assert lease.get(path, lease.mac(path))[0] == 200
    target = f"{path}?received={said[0]}&rows={said[1]}"
    assert code_of(lease.get(target, lease.mac(target))) == (422, "invalid-input")
    with open_stream(gateway, LeaseRequest(), StreamOptions()) as stream:
        list(stream)
    assert {rows for _, _, rows in gateway.control.acknowledged} == {1700}


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/leases/lease_x/segments/0", "/v1/leases/a%2fb/segments/0", "/v1/leases/..",
     "/v1/leases/x/segments/01", "/v1/leases/x/segments/-1"],
)  # fmt: skip
def test_an_unknown_path_or_lease_is_not_found(gateway: Gateway, path: str) -> None:
    assert code_of(lease_of(gateway).get(path, "v0.1." + "0" * 64)) == (404, "not-found")


# -- record before release --------------------------------------------------------------


def test_no_byte_comes_before_its_intent_is_durable(gateway: Gateway) -> None:
    gateway.control.intent_seconds = 0.5
    lease = lease_of(gateway)
    path = lease.path(0)
    frames = gateway.status()["frames"]
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nGateway-MAC: {lease.mac(path)}\r\n\r\n"
        sock.sendall(head.encode())
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert gateway.status()["frames"] == frames == 0
        assert not gateway.control.intents
        sock.settimeout(5)
        assert sock.recv(1) == b"H"
        assert gateway.control.intents[0][:3] == (lease.name, 0, 0)


def test_a_budget_that_is_used_up_releases_nothing(gateway: Gateway) -> None:
    async def refuse(*_: Any) -> Any:
        raise LimitExceeded("max_rows is used up")

    gateway.control.intent = refuse  # type: ignore[method-assign]
    assert code_of(lease_of(gateway).fetch(0)) == (429, "limit-exceeded")
    assert gateway.status()["bytes"] == 0


def test_a_budget_that_holds_less_than_a_batch_of_intents_is_used_to_its_end(
    gateway: Gateway,
) -> None:
    left = [5 * 128]
    record = gateway.control.intent

    async def charge(lease: str, first: int, last: int, rows: int, size: int) -> Any:
        if rows > left[0]:
            raise LimitExceeded("max_rows is used up")
        left[0] -= rows
        return await record(lease, first, last, rows, size)

    gateway.control.intent = charge  # type: ignore[method-assign]
    lease = lease_of(gateway)
    got = [lease.fetch(number)[0] for number in range(7)]
    assert got == [200] * 5 + [429] * 2


# -- when it stops ----------------------------------------------------------------------


def begin_to_read(gateway: Gateway, lease: Lease) -> socket.socket:
    """Ask for a segment of 16 MiB and take only its first bytes."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.connect(("127.0.0.1", gateway.port))
    path = lease.path(0)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nGateway-MAC: {lease.mac(path)}\r\n\r\n"
    sock.sendall(head.encode())
    assert sock.recv(1024).startswith(b"HTTP/1.1 200")
    eventually(lambda: gateway.status()["streams"] == 1)
    return sock


def rest_of(sock: socket.socket) -> int:
    got = 0
    sock.settimeout(5)
    with sock, contextlib.suppress(ConnectionError):
        while data := sock.recv(1 << 20):
            got += len(data)
    return got


def test_revocation_stops_a_transfer_inside_its_segment(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    sock = begin_to_read(large, lease)
    closed = large.revoke(lease.name)
    assert (closed.streams, closed.lease) == (1, lease.name)
    frames = large.status()["frames"]
    assert rest_of(sock) < 15 << 20
    assert large.status()["frames"] == frames
    assert code_of(lease.fetch(0)) == (403, "lease-revoked")
    assert lease.name not in large.control.confirmed


def test_a_policy_change_stops_a_transfer_that_waits_for_its_client(large: Gateway) -> None:
    def deny(_: str) -> int:
        raise PlanChanged("the rules changed")

    lease = lease_of(large, LeaseRequest())
    sock = begin_to_read(large, lease)
    large.raise_epoch(deny)
    eventually(lambda: large.status()["streams"] == 0)
    assert rest_of(sock) < 15 << 20
    assert code_of(lease.fetch(0)) == (403, "plan-changed")


def test_a_silent_control_stops_a_transfer_that_waits_for_its_client(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    sock = begin_to_read(large, lease)
    large.fall_silent()
    eventually(lambda: large.status()["streams"] == 0)
    assert rest_of(sock) < 15 << 20
    assert code_of(lease.fetch(0)) == (503, "unavailable")


@pytest.fixture
def impatient() -> Iterator[Worker]:
    worker = Worker(stall_seconds=1.0)
    yield worker
    worker.close()


def test_a_client_that_takes_nothing_is_dropped(impatient: Worker, large_data: Data) -> None:
    large = Gateway(large_data, impatient)
    lease = lease_of(large, LeaseRequest())
    with begin_to_read(large, lease):
        eventually(lambda: large.status()["streams"] == 0)
    assert lease.name not in large.control.confirmed


def test_production_stops_when_the_client_leaves(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    begin_to_read(large, lease).close()
    eventually(lambda: large.status()["streams"] == 0)
    assert large.status()["frames"] <= 20
    time.sleep(0.3)
    assert lease.name not in large.control.confirmed


def test_an_expired_lease_answers_so(gateway: Gateway) -> None:
    gateway.control.lease_seconds = -1
    assert code_of(lease_of(gateway).fetch(0)) == (403, "lease-expired")


# -- the process ------------------------------------------------------------------------


def test_a_worker_ends_with_its_control(gateway: Gateway) -> None:
    gateway.run(gateway.link.stop())
    assert gateway.process.wait(10) == 0


def test_sigterm_ends_a_worker(gateway: Gateway) -> None:
    os.kill(gateway.process.pid, signal.SIGTERM)
    gateway.process.wait(10)
    eventually(lambda: gateway.control.workers_gone == [3])


def test_a_worker_never_loads_arrow_or_the_rooms_of_control(gateway: Gateway) -> None:
    assert lease_of(gateway).fetch(0)[0] == 200
    maps = Path(f"/proc/{gateway.process.pid}/maps").read_text()
    assert "libarrow" not in maps
    assert "duckdb" not in maps


def test_a_dead_worker_is_unavailable_and_closes_at_once(gateway: Gateway) -> None:
    lease = lease_of(gateway)
    gateway.kill()
    with pytest.raises(GatewayError, match="is gone"):
        gateway.status()
    assert gateway.revoke(lease.name).streams == 0
