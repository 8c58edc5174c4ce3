"""Strict JSON for the dataclasses of the wire. Standard library only, used on both sides.

`decode` refuses what Python's own tools let pass: unknown and missing fields, `true` for 1,
`"1"` for 1, integers outside ±2^53, numbers that are not finite, keys given twice. `encode`
gives plain JSON values. Unknown fields are refused in requests (`decode`) and ignored in
replies (`decode_reply`), so that a newer server may say more to an older client.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from gateway.errors import InvalidInput

T = TypeVar("T")
INTEGER_MAX = (1 << 53) - 1


def encode(value: Any) -> Any:
    """Return `value` as plain JSON values; fields of dataclasses in their order."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Any) -> T:
    """Read a request body into the dataclass `kind`; raises InvalidInput naming the field."""
    return _object(kind, value, "", strict=True)


def decode_reply(kind: type[T], value: Any) -> T:
    """Read a reply into the dataclass `kind`; fields that this client does not know are dropped."""
    return _object(kind, value, "", strict=False)


def loads(text: str | bytes) -> Any:
    """Parse one JSON text; InvalidInput on NaN, keys given twice, deep nesting or bad UTF-8."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as cause:
        raise InvalidInput("the text is not JSON", advice="send one JSON value") from cause


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidInput("a key stands twice in one JSON object", advice="send each key once")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidInput(f"`{text}` is not a JSON number", advice="send a finite number")


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """Types of the dataclass's fields, resolved (also what the OpenAPI schema is made of)."""
    return get_type_hints(kind)


def _object(kind: type[T], value: Any, at: str, *, strict: bool) -> T:
    if not isinstance(value, Mapping):
        _refuse(at, "must be an object")
    hints = hints_of(kind)  # type: ignore[arg-type]
    unknown = [str(key) for key in value if key not in hints]
    if strict and unknown:
        _refuse(_below(at, unknown[0]), "is not a field")
    given: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        here = _below(at, field.name)
        if field.name in value:
            given[field.name] = _value(hints[field.name], value[field.name], here, strict=strict)
        elif field.default is MISSING and field.default_factory is MISSING:
            _refuse(here, "is missing")
    return kind(**given)


def _value(hint: Any, value: Any, at: str, *, strict: bool) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return _finite(value, at)
    if origin in (Union, types.UnionType):
        inner = [choice for choice in get_args(hint) if choice is not types.NoneType]
        return None if value is None else _value(inner[0], value, at, strict=strict)
    if origin is tuple:
        return _list(get_args(hint)[0], value, at, strict=strict)
    if origin in (dict, Mapping):
        return _map(get_args(hint)[1], value, at, strict=strict)
    if is_dataclass(hint):
        return _object(hint, value, at, strict=strict)  # type: ignore[arg-type]
    return _scalar(hint, value, at)


def _list(hint: Any, value: Any, at: str, *, strict: bool) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        _refuse(at, "must be a list")
    return tuple(_value(hint, item, f"{at}[{i}]", strict=strict) for i, item in enumerate(value))


def _map(hint: Any, value: Any, at: str, *, strict: bool) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        _refuse(at, "must be an object")
    return {key: _value(hint, item, _below(at, key), strict=strict) for key, item in value.items()}


def _scalar(hint: Any, value: Any, at: str) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value), at)
    if type(value) is not hint:
        names = {str: "text", int: "an integer", bool: "true or false", float: "a number"}
        _refuse(at, f"must be {names.get(hint, 'another type')}")
    return _finite(value, at)


def _finite(value: Any, at: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(at, "must be a finite number")
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        _refuse(at, "is an integer outside ±2^53")
    return value


def _below(at: str, name: str) -> str:
    return f"{at}.{name[:80]}" if at else name[:80]


def _refuse(at: str, what: str) -> NoReturn:
    raise InvalidInput(f"`{at}` {what}" if at else f"the body {what}", field=at)
