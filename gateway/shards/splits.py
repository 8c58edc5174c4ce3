"""Deal rows to splits: by a keyed hash of a column, by chance, or by a column's own words."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.domain.dataset import SPLITS_MAX, Dealing, parse_name
from gateway.errors import InvalidInput, SourceRefused

WHOLE = "all"  # the one split of a version that names none


class Dealer(Protocol):
    """Assigns the rows of consecutive batches to splits."""

    def deal(self, batch: Any) -> Iterator[tuple[str, Any]]:
        """Yield (split, its rows of this batch, in order); splits without rows are left out."""
        ...


class OneSplit:
    """Everything in one."""

    def deal(self, batch: Any) -> Iterator[tuple[str, Any]]:
        """Yield the batch itself."""
        yield WHOLE, batch


@dataclass(slots=True)
class ByShare:
    """Each row (or each value of a column) falls into a split with the given share.

    The same key and value always give the same split, in every version; without a column
    the key and the row's position decide.
    """

    shares: Sequence[tuple[str, float]]
    key: bytes
    column: str | None = None
    _chance: Any = field(init=False)

    def __post_init__(self) -> None:
        """Seed the row positions' generator from the key."""
        seed = hmac.digest(self.key, b"rows", "sha256")
        self._chance = np.random.Generator(np.random.Philox(key=int.from_bytes(seed[:16], "big")))

    def deal(self, batch: Any) -> Iterator[tuple[str, Any]]:
        """Yield each split's rows."""
        points = self._chance.random(len(batch)) if self.column is None else self._hashed(batch)
        edges = np.cumsum([share for _, share in self.shares])
        numbers = np.searchsorted(edges[:-1], points, side="right")
        for number, (name, _) in enumerate(self.shares):
            mask = numbers == number
            if mask.any():
                yield name, batch if mask.all() else batch.filter(pa.array(mask))

    def _hashed(self, batch: Any) -> Any:
        encoded = batch.column(self.column).dictionary_encode(null_encoding="encode")
        values = encoded.dictionary.cast(pa.string()).to_pylist()
        points = np.array([self._point(value) for value in values], dtype=np.float64)
        return points[encoded.indices.to_numpy(zero_copy_only=False)]

    def _point(self, value: str | None) -> float:
        text = b"\0" if value is None else b"\1" + value.encode()
        digest = hmac.new(self.key, text, hashlib.sha256).digest()
        return int.from_bytes(digest[:7], "big") / (1 << 56)


@dataclass(slots=True)
class ByColumn:
    """The column's value is the split's name."""

    column: str
    seen: set[str] = field(default_factory=set)

    def deal(self, batch: Any) -> Iterator[tuple[str, Any]]:
        """Yield each split's rows; raises SourceRefused for values that cannot be names."""
        words = batch.column(self.column).cast(pa.string())
        if words.null_count:
            raise SourceRefused(f"the split column `{self.column[:80]}` has missing values")
        for name in sorted(pc.unique(words).to_pylist()):
            self.seen.add(_named(name, f"a value of the split column `{self.column[:80]}`"))
            if len(self.seen) > SPLITS_MAX:
                raise SourceRefused(
                    f"the split column `{self.column[:80]}` has more than {SPLITS_MAX} values"
                )
            yield name, batch.filter(pc.equal(words, name))


def _named(name: str, what: str) -> str:
    try:
        return parse_name(name, what="split")
    except InvalidInput as cause:  # whose message quotes the name, here a value of a row
        raise SourceRefused(f"{what} cannot name a split", advice=cause.advice) from None


def dealer(
    *, shares: Sequence[tuple[str, float]], key: bytes, by: str | None, column: str | None
) -> Dealer:
    """Choose the dealer of a job; raises SourceRefused when the wishes contradict each other."""
    for name, _ in shares:
        _named(name, "a split of `--splits`")
    try:
        dealing = Dealing(
            column=column or by,
            names_split=column is not None,
            shares=tuple((name, repr(share)) for name, share in shares),
        )
    except InvalidInput as cause:
        raise SourceRefused("the splits make no sense", advice=cause.advice) from cause
    if column is not None and by is not None:
        raise SourceRefused("a split column leaves nothing to `--split-by`")
    if dealing.names_split:
        assert column is not None
        return ByColumn(column)
    return ByShare(tuple(shares), key, by) if shares else OneSplit()


def require_dealable(kind: Any, name: str) -> None:
    """Refuse a column whose values have no text to be dealt by; raises SourceRefused."""
    try:
        pa.nulls(0, kind).cast(pa.string())
    except pa.ArrowException as cause:
        raise SourceRefused(
            f"a column of type `{kind}` cannot deal rows to splits: `{name[:80]}`",
            advice="name a column of texts, numbers or times",
        ) from cause
