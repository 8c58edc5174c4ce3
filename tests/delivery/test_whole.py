"""A lease read whole, by a program that knows HTTP and Arrow only."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from gateway.errors import LimitExceeded
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.delivery.world import Data, Gateway, Worker, direct_data, view_data

SMALL = LeaseRequest(order=OrderRequest(window_blocks=2))
TABLE_ROWS = 900


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return view_data(tmp_path_factory.mktemp("view"), rows=TABLE_ROWS)


@pytest.fixture(scope="module")
def large_view(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """More than sockets hold, so that a client which stops reading stops the worker."""
    return view_data(tmp_path_factory.mktemp("large"), rows=4_000_000, block_rows=200_000)


@pytest.fixture
def gateway(worker: Worker, view: Data) -> Iterator[Gateway]:
    gateway = Gateway(view, worker)
    yield gateway
    gateway.close()


def address(gateway: Gateway, lease: str, *, seconds: float = 60.0) -> str:
    """The path that control would send the client to."""
    ticket = secrets.token_urlsafe(32)
    digest = hashlib.sha256(ticket.encode()).hexdigest()
    now = time.time()
    gateway.run(gateway.link.ticket(lease, digest, now, now + seconds))
    return f"/v1/leases/{lease}/stream?ticket={ticket}"


@contextlib.contextmanager
def reading(gateway: Gateway, path: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        yield connection.getresponse()


def get(gateway: Gateway, path: str) -> tuple[int, bytes]:
    with reading(gateway, path) as reply:
        return reply.status, reply.read()


def opened(gateway: Gateway) -> str:
    return str(gateway.open(SMALL)["lease"])


def test_an_address_is_good_once(gateway: Gateway) -> None:
    path = address(gateway, opened(gateway))
    assert get(gateway, path)[0] == 200
    assert get(gateway, path)[0] == 401


def test_an_address_is_good_for_its_lease_and_time_only(gateway: Gateway) -> None:
    lease, other = opened(gateway), opened(gateway)
    assert get(gateway, address(gateway, lease).replace(lease, other))[0] == 401
    assert get(gateway, address(gateway, lease, seconds=0.0))[0] == 401
    assert get(gateway, f"/v1/leases/{lease}/stream?ticket={'a' * 43}")[0] == 401
    assert get(gateway, f"/v1/leases/{lease}/stream")[0] == 401


def test_a_lease_has_few_addresses_at_a_time(gateway: Gateway) -> None:
    lease = opened(gateway)
    for _ in range(8):
        address(gateway, lease)
    with pytest.raises(LimitExceeded):
        address(gateway, lease)


def test_pages_are_no_arrow_stream(worker: Worker, tmp_path: Path) -> None:
    gateway = Gateway(direct_data(tmp_path), worker)
    status, problem = get(gateway, address(gateway, opened(gateway)))
    assert status == 409
    assert b"as_arrow" in problem
    gateway.close()


def test_pyarrow_reads_the_rows_of_the_view(gateway: Gateway, view: Data) -> None:
    with reading(gateway, address(gateway, opened(gateway))) as reply:
        assert reply.getheader("Content-Type") == "application/vnd.apache.arrow.stream"
        table = pa.ipc.open_stream(reply).read_all()
        assert reply.read() == b""  # the length is that of the stream
    assert table["id"].to_pylist() == view.expected["id"].tolist()
    assert table["name"].to_pylist() == [f"name-{i}" for i in range(TABLE_ROWS)]
    assert table["x"].null_count == TABLE_ROWS // 2


def test_every_segment_is_recorded_before_and_confirmed_after(gateway: Gateway) -> None:
    lease = opened(gateway)
    get(gateway, address(gateway, lease))
    deadline = time.monotonic() + 10
    while len(gateway.control.confirmed.get(lease, ())) < 5:  # in batches, after the last byte
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert gateway.control.confirmed[lease] == [0, 1, 2, 3, 4]
    assert sum(last - first + 1 for _, first, last, _, _ in gateway.control.intents) == 5


def test_a_view_without_rows_is_a_stream_without_batches(worker: Worker, tmp_path: Path) -> None:
    gateway = Gateway(view_data(tmp_path, rows=0), worker)
    _, body = get(gateway, address(gateway, opened(gateway)))
    table = pa.ipc.open_stream(body).read_all()
    assert (table.num_rows, table.schema.names) == (0, ["id", "name", "x"])
    gateway.close()


def test_what_is_revoked_ends_short_of_its_length(worker: Worker, large_view: Data) -> None:
    gateway = Gateway(large_view, worker)
    lease = opened(gateway)
    with reading(gateway, address(gateway, lease)) as reply:
        reply.read(1 << 16)
        assert gateway.revoke(lease).streams == 1
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            reply.read()
    gateway.close()
