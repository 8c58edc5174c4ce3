"""What a data worker sends is authentic, and a transfer that was cut goes on."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.client.batches import Opener
from gateway.client.leases import LeaseTerms
from gateway.client.segments import TIMEOUT_SECONDS, Access, verify
from gateway.client.stream import StreamOptions, open_stream
from gateway.errors import IntegrityError
from gateway.wire.leases import LeaseRequest
from tests.delivery.test_worker import lease_of
from tests.delivery.world import Gateway, Worker, direct_data


def test_a_cut_transfer_goes_on_at_any_byte_of_head_and_body(gateway: Gateway) -> None:
    lease = lease_of(gateway)
    path = lease.path(1)
    whole = lease.get(path, lease.mac(path))[1]
    segment = verify(memoryview(whole), 1, lease.access)
    end = len(whole) - whole[::-1].index(b"1EWG") - 4
    for start in (1, 64, 5000, end):
        span = f"bytes={start}-"
        status, rest = lease.get(path, lease.mac(path, span), span)
        assert status == 206
        assert rest[: end - start] == whole[start:end]
        again = verify(memoryview(whole[:start] + rest), 1, lease.access)
        assert bytes(again.body) == bytes(segment.body)
    assert len(gateway.control.intents) == 1


@pytest.fixture(scope="module")
def sent(
    worker: Worker, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Access, Access, bytes, bytes]:
    gateway = Gateway(direct_data(tmp_path_factory.mktemp("sent"), shard_rows=(300,)), worker)
    one, two = lease_of(gateway), lease_of(gateway)
    segments = one.fetch(0)[1], one.fetch(1)[1]
    gateway.close()
    return one.access, two.access, *segments


def test_a_whole_segment_verifies_and_gives_its_columns(
    sent: tuple[Access, Access, bytes, bytes],
) -> None:
    segment = verify(memoryview(sent[2]), 0, sent[0])
    opened = Opener(sent[0].manifest).open(segment)
    np.testing.assert_array_equal(opened.columns["id"], np.arange(128))
    assert segment.receipt == "receipt-0"


def test_a_segment_of_another_lease_or_place_is_refused(
    sent: tuple[Access, Access, bytes, bytes],
) -> None:
    one, two, first, second = sent
    for access, data, number in ((two, first, 0), (one, first, 1), (one, second, 0)):
        with pytest.raises(IntegrityError):
            verify(memoryview(data), number, access)
    renamed = first.replace(one.manifest.lease.encode(), two.manifest.lease.encode())
    with pytest.raises(IntegrityError):
        verify(memoryview(renamed), 0, two)


@given(
    what=st.sampled_from(["flip", "cut", "add", "drop"]),
    where=st.floats(0, 1, exclude_max=True),
    by=st.integers(1, 255),
)
@example(what="flip", where=0.99999, by=0x20)
def test_any_flipped_cut_or_added_byte_is_refused(
    sent: tuple[Access, Access, bytes, bytes], what: str, where: float, by: int
) -> None:
    whole = bytearray(sent[2])
    at = int(where * len(whole))
    if what == "flip":
        whole[at] ^= by
    elif what == "cut":
        del whole[at:]
    elif what == "add":
        whole.insert(at, by)
    else:
        del whole[at]
    with pytest.raises(IntegrityError):
        verify(memoryview(whole), 0, sent[0])


def test_every_byte_of_the_end_frame_counts(sent: tuple[Access, Access, bytes, bytes]) -> None:
    end = sent[2].rindex(b"GWE1")
    for at in range(end, len(sent[2])):
        for flip in (0x01, 0x20, 0x80):
            whole = bytearray(sent[2])
            whole[at] ^= flip
            with pytest.raises(IntegrityError):
                verify(memoryview(whole), 0, sent[0])


class CuttingProxy:
    """A network that cuts connections after so many bytes towards the client."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target, self._cuts = port, cuts
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                limit = self._cuts.pop(0) if self._cuts else 1 << 60
                threading.Thread(target=self._relay, args=(client, limit), daemon=True).start()

    def _relay(self, client: socket.socket, limit: int) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=self._pump, args=(client, server, 1 << 60), daemon=True).start()
        self._pump(server, client, limit)
        for sock in (client, server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, limit: int) -> None:
        with contextlib.suppress(OSError):
            while limit > 0 and (data := source.recv(min(65536, limit))):
                sink.sendall(data)
                limit -= len(data)

    def close(self) -> None:
        self._listening.close()


def ids_through(gateway: Gateway, cuts: list[int]) -> list[int]:
    """Read a lease over a network that cuts so; every cut must have come."""
    proxy = CuttingProxy(gateway.port, cuts)
    real = gateway.port
    gateway.port = proxy.port  # what the lease names as its data_url
    terms = LeaseTerms(patience_seconds=20, delivery="http")
    options = StreamOptions(batch_size=100, terms=terms)
    with open_stream(gateway, LeaseRequest(), options) as stream:
        got = [int(i) for batch in stream for i in batch["id"]]
    gateway.port = real
    proxy.close()
    assert not cuts
    return got


def test_a_network_that_cuts_every_transfer_loses_nothing(gateway: Gateway) -> None:
    cuts = [100, 700, 3000, 9000, 20_000, 20_500, 40_000]
    assert ids_through(gateway, cuts) == list(range(1700))


def test_a_cut_within_or_just_before_the_last_chunk_is_noticed_at_once(large: Gateway) -> None:
    """A reader that sleeps until a whole chunk has come wakes up when less comes, and no more."""
    size = len(lease_of(large, LeaseRequest()).fetch(0)[1])
    began = time.monotonic()
    got = ids_through(large, [size - (1 << 20) - 5000, (1 << 20) - 70_000, 3 << 20])
    assert time.monotonic() - began < TIMEOUT_SECONDS / 2
    assert got == list(range(len(got)))


def test_requests_sent_at_once_are_answered_in_order_and_whole(large: Gateway) -> None:
    lease = lease_of(large, LeaseRequest())
    paths = [lease.path(0), lease.path(1)]
    wanted = [lease.get(path, lease.mac(path))[1] for path in paths]
    heads = "".join(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nGateway-MAC: {lease.mac(path)}\r\n\r\n"
        for path in paths
    )
    with socket.create_connection(("127.0.0.1", large.port), timeout=10) as sock:
        sock.sendall(heads.encode())
        with sock.makefile("rb") as answers:
            for number, before in enumerate(wanted):
                assert answers.readline().startswith(b"HTTP/1.1 200")
                headers = http.client.parse_headers(answers)
                body = answers.read(int(headers["content-length"]))
                again, first = (
                    verify(memoryview(data), number, lease.access) for data in (body, before)
                )
                assert bytes(again.body) == bytes(first.body)
