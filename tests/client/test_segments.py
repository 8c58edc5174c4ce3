"""A segment over HTTP that ends wrongly: a typed end, at once, and no descriptor left."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.client import segments
from gateway.client.buffers import Buffers
from gateway.client.segments import Access, Cut, Received, SegmentReader
from gateway.errors import GatewayError, IntegrityError, Unavailable
from gateway.wire.leases import LEASE_MANIFEST_FORMAT, LeaseManifest, OrderRequest

MANIFEST = LeaseManifest(
    format=LEASE_MANIFEST_FORMAT, lease="lease_x", dataset="clinic/icu@1", split=None,
    kind="view", plan_digest="", schema=None, rows=1, lanes=((1,),), order=OrderRequest(),
    order_id="", window_key="", boot="", columns=(),
)  # fmt: skip


@contextmanager
def worker_that_says(answer: bytes, *, hangs: bool) -> Iterator[Access]:
    """One connection after the other; one that hangs says no more, and does not end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                client.recv(65536)
                client.sendall(answer)
                held.append(client)
                if not hangs:
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        yield Access(MANIFEST, f"http://127.0.0.1:{port}", bytes(32))
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in held:
            client.close()


def head(length: str, *more: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("more", [(), ("Connection: close",)], ids=["kept", "closed"])
@pytest.mark.parametrize("hangs", [True, False])
@pytest.mark.parametrize(
    ("length", "ends"),
    [("100", Cut), ("0", IntegrityError), ("", IntegrityError), ("1e3", IntegrityError),
     ("-5", IntegrityError), (str(1 << 40), IntegrityError), ("9" * 5000, IntegrityError)],
    ids=["cut", "nothing", "no-length", "no-number", "negative", "a-tebibyte", "endless"],
)  # fmt: skip
def test_a_body_that_ends_wrongly_is_typed_and_leaves_no_socket(
    length: str, ends: type[Exception], more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    *, hangs: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(segments, "TIMEOUT_SECONDS", 0.2)
    with worker_that_says(head(length, *more) + b"x" * 10, hangs=hangs) as access:
        before = descriptors()
        with closing(SegmentReader(access, Buffers(0))) as reader, pytest.raises(ends):
            reader.fetch(0, Received())
        assert descriptors() - before <= 1  # the worker's side, where it hangs


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: 99\r\n\r\n{", b"GWH0" * 30,
     b"HTTP/1.1 403 x\r\nContent-Length: 4\r\n\r\nnope"],
    ids=["nothing", "half-a-problem", "no-http", "no-json"],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_unavailable(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "TIMEOUT_SECONDS", 0.2)
    with worker_that_says(answer, hangs=False) as access:
        before = descriptors()
        with closing(SegmentReader(access, Buffers(0))) as reader, pytest.raises(GatewayError) as e:
            reader.fetch(0, Received())
        assert isinstance(e.value, Unavailable)
        assert descriptors() <= before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
