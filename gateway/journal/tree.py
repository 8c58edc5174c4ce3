"""The tree of the log: what came before the last start is kept as one hash per 1,024 events.

All that a start needs of old events is the roots of their blocks (320 kB for ten million), so
neither start-up nor memory grows with the log. The nodes below are hashed again from the
events themselves when a proof or a reader asks for one, and each block must then give the root
that is kept: an old event that was changed on disk is noticed when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256

from gateway.domain.merkle import HASH_BYTES, Tree
from gateway.errors import IntegrityError, InvalidInput

BLOCK_HEIGHT = 10
BLOCK_EVENTS = 1 << BLOCK_HEIGHT
_BLOCKS_CACHED = 64  # 64 KiB each

Leaves = Callable[[int, int], Iterable[bytes]]  # leaf hashes of the events [low, high)


class LogTree(Tree):
    """A Tree whose low nodes may be left out up to a multiple of BLOCK_EVENTS."""

    __slots__ = ("_block", "_kept", "_leaves")

    def __init__(
        self, blocks: bytes = b"", leaves: bytes = b"", read: Leaves | None = None
    ) -> None:
        """Start empty, or from what an older one gave.

        Args:
            blocks: roots of its whole blocks.
            leaves: its leaf hashes behind them.
            read: gives leaf hashes of events in these blocks.
        """
        super().__init__()
        self._kept = len(blocks) // HASH_BYTES << BLOCK_HEIGHT
        self._leaves = read
        self._block = lru_cache(maxsize=_BLOCKS_CACHED)(self._read_block)
        if blocks:
            self.size = self._kept
            self._levels = [bytearray() for _ in range(BLOCK_HEIGHT)]
            while blocks:
                self._levels.append(bytearray(blocks))
                blocks = _parents(blocks)
        for at in range(0, len(leaves), HASH_BYTES):
            self.append(leaves[at : at + HASH_BYTES])

    def blocks(self) -> bytes:
        """Roots of the whole blocks."""
        return bytes(self._levels[BLOCK_HEIGHT]) if len(self._levels) > BLOCK_HEIGHT else b""

    def rest(self) -> bytes:
        """Leaf hashes behind the last whole block."""
        begin = self.size >> BLOCK_HEIGHT << BLOCK_HEIGHT
        return b"".join(self._node(0, index) for index in range(begin, self.size))

    def truncate(self, size: int) -> None:
        """Forget the leaves from `size` on; never those that are left out already."""
        if size < self._kept:
            raise InvalidInput(f"the first {self._kept} events cannot be forgotten")
        self.size = self._known(size)
        for height, level in enumerate(self._levels):
            del level[HASH_BYTES * ((size >> height) - self._left_out(height)) :]

    def _left_out(self, height: int) -> int:
        return self._kept >> height if height < BLOCK_HEIGHT else 0

    def _node(self, height: int, index: int) -> bytes:
        left_out = self._left_out(height)
        if index >= left_out:
            return super()._node(height, index - left_out)
        block = index << height >> BLOCK_HEIGHT
        at = HASH_BYTES * (index - (block << BLOCK_HEIGHT - height))
        return self._block(block)[height][at : at + HASH_BYTES]

    def _read_block(self, block: int) -> list[bytes]:
        """All nodes of one block, from the leaves up; they must lead to its root."""
        low = block << BLOCK_HEIGHT
        assert self._leaves is not None
        levels = [b"".join(self._leaves(low, low + BLOCK_EVENTS))]
        for _ in range(BLOCK_HEIGHT):
            levels.append(_parents(levels[-1]))
        if levels.pop() != super()._node(BLOCK_HEIGHT, block):
            raise IntegrityError(
                f"one of the events {low} to {low + BLOCK_EVENTS - 1} was changed on disk",
                index=low,
            )
        return levels


def _parents(nodes: bytes) -> bytes:
    """The complete parents of a row of nodes."""
    pairs = range(0, len(nodes) - HASH_BYTES, 2 * HASH_BYTES)
    return b"".join(sha256(b"\1" + nodes[at : at + 2 * HASH_BYTES]).digest() for at in pairs)
