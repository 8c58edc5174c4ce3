"""Arrow types and columns of a direct stream: from the type text of its lease manifest.

A direct column's values lie in a segment as Arrow holds them, so an array of any type is a
view of that memory; only booleans are packed into bits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gateway.domain.field_metadata import TENSOR
from gateway.domain.layout import BINARY, LIST, TENSOR_TEXT, TIMED, layout_of
from gateway.errors import IntegrityError
from gateway.wire.leases import LeaseColumn


def direct_schema(columns: Sequence[LeaseColumn]) -> Any:
    """The schema that was registered, of these columns; raises IntegrityError."""
    return pa.schema([_field(column) for column in columns])


def _field(column: LeaseColumn) -> Any:
    metadata = dict(column.metadata)
    parameters = metadata.pop(TENSOR, "{}")
    layout = layout_of(column.arrow)
    if layout is None or (layout.dtype, layout.shape) != (column.dtype, column.shape):
        raise IntegrityError(f"column `{column.name}` has another layout than its type")
    try:
        kind = _kind(column.arrow, parameters)
    except (ValueError, TypeError, AttributeError, pa.ArrowException) as cause:
        raise IntegrityError(f"the type of column `{column.name}` cannot be read") from cause
    # Direct columns have no missing values (manifest-v1.md).
    return pa.field(column.name, kind, nullable=False, metadata=metadata or None)


def _kind(text: str, parameters: str) -> Any:
    if timed := TIMED.match(text):
        of = pa.timestamp if timed[1] == "timestamp" else pa.duration
        return of(timed[2], timed[3]) if timed[3] else of(timed[2])
    if binary := BINARY.match(text):
        return pa.binary(int(binary[1]))
    if tensor := TENSOR_TEXT.match(text):
        told = json.loads(parameters)
        return pa.fixed_shape_tensor(
            _kind(tensor[1], parameters),
            [int(size) for size in tensor[2].split(", ")],
            dim_names=told.get("dim_names"),
            permutation=told.get("permutation"),
        )
    if items := LIST.match(text):
        return pa.list_(pa.field("item", _kind(items[1], parameters)), int(items[2]))
    return pa.type_for_alias(text)


def direct_column(values: NDArray[Any], kind: Any) -> Any:
    """The column of a numpy array of the layout of `kind`; shares its memory."""
    return _column(np.ascontiguousarray(values).reshape(-1), kind, len(values))


def _column(flat: NDArray[Any], kind: Any, count: int) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _column(flat, kind.storage_type, count))
    if pa.types.is_fixed_size_list(kind):
        items = _column(flat, kind.value_type, count * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(items, type=kind)
    if pa.types.is_boolean(kind):
        return pa.array(flat)
    if flat.nbytes * 8 != count * kind.bit_width:
        raise IntegrityError("a column has another size than its type")
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(flat.view("u1"))])
