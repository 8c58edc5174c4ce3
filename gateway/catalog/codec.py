"""State to JSON values and back, by the types its dataclasses declare. Strict: no guessing.

For our own sealed and signed snapshots only; anything unexpected raises and the snapshot is
thrown away (snapshot.py). A dataclass becomes the list of its fields in order, a mapping the
list of its pairs (JSON keys are text only), Any stands as it is.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from gateway.domain.access import Plan

_UNIONS = (Union, types.UnionType)


def encode(kind: Any, value: Any) -> Any:
    """JSON values of `value`, which is of type `kind`."""
    if kind is Plan:
        return value.to_dict()
    if isinstance(kind, type) and is_dataclass(kind):
        return [encode(hint, getattr(value, name)) for name, hint in _hints(kind).items()]
    origin = get_origin(kind)
    if value is None or origin is None:
        return value
    return _encode_generic(origin, get_args(kind), value)


def _encode_generic(origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
    if origin in _UNIONS:
        return encode(_not_none(inner), value)
    if issubclass(origin, Mapping):
        return [[encode(inner[0], key), encode(inner[1], item)] for key, item in value.items()]
    items = sorted(value) if issubclass(origin, (set, frozenset)) else value
    return [encode(inner[0], item) for item in items]


def decode(kind: Any, value: Any) -> Any:
    """What `encode(kind, …)` was given; TypeError or ValueError for anything else."""
    if kind is Plan:
        return Plan.from_dict(value)
    if isinstance(kind, type) and is_dataclass(kind):
        pairs = zip(_hints(kind).items(), value, strict=True)
        return kind(**{name: decode(hint, item) for (name, hint), item in pairs})
    origin = get_origin(kind)
    if origin is not None:
        return _decode_generic(origin, get_args(kind), value)
    if kind not in (Any, object) and type(value) is not kind:
        raise TypeError(f"{kind} expected")
    return value


def _decode_generic(origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
    if origin in _UNIONS:
        return None if value is None else decode(_not_none(inner), value)
    if issubclass(origin, Mapping):
        return {decode(inner[0], key): decode(inner[1], item) for key, item in value}
    return origin(decode(inner[0], item) for item in value)


def _not_none(members: tuple[Any, ...]) -> Any:
    (inner,) = (member for member in members if member is not type(None))
    return inner


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}
