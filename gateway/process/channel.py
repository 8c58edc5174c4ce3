"""Framed messages between the gateway's own processes, over one Unix socket.

A frame is `>IQ` (length of the head, length of the payload), a JSON head with the key
`kind`, and opaque payload bytes. Written by hand because both ends are ours, one may be a
compromised child, and every length must be refused before memory is spent on it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import IntegrityError

_LENGTHS = struct.Struct(">IQ")
HEAD_BYTES_MAX = 16 << 20
PAYLOAD_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class Message:
    """One frame."""

    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    payload: bytes | bytearray | memoryview = b""


class ChannelClosed(ConnectionError):
    """The other side is gone. Every user treats it as: stop what depended on it."""


def encode(message: Message) -> bytes:
    """Return the frame without its payload (send the payload after it)."""
    head = json.dumps({"kind": message.kind, **message.body}, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(head), len(message.payload)) + head


def _lengths(raw: bytes, payload_bytes_max: int) -> tuple[int, int]:
    head, payload = _LENGTHS.unpack(raw)
    if head > HEAD_BYTES_MAX or payload > payload_bytes_max:
        raise IntegrityError(f"a frame of {head}+{payload} bytes is over the limit")
    return head, payload


def _decode(head: bytes, payload: Any) -> Message:
    try:
        body = json.loads(head)
        kind = body.pop("kind")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as cause:
        raise IntegrityError("a frame's head is not a JSON object with a kind") from cause
    if not isinstance(kind, str):
        raise IntegrityError("a frame's kind is not text")
    return Message(kind, body, payload)


class Channel:
    """The blocking end, for children and worker threads."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        allocate: Callable[[int], Any] = bytearray,
    ) -> None:
        """Own `sock`; frames with a larger payload are refused.

        `allocate` gives the writable buffer that becomes a message's payload.
        """
        self.socket = sock
        self._payload_bytes_max = payload_bytes_max
        self._allocate = allocate

    def send(self, kind: str, payload: bytes | bytearray | memoryview = b"", **body: Any) -> None:
        """Send one frame; raises ChannelClosed when the other side is gone."""
        message = Message(kind, body, payload)
        try:
            self.socket.sendall(encode(message))
            if len(payload):
                self.socket.sendall(payload)
        except OSError as cause:
            raise ChannelClosed("the other process is gone") from cause

    def receive(self) -> Message:
        """Wait for one frame; raises ChannelClosed at its end, IntegrityError on nonsense."""
        head, payload = _lengths(bytes(self._exactly(_LENGTHS.size)), self._payload_bytes_max)
        return _decode(bytes(self._exactly(head)), self._exactly(payload, self._allocate))

    def call(self, kind: str, payload: bytes | memoryview = b"", **body: Any) -> Message:
        """Send one frame and wait for one answer."""
        self.send(kind, payload, **body)
        return self.receive()

    def close(self) -> None:
        """Close the socket; harmless twice."""
        self.socket.close()

    def _exactly(self, count: int, allocate: Callable[[int], Any] = bytearray) -> Any:
        buffer = allocate(count) if count else bytearray()
        view = memoryview(buffer).cast("B")
        while view:
            try:
                got = self.socket.recv_into(view)
            except OSError as cause:
                raise ChannelClosed("the other process is gone") from cause
            if got == 0:
                raise ChannelClosed("the other process is gone")
            view = view[got:]
        return buffer


class AsyncChannel:
    """The asyncio end, for the control process and the data workers."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        """Wrap streams; use `AsyncChannel.over(sock)`."""
        self._reader, self._writer = reader, writer
        self._payload_bytes_max = payload_bytes_max

    @classmethod
    async def over(cls, sock: socket.socket) -> AsyncChannel:
        """Take over a connected Unix socket."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=1 << 20))

    def post(self, kind: str, payload: bytes | bytearray | memoryview = b"", **body: Any) -> None:
        """Queue one frame without waiting (small frames; order is kept)."""
        if self._writer.is_closing():
            raise ChannelClosed("the other process is gone")
        self._writer.write(encode(Message(kind, body, payload)))
        if len(payload):
            self._writer.write(payload)

    async def send(
        self, kind: str, payload: bytes | bytearray | memoryview = b"", **body: Any
    ) -> None:
        """Send one frame and wait until the buffer has room again."""
        self.post(kind, payload, **body)
        try:
            await self._writer.drain()
        except OSError as cause:
            raise ChannelClosed("the other process is gone") from cause

    async def receive(self) -> Message:
        """Wait for one frame; raises ChannelClosed at its end, IntegrityError on nonsense."""
        try:
            raw = await self._reader.readexactly(_LENGTHS.size)
            head, payload = _lengths(raw, self._payload_bytes_max)
            return _decode(
                await self._reader.readexactly(head), await self._reader.readexactly(payload)
            )
        except (asyncio.IncompleteReadError, OSError) as cause:
            raise ChannelClosed("the other process is gone") from cause

    def close(self) -> None:
        """Close the socket; harmless twice."""
        self._writer.close()
