"""The Merkle tree of RFC 6962 §2.1 (same as RFC 9162 §2.1): append, root and proofs.

Pure arithmetic over 32-byte SHA-256 hashes; which bytes are leaves is said elsewhere
(docs/formats/event-v0.md). Verification raises IntegrityError and returns nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import pairwise

from gateway.errors import IntegrityError, InvalidInput

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry of the log (RFC 6962: domain byte 0x00)."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (domain byte 0x01)."""
    return sha256(b"\1" + left + right).digest()


class Tree:
    """All nodes of one append-only tree, 64 bytes per leaf; every proof at every size."""

    __slots__ = ("_levels", "size")

    def __init__(self) -> None:
        """Start empty."""
        self._levels = [bytearray()]
        self.size = 0

    def append(self, leaf: bytes) -> int:
        """Add one leaf hash (32 bytes) and return its index."""
        levels = self._levels
        levels[0] += leaf
        index, rest, height = self.size, self.size + 1, 0
        self.size = rest
        while not rest & 1:  # a pair is complete at this height: its parent exists from now on
            parent = sha256(b"\1" + levels[height][-64:]).digest()
            height += 1
            rest >>= 1
            if height == len(levels):
                levels.append(bytearray())
            levels[height] += parent
        return index

    def replace(self, index: int, leaf: bytes) -> None:
        """Put another hash in the place of a leaf. Only for trees of present state, never a log."""
        if not 0 <= index < self.size:
            raise InvalidInput(f"no leaf {index} in a tree of {self.size}")
        self._levels[0][32 * index : 32 * index + 32] = leaf
        for height in range(1, len(self._levels)):
            index >>= 1
            if 32 * index >= len(self._levels[height]):
                return  # the pair above is not complete yet
            below = self._levels[height - 1][64 * index : 64 * index + 64]
            self._levels[height][32 * index : 32 * index + 32] = sha256(b"\1" + below).digest()

    def truncate(self, size: int) -> None:
        """Forget the leaves from `size` on: a tail that was never acknowledged."""
        self.size = self._known(size)
        for height, level in enumerate(self._levels):
            del level[32 * (size >> height) :]

    def leaf(self, index: int) -> bytes:
        """The leaf hash at `index`."""
        if not 0 <= index < self.size:
            raise InvalidInput(f"no leaf {index} in a tree of {self.size}")
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` leaves (None = all); EMPTY_ROOT of none."""
        size = self._known(size)
        return EMPTY_ROOT if size == 0 else self._range(0, size)

    def edge(self) -> tuple[bytes, ...]:
        """The right edge, as Frontier takes it: roots of the complete subtrees, largest first."""
        parts, low = [], 0
        for height in range(self.size.bit_length() - 1, -1, -1):
            if self.size >> height & 1:
                parts.append(self._node(height, low >> height))
                low += 1 << height
        return tuple(parts)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[size]): the hashes that lead from the leaf to the root at `size`."""
        size = self._known(size)
        if not 0 <= index < size:
            raise InvalidInput(f"no leaf {index} in a tree of {size}")
        proof: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        return proof[::-1]

    def multiproof(self, indexes: Sequence[int], size: int | None = None) -> list[bytes]:
        """The hashes that lead from many leaves to the root at `size`, from left to right.

        Args:
            indexes: of the leaves, ascending, each once.
            size: of the tree.
        """
        size = self._known(size)
        if any(low >= high for low, high in pairwise(indexes)) or (
            indexes and not 0 <= indexes[0] <= indexes[-1] < size
        ):
            raise InvalidInput(f"these are not ascending leaves of a tree of {size}")
        proof: list[bytes] = []
        self._beside(indexes, (0, size), (0, len(indexes)), proof)
        return proof

    def _beside(
        self,
        indexes: Sequence[int],
        leaves: tuple[int, int],
        wanted: tuple[int, int],
        proof: list[bytes],
    ) -> None:
        """Roots of the largest parts of [low, high) that hold none of the wanted leaves."""
        (low, high), (first, last) = leaves, wanted
        if first == last:
            if low < high:
                proof.append(self._range(low, high))
        elif high - low > 1 and last - first < high - low:
            middle = low + _split(high - low)
            cut = bisect_left(indexes, middle, first, last)
            self._beside(indexes, (low, middle), (first, cut), proof)
            self._beside(indexes, (middle, high), (cut, last), proof)

    def consistency(self, first: int, second: int | None = None) -> list[bytes]:
        """PROOF(first, D[second]): that the first tree is a prefix of the second."""
        second = self._known(second)
        if not 1 <= first <= second:
            raise InvalidInput(f"no consistency proof from {first} to {second} leaves")
        proof: list[bytes] = []
        low, high, whole = 0, second, True  # whole: the old tree is a complete subtree so far
        while first != high - low:
            half = _split(high - low)
            if first <= half:
                proof.append(self._range(low + half, high))
                high = low + half
            else:
                proof.append(self._range(low, low + half))
                low, first, whole = low + half, first - half, False
        if not whole:
            proof.append(self._range(low, high))
        return proof[::-1]

    def _known(self, size: int | None) -> int:
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise InvalidInput(f"the tree has {self.size} leaves, not {size}")
        return size

    def _node(self, height: int, index: int) -> bytes:
        return bytes(self._levels[height][32 * index : 32 * index + 32])

    def _range(self, low: int, high: int) -> bytes:
        """Root of leaves [low, high), where `low` is a multiple of the largest power below."""
        count = high - low
        if not count & (count - 1):
            return self._node(count.bit_length() - 1, low // count)
        middle = low + _split(count)
        return node_hash(self._range(low, middle), self._range(middle, high))


class Frontier:
    """The right edge of a tree: enough to append and to know the root, in ≤ 64 hashes."""

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """Resume at `size` with the edge saved there; InvalidInput when they do not fit."""
        if len(edge) != size.bit_count() or any(len(part) != HASH_BYTES for part in edge):
            raise InvalidInput("the saved edge does not fit its size")
        self.size = size
        self._edge = list(edge)

    @property
    def edge(self) -> tuple[bytes, ...]:
        """Roots of the complete subtrees, largest first."""
        return tuple(self._edge)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        size, edge = self.size, self._edge
        for leaf in leaves:
            rest = size
            while rest & 1:
                leaf = sha256(b"\1" + edge.pop() + leaf).digest()  # noqa: PLW2901 - its parent
                rest >>= 1
            edge.append(leaf)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Root of all leaves so far."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in self._edge[-2::-1]:
            root = node_hash(left, root)
        return root


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that `leaf` is at `index` of the tree (RFC 9162 §2.1.3.2); raises IntegrityError."""
    if not 0 <= index < size:
        raise IntegrityError(f"no leaf {index} in a tree of {size}")
    _need_hashes(leaf, root, *proof)
    at, last, found = index, size - 1, leaf
    for part in proof:
        if last == 0:
            raise IntegrityError("the inclusion proof is too long")
        if at & 1 or at == last:
            found = node_hash(part, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, part)
        at, last = at >> 1, last >> 1
    if last != 0:
        raise IntegrityError("the inclusion proof is too short")
    if found != root:
        raise IntegrityError(f"leaf {index} is not in the tree of {size} leaves with this root")


def verify_multiproof(
    leaves: Sequence[tuple[int, bytes]], size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that leaves (index, hash; ascending) stand in the tree; raises IntegrityError."""
    indexes = [index for index, _ in leaves]
    if any(low >= high for low, high in pairwise(indexes)) or (
        indexes and not 0 <= indexes[0] <= indexes[-1] < size
    ):
        raise IntegrityError(f"these are not ascending leaves of a tree of {size}")
    _need_hashes(root, *proof, *(leaf for _, leaf in leaves))
    rest = iter(proof)

    def fold(low: int, high: int, first: int, last: int) -> bytes:
        if first == last:
            return next(rest)
        if high - low == 1:
            return leaves[first][1]
        middle = low + _split(high - low)
        cut = bisect_left(indexes, middle, first, last)
        return node_hash(fold(low, middle, first, cut), fold(middle, high, cut, last))

    try:
        found = fold(0, size, 0, len(leaves)) if size else EMPTY_ROOT
    except StopIteration as cause:
        raise IntegrityError("the proof of many leaves is too short") from cause
    if next(rest, None) is not None:
        raise IntegrityError("the proof of many leaves is too long")
    if found != root:
        raise IntegrityError(f"the leaves are not in the tree of {size} leaves with this root")


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], roots: tuple[bytes, bytes]
) -> None:
    """Check that the tree of `first` leaves is a prefix of that of `second` (RFC 9162 §2.1.4.2).

    Args:
        first: leaves of the older tree, at least 1.
        second: leaves of the newer one.
        proof: hashes as `Tree.consistency` gives them.
        roots: root of the older tree, root of the newer one.

    Raises:
        IntegrityError: anything does not hold.
    """
    old, new = roots
    if not 1 <= first <= second:
        raise IntegrityError(f"no tree of {second} leaves extends one of {first}")
    if first == second:
        if proof or old != new:
            raise IntegrityError("two trees of the same size differ")
        return
    _need_hashes(old, new, *proof)
    path = list(proof) if first & (first - 1) else [old, *proof]
    if not proof:
        raise IntegrityError("the consistency proof is empty")
    if _fold(first, second, path) != (old, new):
        raise IntegrityError(f"the tree of {second} leaves does not extend the one of {first}")


def _fold(first: int, second: int, path: list[bytes]) -> tuple[bytes, bytes]:
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for part in path[1:]:
        if last == 0:
            raise IntegrityError("the consistency proof is too long")
        if at & 1 or at == last:
            old, new = node_hash(part, old), node_hash(part, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, part)
        at, last = at >> 1, last >> 1
    if last != 0:
        raise IntegrityError("the consistency proof is too short")
    return old, new


def _need_hashes(*hashes: bytes) -> None:
    if any(len(part) != HASH_BYTES for part in hashes):
        raise IntegrityError("a hash of the proof has not 32 bytes")


def _split(count: int) -> int:
    """The largest power of two smaller than `count` (count ≥ 2)."""
    return 1 << ((count - 1).bit_length() - 1)
