"""Fetch segments of a lease over HTTP/1.1 and verify every byte before it is used.

A cut body is continued by Range; anything that does not verify is fetched once more and then
refused. Standard library and `gateway.crypto` only. Format: docs/formats/segment-v1.md.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway.client.buffers import Buffers
from gateway.crypto.segments import SEAL_BYTES, Frame, FrameMac, RequestLine, sign_request
from gateway.errors import GatewayError, IntegrityError, Unavailable
from gateway.wire import codec
from gateway.wire.leases import LeaseManifest
from gateway.wire.problems import error_of_problem
from gateway.wire.segments import (
    END_MAGIC,
    HEAD_MAGIC,
    PREFIX,
    SegmentHead,
    canonical,
    frame_length,
    read_json,
)

TIMEOUT_SECONDS = 60.0
SEGMENT_BYTES_MAX = 4 << 30  # one over-large row is a segment of its own
_LENGTH = re.compile("[0-9]{1,12}")
_PROBLEM_BYTES_MAX = 64 << 10
_WAKE_BYTES = 1 << 20  # a chunk: each time a reader wakes up costs as much as copying 64 KiB
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
Bytes = bytes | memoryview


class Cut(Exception):
    """The connection ended before the segment did."""


@dataclass(frozen=True, slots=True)
class Access:
    """What requests of one lease are made with."""

    manifest: LeaseManifest
    data_url: str
    key: bytes = field(repr=False)
    ring: str | None = None  # path of the worker's Unix socket, if it offers a ring

    @property
    def segments(self) -> int:
        """How many segments the lease has."""
        return sum(len(lane) for lane in self.manifest.lanes)

    def rows_of(self, number: int) -> int:
        """Rows of one segment."""
        for lane in self.manifest.lanes:
            if number < len(lane):
                return lane[number]
            number -= len(lane)
        raise IntegrityError("the lease has no such segment")


@dataclass(frozen=True, slots=True)
class Received:
    """What was verified so far under one lease."""

    segments: int = 0
    rows: int = 0

    @property
    def query(self) -> str:
        """As requests say it."""
        return f"received={self.segments}&rows={self.rows}"

    def plus(self, rows: int) -> Received:
        """One segment more."""
        return Received(self.segments + 1, self.rows + rows)


@dataclass(frozen=True, slots=True)
class Segment:
    """One verified segment."""

    head: SegmentHead
    body: memoryview  # starts at a multiple of 64 in memory; empty if its rows were used already
    receipt: str
    is_placed: bool = False  # whether its rows are where an Assembly wants them


class SegmentReader:
    """One connection to the data worker of one lease. Not for several threads at once."""

    def __init__(
        self,
        access: Access,
        buffers: Buffers,
        *,
        context: ssl.SSLContext | None = None,
        timeout: float | None = None,
    ) -> None:
        """Nothing is opened yet; `context` is for `https` data URLs, `timeout` is in seconds."""
        timeout = TIMEOUT_SECONDS if timeout is None else timeout
        self._access, self._buffers = access, buffers
        self._counter = itertools.count()
        parts = urlsplit(access.data_url)
        host = parts.hostname or ""
        self._connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=timeout)
        )
        self._is_local = parts.scheme == "http" and host in _LOOPBACK
        self._partial: _Partial | None = None
        self._response: http.client.HTTPResponse | None = None  # the newest
        self._asked: int | None = None  # the segment whose answer is on its way

    def fetch(self, number: int, received: Received, following: int | None = None) -> Segment:
        """Return one verified segment.

        Args:
            number: of the segment.
            received: what was verified so far; the acknowledgement.
            following: a segment to ask for before this one is verified, so that the worker
                opens it meanwhile; the next call fetches it.

        Raises:
            Cut: the body ended early; call again and it goes on where it ended.
            IntegrityError: what came is not authentic (nothing of it is kept).
            GatewayError: what the worker refused with.
        """
        partial = self._partial
        if partial is None or partial.number != number:
            partial = self._partial = _Partial(number, self._buffers)
        start = partial.resume_at
        if start or self._asked != number:
            self._ask(number, received, start)
        self._asked = None
        response = self._answer()
        try:
            partial.take(response, start, self._wake_at)
        except (OSError, http.client.HTTPException) as cause:
            self.close()
            raise Cut("the connection broke") from cause
        if not partial.is_whole:
            self.close()
            raise Cut("the body ended early")
        self._partial = None
        if following is not None:
            with contextlib.suppress(Unavailable):
                self._ask(following, received, 0)
        return verify(partial.bytes, number, self._access)

    def acknowledge(self, received: Received) -> None:
        """Tell the worker what was verified in all."""
        path = f"/v1/leases/{self._access.manifest.lease}/acknowledgements"
        self._request("POST", f"{path}?{received.query}", "")
        self._answer().read()

    def _ask(self, number: int, received: Received, start: int) -> None:
        path = f"/v1/leases/{self._access.manifest.lease}/segments/{number}"
        span = f"bytes={start}-" if start else ""
        self._request("GET", f"{path}?{received.query}", span)
        self._asked = number

    def live(self) -> None:
        """Nobody waits for a word between requests."""

    def interrupt(self) -> None:
        """End what another thread is waiting for."""
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        response, self._response = self._response, None
        if response is not None:
            response.close()  # one that ends its connection holds the socket alone
        self._connection.close()
        self._asked = None

    def _wake_at(self, size: int) -> None:
        """Sleep until so many bytes have come, where they come at once: from this host."""
        sock = self._connection.sock
        if self._is_local and sock is not None:
            with contextlib.suppress(OSError):  # a kernel without it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _request(self, method: str, target: str, span: str) -> None:
        if self._asked is not None:
            self.close()  # an answer that nobody wants is on its way
        manifest = self._access.manifest
        line = RequestLine(
            lease=manifest.lease, method=method, path=target, range=span, boot=manifest.boot
        )
        mac = sign_request(self._access.key, line, next(self._counter))
        headers = {"Gateway-MAC": mac, **({"Range": span} if span else {})}
        try:
            self._connection.request(method, target, headers=headers)
        except (OSError, http.client.HTTPException) as cause:
            self.close()
            raise Unavailable("the data worker does not answer", advice="try again") from cause

    def _answer(self) -> http.client.HTTPResponse:
        try:
            response = self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as cause:
            self.close()
            raise Unavailable("the data worker does not answer", advice="try again") from cause
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise self._error(response)
        return response

    def _error(self, response: http.client.HTTPResponse) -> GatewayError:
        try:
            return error_of_problem(codec.loads(response.read(_PROBLEM_BYTES_MAX)))
        except (GatewayError, OSError, http.client.HTTPException, AttributeError):
            self.close()
            return Unavailable(f"the data worker answered {response.status}")


class _Partial:
    """The bytes of one segment so far, in memory aligned for its columns."""

    def __init__(self, number: int, buffers: Buffers) -> None:
        self.number, self._buffers = number, buffers
        self.bytes = memoryview(b"")
        self._got = 0

    @property
    def resume_at(self) -> int:
        """Head and body are the same every time, the end frame is not: it comes whole."""
        try:
            length = PREFIX.size + frame_length(self.bytes[: PREFIX.size], HEAD_MAGIC)
            if self._got < length:
                return 0
            head = SegmentHead.from_json(read_json(self.bytes[PREFIX.size : length]))
        except IntegrityError:
            return 0
        return min(self._got, length + head.bytes)

    @property
    def is_whole(self) -> bool:
        return self._got == len(self.bytes) > 0

    def take(
        self, response: http.client.HTTPResponse, start: int, wake_at: Callable[[int], None]
    ) -> None:
        """Read on to the end, or to where the connection ends.

        Args:
            response: with the bytes from `start` on.
            start: `resume_at` when it was asked for.
            wake_at: told how many bytes are worth waking up for; never more than are to come.
        """
        said = response.headers.get("Content-Length", "")
        length = int(said) if _LENGTH.fullmatch(said) else 0
        if not 0 < length <= SEGMENT_BYTES_MAX:
            raise IntegrityError("a segment has no length, or one that no segment has")
        if start and start + length == len(self.bytes):
            self._got = start
        else:
            self.bytes, self._got = self._buffers.lend(length), 0
        if self._got < len(self.bytes) - _WAKE_BYTES:
            wake_at(_WAKE_BYTES)
            self._fill(response, len(self.bytes) - _WAKE_BYTES)
            wake_at(1)
        self._fill(response, len(self.bytes))

    def _fill(self, response: http.client.HTTPResponse, end: int) -> None:
        while self._got < end:
            count = response.readinto(self.bytes[self._got : end])
            if not count:
                return
            self._got += count


def verify(data: memoryview, number: int, access: Access) -> Segment:
    """Return the segment in `data`; raises IntegrityError unless every part of it is authentic."""
    head_end = PREFIX.size + frame_length(data[: PREFIX.size], HEAD_MAGIC)
    head = read_head(data[:head_end], number, access)
    end_at = head_end + head.bytes
    stated = read_end(data[:head_end], head, data[end_at:], access)
    seals = stated.seals
    if len(seals) != SEAL_BYTES * len(head.chunks):
        raise IntegrityError("a segment has another number of seals than chunks")
    body = data[head_end:end_at]
    at = 0
    for index, size in enumerate(head.chunks):
        seal = seals[index * SEAL_BYTES : (index + 1) * SEAL_BYTES]
        stated.mac.check_content(body[at : at + size], seal, position=index)
        at += size
    return Segment(head, body, stated.receipt)


@dataclass(frozen=True, slots=True)
class Stated:
    """What an authentic end frame says."""

    seals: bytes  # of the chunks in order
    receipt: str
    mac: FrameMac


def read_head(frame: Bytes, number: int, access: Access) -> SegmentHead:
    """Read a whole head frame; IntegrityError unless the lease has such a segment.

    It is authentic only when `read_end` has returned.
    """
    head = SegmentHead.from_json(read_json(frame[PREFIX.size :]))
    manifest = access.manifest
    said = (head.lease, head.plan, head.kind, head.segment)
    if said != (manifest.lease, manifest.plan_digest, manifest.kind, number):
        raise IntegrityError("a segment belongs to another lease, plan or place")
    if head.bytes > SEGMENT_BYTES_MAX:
        raise IntegrityError("a segment has more bytes than any has")
    return head


def read_end(head_frame: Bytes, head: SegmentHead, frame: Bytes, access: Access) -> Stated:
    """Read a whole end frame; IntegrityError unless it and the head are authentic."""
    length = frame_length(frame[: PREFIX.size], END_MAGIC)
    if PREFIX.size + length != len(frame):
        raise IntegrityError("a segment has bytes after its end")
    end = read_json(frame[PREFIX.size :])
    _match(head, end, access)
    mac = FrameMac(access.key, head.lease, head.plan, head.segment)
    seals = _hex(end.get("seals"))
    presented = _hex(end.pop("mac", None))
    stated = Frame(
        head=bytes(head_frame) + canonical(end),
        position=0,
        rows=head.rows,
        size=head.bytes,
        digest=seals,
        final=True,
    )
    mac.check(stated, presented)
    return Stated(seals, str(end.get("receipt", "")), mac)


def _match(head: SegmentHead, end: dict[str, Any], access: Access) -> None:
    number = head.segment
    counts = (end.get("segment"), end.get("rows"), end.get("blocks"), end.get("bytes"))
    if counts != (number, head.rows, head.blocks, head.bytes):
        raise IntegrityError("the end of a segment contradicts its head")
    is_last = number == access.segments - 1
    if head.rows != access.rows_of(number) or end.get("final") is not is_last:
        raise IntegrityError("a segment is not the one that the lease manifest names")


def _hex(text: Any) -> bytes:
    try:
        data = bytes.fromhex(text)
    except (ValueError, TypeError) as cause:
        raise IntegrityError("the end of a segment cannot be read") from cause
    if data.hex() != text:
        raise IntegrityError("the end of a segment is not in canonical form")
    return data
