"""Who is at the two ends of a ring, and that its memory is the worker's (ring-v1.md §3, §4).

Both MACs are made with keys derived from the lease key, over the worker's challenge and the
client's nonce: what was recorded on one connection is worth nothing on another. The bytes of
a segment are kept by the kernel's seals, and by the worker, which changes no slot that the
client has.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from gateway.crypto.envelope import derive
from gateway.errors import IntegrityError, NotAuthenticated


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What one connection is about, as both sides see it."""

    key: bytes = field(repr=False)  # the lease key, 32 bytes
    lease: str
    boot: str  # of the gateway, told at lease open
    challenge: bytes  # of the worker, 32 random bytes
    nonce: bytes  # of the client, likewise

    def hello(self) -> str:
        """The client's MAC, hex."""
        return self._mac("ring-hello")

    def check_hello(self, presented: str) -> None:
        """Raise NotAuthenticated unless `hello` of the same connection made `presented`."""
        if not _is_same(self.hello(), presented):
            raise NotAuthenticated("the hello on the ring does not hold")

    def welcome(self, slots: int, slot_bytes: int, memory: str) -> str:
        """The worker's MAC over the memory it shares, hex."""
        return self._mac("ring-welcome", slots, slot_bytes, memory)

    def check_welcome(self, presented: str, slots: int, slot_bytes: int, memory: str) -> None:
        """Raise IntegrityError unless the lease's worker shares exactly this memory."""
        if not _is_same(self.welcome(slots, slot_bytes, memory), presented):
            raise IntegrityError("the memory of the ring is not that of the worker")

    def _mac(self, label: str, *parts: str | int) -> str:
        key = derive(self.key, label, self.lease, self.boot, self.challenge, self.nonce)
        text = "\0".join(str(part) for part in parts)
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _is_same(expected: str, presented: str) -> bool:
    return hmac.compare_digest(expected.encode(), presented.encode("utf-8", "replace"))
