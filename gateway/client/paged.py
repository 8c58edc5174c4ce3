"""Columns of a view as arrays of the kind that pages give.

Whether rows come straight from pages or from a view depends on rules and on other columns: a
program must not notice. So a column without missing values that pages could hold has the dtype
and shape that they give: `(rows, 1024)` for lists of 1,024, days and times as whole numbers,
bytes of one width as `uint8`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHOLE = {4: "<i4", 8: "<i8"}  # of days, and of times of the day


def as_pages(column: Any) -> NDArray[Any] | None:
    """Return the array; None where Arrow's own is the same, or pages could not hold it."""
    from pyarrow import types

    storage, shape = getattr(column, "storage", column), [len(column)]
    while types.is_fixed_size_list(storage.type):
        shape += [storage.type.list_size]
        if storage.null_count:
            return None
        storage = storage.flatten()
    shape[1:] = getattr(column.type, "shape", shape[1:])  # of a tensor, whose storage is flat
    if storage.null_count:
        return None
    values = _values(storage)
    if values is None or (values.ndim == 1 and len(shape) == 1 and _is_alike(storage.type)):
        return None
    return values.reshape(*shape, *values.shape[1:])


def _is_alike(type_: Any) -> bool:
    from pyarrow import types

    return not (types.is_date32(type_) or types.is_time(type_))


def _values(storage: Any) -> NDArray[Any] | None:
    """One value after another."""
    from pyarrow import types

    kind = storage.type
    if types.is_fixed_size_binary(kind):
        return _raw(storage, "u1", kind.byte_width).reshape(len(storage), kind.byte_width)
    if types.is_date32(kind) or types.is_time(kind):
        return _raw(storage, _WHOLE[kind.bit_width // 8], 1)
    if not types.is_primitive(kind):
        return None
    found: NDArray[Any] = storage.to_numpy(zero_copy_only=False)
    return found


def _raw(storage: Any, dtype: str, width: int) -> NDArray[Any]:
    if not len(storage):
        return np.empty(0, dtype=dtype)
    at = storage.offset * width * np.dtype(dtype).itemsize
    values: NDArray[Any] = np.frombuffer(
        storage.buffers()[1], dtype=dtype, count=len(storage) * width, offset=at
    )
    return values
