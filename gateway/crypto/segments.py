"""MACs of a lease: each segment request, each frame of a segment, each chunk of its bytes.

All keys are derived from the 256-bit lease key that opening a lease returned over DPoP; both
sides of a stream import this module. Every comparison takes constant time. What a request MAC
covers: lease, method, path, range, boot id of the worker, counter. A request is good once
(CounterWindow), at this worker since its start, for this one resource.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto.envelope import NONCE_BYTES, TAG_BYTES, bound, derive
from gateway.errors import IntegrityError, InvalidInput, NotAuthenticated

MAC_BYTES = 32
SEAL_BYTES = NONCE_BYTES + TAG_BYTES
COUNTER_MAX = (1 << 53) - 1
_POSITION_BYTES = 4
_PRESENTED = re.compile(r"v0\.(0|[1-9][0-9]{0,15})\.([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLine:
    """What a segment request asks for, as both sides see it."""

    lease: str  # lease_…
    method: str  # `GET`
    path: str  # as sent: `/v1/leases/lease_…/segments/7`, with the query if there is one
    range: str = ""  # value of the `Range` header; empty without
    boot: str  # of the worker, told at lease open


def sign_request(key: bytes, line: RequestLine, counter: int) -> str:
    """The value of the request's MAC header: `v0.<counter>.<64 hex characters>`.

    Args:
        key: the lease key, 32 bytes.
        line: the request.
        counter: never used before under this key; 0 to 2^53 - 1.
    """
    if not 0 <= counter <= COUNTER_MAX:
        raise InvalidInput("the counter of a request is 0 to 2^53 - 1")
    return f"v0.{counter}.{_request_mac(key, line, counter)}"


def check_request(key: bytes, line: RequestLine, presented: str) -> int:
    """Verify the MAC header and return the counter, for `CounterWindow.accept`.

    Raises:
        NotAuthenticated: malformed, or made for another lease, request or worker start.
    """
    match = _PRESENTED.match(presented) if isinstance(presented, str) else None
    if match is None:
        raise NotAuthenticated("the segment request carries no MAC of a known form")
    counter = int(match[1])
    expected = _request_mac(key, line, counter)
    if counter > COUNTER_MAX or not hmac.compare_digest(expected, match[2]):
        raise NotAuthenticated("the MAC of the segment request does not hold")
    return counter


def _request_mac(key: bytes, line: RequestLine, counter: int) -> str:
    message = bound(
        "request", line.lease, line.method, line.path, line.range, line.boot, counter
    )  # fmt: skip
    return hmac.new(derive(key, "segment-request"), message, hashlib.sha256).hexdigest()


class CounterWindow:
    """Accepts each counter once, in any order within the newest `width` (as RFC 4303 §3.4.3)."""

    __slots__ = ("_bits", "_top", "_width")

    def __init__(self, width: int = 1024) -> None:
        """`width`: how far requests in flight may overtake each other."""
        self._width = width
        self._top = -1
        self._bits = 0  # bit i: counter `_top - i` was accepted

    def accept(self, counter: int) -> None:
        """Take the counter of an authentic request; NotAuthenticated when used or too old."""
        ahead = counter - self._top
        if ahead > 0:
            kept = self._bits << ahead if ahead < self._width else 0
            self._bits = (kept | 1) & ((1 << self._width) - 1)
            self._top = counter
            return
        if -ahead >= self._width or self._bits >> -ahead & 1:
            raise NotAuthenticated("the segment request was used before")
        self._bits |= 1 << -ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a frame of a segment states."""

    head: bytes  # as sent, without the MAC
    position: int  # of the frame in its segment, from 0
    rows: int  # of the segment up to and including this frame
    size: int  # bytes of content, likewise
    digest: bytes  # fixes the content: the seals of `seal_content` in order, or a hash
    final: bool  # nothing follows in this segment


class FrameMac:
    """MACs over what is sent for one segment of one lease under one Plan."""

    __slots__ = ("_content", "_frames", "_key", "_place")

    def __init__(self, key: bytes, lease: str, plan_digest: str, segment: int) -> None:
        """Derive the segment's keys from the lease key (32 bytes)."""
        self._key, self._place = key, (lease, plan_digest, segment)
        self._frames = derive(key, "segment-frames", *self._place)
        self._content: AESGCM | None = None  # a ring seals no content

    def _content_key(self) -> AESGCM:
        if self._content is None:
            self._content = AESGCM(derive(self._key, "segment-content", *self._place))
        return self._content

    def mac(self, frame: Frame) -> bytes:
        """32 bytes over everything the frame states."""
        message = bound(
            "frame",
            frame.head,
            frame.position,
            frame.rows,
            frame.size,
            frame.digest,
            b"final" if frame.final else b"more",
        )
        return hmac.digest(self._frames, message, "sha256")

    def check(self, frame: Frame, presented: bytes | memoryview) -> None:
        """Raise IntegrityError unless `mac` of the same frame made `presented`."""
        if not hmac.compare_digest(self.mac(frame), bytes(presented)):
            raise IntegrityError("a frame of the segment is not authentic")

    def seal_content(self, content: bytes | memoryview, *, position: int) -> bytes:
        """28 bytes (position 4, big endian | random 8 | GMAC 16) over a chunk of content.

        AES-GMAC is several times faster than a hash. The random part makes it harmless to
        send a segment again or to cut it otherwise.
        """
        nonce = _position(position) + os.urandom(NONCE_BYTES - _POSITION_BYTES)
        return nonce + self._content_key().encrypt(nonce, b"", content)

    def check_content(
        self, content: bytes | memoryview, presented: bytes | memoryview, *, position: int
    ) -> None:
        """Raise IntegrityError unless `seal_content` made `presented` for this chunk and place."""
        proof = bytes(presented)
        if len(proof) != SEAL_BYTES or proof[:_POSITION_BYTES] != _position(position):
            raise IntegrityError("a chunk of the segment carries no seal of its place")
        try:
            self._content_key().decrypt(proof[:NONCE_BYTES], proof[NONCE_BYTES:], content)
        except InvalidTag as cause:
            raise IntegrityError("a chunk of the segment is not authentic") from cause


def _position(position: int) -> bytes:
    if not 0 <= position < 1 << 32:
        raise InvalidInput("a chunk's position is 0 to 2^32 - 1")
    return position.to_bytes(_POSITION_BYTES, "big")
