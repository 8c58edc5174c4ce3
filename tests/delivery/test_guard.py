"""The guarded protocol, attacked with raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from gateway.delivery.guard import GuardedProtocol

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def app(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
    await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


class Impatient(GuardedProtocol):
    head_seconds_max = 0.4


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=Impatient, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()
    server.should_exit = True
    thread.join(10)


def rest(sock: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(OSError):
        while chunk := sock.recv(65536):
            got += chunk
    return got


def answer(address: tuple[str, int], *parts: bytes) -> bytes:
    with socket.create_connection(address, timeout=5) as sock:
        with contextlib.suppress(OSError):
            for part in parts:
                sock.sendall(part)
        return rest(sock)


def drip(address: tuple[str, int], data: bytes, *, before: bytes = b"") -> tuple[int, bytes]:
    """Send byte by byte until the other side closes: how many went out, what came back."""
    sent = 0
    with socket.create_connection(address, timeout=5) as sock:
        sock.sendall(before)
        with contextlib.suppress(OSError):
            for byte in data:
                sock.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.03)
        return sent, rest(sock)


def test_a_head_that_never_ends_is_closed_at_its_deadline(address: tuple[str, int]) -> None:
    sent, got = drip(address, HEAD + b"X: " + b"a" * 400)
    assert got.startswith(b"HTTP/1.1 408")
    assert sent < 400  # the deadline does not move with each byte


def test_a_connection_that_says_nothing_is_closed(address: tuple[str, int]) -> None:
    assert answer(address).startswith(b"HTTP/1.1 408")


def test_empty_lines_do_not_keep_a_connection_open(address: tuple[str, int]) -> None:
    sent, got = drip(address, b"\r\n" * 300, before=HEAD + b"\r\n")
    assert got.count(b"HTTP/1.1 204") == 1
    assert sent < 600


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEAD + b"Host: b\r\n\r\n",
        HEAD + b"Authorization: a\r\nAuthorization: b\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % i for i in range(101)) + b"\r\n",
        HEAD + b"X: " + b"a" * (33 << 10) + b"\r\n\r\n",
        b"GET /" + b"a" * (33 << 10) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=[
        "no host", "two hosts", "two authorizations", "101 headers", "a huge header",
        "a huge target", "both framings", "two lengths", "bare line feeds", "a tls hello",
    ],
)  # fmt: skip
def test_an_ambiguous_or_oversized_head_is_refused(address: tuple[str, int], head: bytes) -> None:
    got = answer(address, head)
    assert got[:10] in (b"HTTP/1.1 4", b"")
    assert got.count(b"HTTP/1.1") <= 1
    if got:
        told, _, body = got.partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert b"content-type: application/problem+json" in told
        assert problem["status"] == int(got[9:12])
        assert problem["advice"]


def test_an_endless_header_is_refused_before_it_ends(address: tuple[str, int]) -> None:
    got = answer(address, HEAD + b"X: ", *[b"a" * 8192] * 6)
    assert got.startswith(b"HTTP/1.1 431") or got == b""


def test_an_ordinary_request_passes_and_the_connection_is_kept(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=5) as sock:
        for _ in range(3):
            sock.sendall(HEAD + b"Authorization: DPoP x\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 204")
