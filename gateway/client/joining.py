"""One batch from pieces that lie in several frames of a view, for the price of one copy.

A batch that is larger than what a consumer may keep of the ring is written as its pieces come,
so that each slot is given back at once: joined by Arrow at the end, they would be copied twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.client.paged import as_pages
from gateway.client.slots import KEPT_MAX
from gateway.errors import InvalidInput
from gateway.wire.segments import CHUNK_BYTES_MAX

LARGE_BYTES = KEPT_MAX * CHUNK_BYTES_MAX
COLUMNS_MAX = 8  # written column by column, piece by piece: beyond, Arrow's own loops win
_SLACK = 1.125  # values of a batch differ from those of its first piece
_GROWTH = 1.5
_FLOAT_BITS = 53  # of a whole number that a float64 holds as it is


class Joiner:
    """Joins pieces of one schema."""

    def __init__(self, schema: Any) -> None:
        """Find out whether all columns are plain bytes."""
        found = [_kind_of(field.type) for field in schema]
        is_plain = 0 < len(found) <= COLUMNS_MAX and None not in found
        self._kinds: list[Any] = found if is_plain else []
        self._is_flat = len(found) <= COLUMNS_MAX and all(map(_is_flat, schema.types))
        self._schema = schema

    def join(self, pieces: Iterator[Any], rows: int) -> Any:
        """Return `rows` rows as one RecordBatch; a single piece stays where it lies."""
        import pyarrow as pa

        first = next(pieces)
        if first.num_rows == rows:
            return first
        if not self._kinds or not _is_large(first, rows):
            return pa.concat_batches(chain((first,), pieces))
        written = _Written(self._kinds, first, rows)
        rest = [] if written.take(first) else [first]
        del first  # its slot with it
        rest += [piece for piece in pieces if not written.take(piece)]
        batch = written.batch(self._schema)
        return pa.concat_batches([batch, *rest]) if rest else batch

    def arrays(self, pieces: Iterator[Any], rows: int) -> dict[str, NDArray[Any]]:
        """Return the same as numpy arrays, by name; InvalidInput for a value numpy cannot hold.

        Values that become Python objects are copied by that: joined before, they would be twice.
        """
        first = next(pieces)
        if not self._is_flat or not _is_large(first, rows) or first.num_rows == rows:
            return _arrays_of(self.join(chain((first,), pieces), rows))
        found = [_owned(first)]
        del first  # its slot with it
        found += [_owned(piece) for piece in pieces]
        whole = {name: np.concatenate([some[name] for some in found]) for name in found[0]}
        for field in self._schema:
            _refuse_rounded(field.name, field.type, whole[field.name])
        return whole


def _is_large(first: Any, rows: int) -> bool:
    return bool(first.nbytes * rows > LARGE_BYTES * first.num_rows)


def _owned(piece: Any) -> dict[str, NDArray[Any]]:
    """Arrays that look at no slot."""
    arrays = _arrays_of(piece)
    return {n: array if array.dtype == object else array.copy() for n, array in arrays.items()}


def _arrays_of(batch: Any) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        paged = None if field.nullable else as_pages(column)
        arrays[field.name] = _array(field.name, column) if paged is None else paged
    return arrays


def _array(name: str, column: Any) -> NDArray[Any]:
    import pyarrow as pa

    try:
        array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        _refuse_rounded(name, column.type, array)
        items = _items(column)
        if items is not None and items.null_count:  # each list on its own becomes floats
            _refuse_rounded(name, items.type, items.to_numpy(zero_copy_only=False))
    except (pa.ArrowException, ValueError, OverflowError) as cause:
        # Python's times and dates are coarser and fewer than Arrow's.
        raise _unheld(name, column.type) from cause
    return array


def _items(column: Any) -> Any:
    """The innermost values of lists of lists; None if there are no lists."""
    from pyarrow import types

    found = None
    while types.is_list(column.type) or _is_other_list(column.type):
        found = column = column.flatten()
    return found


def _is_other_list(type_: Any) -> bool:
    from pyarrow import types

    return bool(types.is_large_list(type_) or types.is_fixed_size_list(type_))


def _refuse_rounded(name: str, type_: Any, array: NDArray[Any]) -> None:
    """Whole numbers beside missing ones become floats; beyond 2^53 they would be others."""
    from pyarrow import types

    is_rounded = array.dtype.kind == "f" and types.is_integer(type_)
    if is_rounded and type_.bit_width > _FLOAT_BITS and (np.abs(array) >= 1 << _FLOAT_BITS).any():
        raise _unheld(name, type_)


def _unheld(name: str, type_: Any) -> InvalidInput:
    return InvalidInput(
        f"column `{name[:80]}` (`{str(type_)[:80]}`) has a value that numpy cannot hold",
        advice="stream it as Arrow: output `arrow`, or leave the column out",
    )


class _Written:
    """Columns that grow piece by piece."""

    def __init__(self, kinds: list[Any], first: Any, rows: int) -> None:
        self._columns: list[_Column] = [
            kind(column, rows) for kind, column in zip(kinds, first.columns, strict=True)
        ]
        self._rows = 0
        self._is_over = False

    def take(self, piece: Any) -> bool:
        """Copy a piece; False for one with a missing value, and for all behind it."""
        if self._is_over:
            return False
        at = self._rows
        for mine, column in zip(self._columns, piece.columns, strict=True):
            if column.null_count or not mine.take(column, at):
                self._is_over = True
                return False
        self._rows = at + piece.num_rows
        return True

    def batch(self, schema: Any) -> Any:
        import pyarrow as pa

        arrays = [
            column.array(field.type, self._rows)
            for column, field in zip(self._columns, schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Column(Protocol):
    """The values of one column, one after another."""

    def take(self, column: Any, at: int) -> bool:
        """Put the values of `column` behind the first `at`; False if they do not fit."""
        ...

    def array(self, type_: Any, rows: int) -> Any:
        """Return the first `rows` values."""
        ...


class _Fixed:
    """Values of one width."""

    def __init__(self, column: Any, rows: int) -> None:
        self._width = column.type.byte_width
        self._bytes = _Bytes(rows * self._width)

    def take(self, column: Any, at: int) -> bool:
        start, count = column.offset * self._width, len(column) * self._width
        self._bytes.put(column.buffers()[1], start, count, at * self._width)
        return True

    def array(self, type_: Any, rows: int) -> Any:
        import pyarrow as pa

        return pa.Array.from_buffers(type_, rows, [None, self._bytes.buffer])


class _Binary:
    """Values of any length, with where each ends."""

    def __init__(self, column: Any, rows: int, *, word: str) -> None:
        self._word = np.dtype(word)
        self._most = int(np.iinfo(self._word).max)
        self._ends = np.zeros(rows + 1, dtype=self._word)
        ends = self._ends_of(column, column.buffers()[1])
        share = (int(ends[-1]) - int(ends[0])) / len(column)
        self._bytes = _Bytes(int(share * rows * _SLACK))

    def _ends_of(self, column: Any, words: Any) -> Any:
        start = column.offset * self._word.itemsize
        return np.frombuffer(words, dtype=self._word, count=len(column) + 1, offset=start)

    def take(self, column: Any, at: int) -> bool:
        _, words, values = column.buffers()
        ends = self._ends_of(column, words)
        start = int(ends[0])
        size, count = int(self._ends[at]), int(ends[-1]) - start
        if size + count > self._most:
            return False
        self._bytes.put(values, start, count, size)
        np.add(ends[1:], size - start, out=self._ends[at + 1 : at + len(ends)])
        return True

    def array(self, type_: Any, rows: int) -> Any:
        import pyarrow as pa

        ends = pa.py_buffer(self._ends)
        return pa.Array.from_buffers(type_, rows, [None, ends, self._bytes.buffer])


class _Bytes:
    """Memory of Arrow's pool, which keeps it warm from batch to batch; it grows if it must."""

    def __init__(self, size: int) -> None:
        import pyarrow as pa

        self.buffer = pa.allocate_buffer(max(size, 1))
        self._array = np.frombuffer(self.buffer, dtype=np.uint8)

    def put(self, source: Any, start: int, count: int, at: int) -> None:
        """Copy `count` bytes of `source` from `start` to `at`, behind all that is there."""
        if not count:
            return  # Arrow may have no buffer for no bytes
        end = at + count
        if end > len(self._array):
            self._grow(int(end * _GROWTH), at)
        self._array[at:end] = np.frombuffer(source, dtype=np.uint8, count=count, offset=start)

    def _grow(self, size: int, kept: int) -> None:
        larger = _Bytes(size)
        larger._array[:kept] = self._array[:kept]
        self.buffer, self._array = larger.buffer, larger._array


def _is_flat(type_: Any) -> bool:
    """Whether arrays of its pieces, one after another, are the array of the whole."""
    from pyarrow import types

    is_text = types.is_string(type_) or types.is_large_string(type_)
    is_bytes = types.is_binary(type_) or types.is_large_binary(type_)
    return bool(is_text or is_bytes or types.is_primitive(type_))


def _kind_of(type_: Any) -> Any:
    """What writes values of this type; None if they are more than plain bytes."""
    from pyarrow import types

    if types.is_binary(type_) or types.is_string(type_):
        return partial(_Binary, word="i4")
    if types.is_large_binary(type_) or types.is_large_string(type_):
        return partial(_Binary, word="i8")
    is_number = types.is_primitive(type_) and not types.is_boolean(type_)
    is_plain = is_number or types.is_decimal(type_) or types.is_fixed_size_binary(type_)
    return _Fixed if is_plain else None
