"""What each mask does to values: type- and NULL-preserving, vectorised. Decoder children only.

Names, types and order of strictness are in domain/masks.py; what stays visible is in
docs/formats/view-v0.md. Digests and pseudonyms are computed once per distinct value.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.crypto.envelope import derive
from gateway.domain.masks import applies_to, parse_mask
from gateway.errors import InvalidInput
from gateway.shards.types import type_text

FIXED_TEXT = "masked"
_SHOWN = 4
_PSEUDONYM_HEX = 32


@dataclass(frozen=True, slots=True)
class MaskKeys:
    """Keys of the masks that need one."""

    tenant: bytes = field(repr=False)  # of (dataset, recipient tenant): `x-hmac-tenant`
    query: bytes = field(repr=False)  # of one Plan: `sha-256-query-local`

    @classmethod
    def of(cls, mask_key: bytes, plan_digest: str) -> MaskKeys:
        """Derive both from the 32-byte key of (dataset, recipient tenant)."""
        return cls(
            derive(mask_key, "x-hmac-tenant"),
            derive(mask_key, "sha-256-query-local", plan_digest),
        )


def masked(array: Any, mask: str | None, keys: MaskKeys) -> Any:
    """Apply a mask to an Arrow array; raises InvalidInput when it cannot mask that type."""
    if mask is None:
        return array
    name, width = parse_mask(mask)
    if not applies_to(mask, type_text(array.type)) or name not in _MASKS:
        raise InvalidInput(f"`{name}` cannot mask a column of type `{type_text(array.type)[:80]}`")
    result = _MASKS[name](array, keys) if width is None else _bucket(array, width)
    assert result.type == array.type
    assert len(result) == len(array)
    return result


def masked_field(column: Any, mask: str | None) -> Any:
    """The field of a masked column: it may hold NULL if the mask makes some."""
    return column.with_nullable(True) if mask == "replace-with-null" else column


def _alphanum(array: Any, _keys: MaskKeys) -> Any:
    letters = pc.replace_substring_regex(array, r"[A-Za-z]|[^\x00-\x7F]", "x")
    return pc.replace_substring_regex(letters, "[0-9]", "n")


def _fixed(array: Any, _keys: MaskKeys) -> Any:
    kind = array.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    plain = FIXED_TEXT if is_text else False if pa.types.is_boolean(kind) else 0
    value = pa.scalar(plain, pa.int64()).cast(pa.int32()) if pa.types.is_date32(kind) else None
    scalar = value.cast(kind) if value is not None else _scalar(plain, kind)
    filled = pa.repeat(scalar, len(array))
    return pc.if_else(pc.is_valid(array), filled, pa.scalar(None, kind))


def _scalar(plain: Any, kind: Any) -> Any:
    if pa.types.is_temporal(kind):
        return pa.scalar(plain, pa.int64()).cast(kind)
    return pa.scalar(np.float16(plain) if pa.types.is_float16(kind) else plain, kind)


def _null(array: Any, _keys: MaskKeys) -> Any:
    return pa.nulls(len(array), array.type)


def _hidden(array: Any) -> Any:
    return pc.replace_substring_regex(array, "(?s).", "x")


def _show_first(array: Any, _keys: MaskKeys) -> Any:
    shown = pc.utf8_slice_codeunits(array, 0, _SHOWN)
    rest = _hidden(pc.utf8_slice_codeunits(array, _SHOWN))
    return _unless_short(array, pc.binary_join_element_wise(shown, rest, _empty(array)))


def _show_last(array: Any, _keys: MaskKeys) -> Any:
    shown = pc.utf8_slice_codeunits(array, -_SHOWN)
    rest = _hidden(pc.utf8_slice_codeunits(array, 0, -_SHOWN))
    return _unless_short(array, pc.binary_join_element_wise(rest, shown, _empty(array)))


def _empty(array: Any) -> Any:
    return pa.scalar("", array.type)


def _unless_short(array: Any, shown: Any) -> Any:
    """A text of at most four characters would be shown whole, so it is hidden whole."""
    short = pc.less_equal(pc.utf8_length(array), _SHOWN)
    return pc.if_else(short, _hidden(array), shown)


def _truncate(unit: str) -> Callable[[Any, MaskKeys], Any]:
    def mask(array: Any, _keys: MaskKeys) -> Any:
        kind = array.type
        if pa.types.is_timestamp(kind):  # in UTC, whatever zone the column is shown in
            array = array.view(pa.timestamp(kind.unit))
        return pc.floor_temporal(array, unit=unit).cast(array.type).view(kind)

    return mask


def _by_distinct(array: Any, digest: Callable[[Any], Any], kind: Any) -> Any:
    encoded = array.dictionary_encode()
    values = [digest(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(values, kind).take(encoded.indices)


def _sha256(array: Any, _keys: MaskKeys) -> Any:
    return _by_distinct(array, lambda text: hashlib.sha256(text.encode()).hexdigest(), array.type)


def _sha256_local(array: Any, keys: MaskKeys) -> Any:
    return _by_distinct(
        array, lambda text: hmac.digest(keys.query, text.encode(), "sha256").hex(), array.type
    )


def _hmac_tenant(array: Any, keys: MaskKeys) -> Any:
    if not pa.types.is_integer(array.type):
        return _by_distinct(
            array,
            lambda text: hmac.digest(keys.tenant, b"s" + text.encode(), "sha256").hex()[
                :_PSEUDONYM_HEX
            ],
            array.type,
        )
    signed = pa.types.is_signed_integer(array.type)
    return _by_distinct(
        array,
        lambda n: int.from_bytes(
            hmac.digest(keys.tenant, b"i%d" % n, "sha256")[:8], "big", signed=signed
        ),
        array.type,
    )


def _bucket(array: Any, width: int) -> Any:
    kind = array.type
    if pa.types.is_floating(kind):
        doubles = array.cast(pa.float64())
        floored = pc.multiply(pc.floor(pc.divide(doubles, float(width))), float(width))
        return floored.cast(kind, safe=False)
    valid = pc.is_valid(array)
    values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    least = np.iinfo(values.dtype).min
    wide = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64)
    remainder = np.mod(wide, wide.dtype.type(width))
    # Below the first multiple that the type can hold there is only the type's least value.
    fits = wide >= (wide.dtype.type(least) + remainder)
    result = np.where(fits, wide - np.where(fits, remainder, 0), wide.dtype.type(least))
    return pc.if_else(valid, pa.array(result.astype(values.dtype), kind), pa.scalar(None, kind))


_MASKS: dict[str, Callable[[Any, MaskKeys], Any]] = {
    "mask-alphanum": _alphanum,
    "mask-to-fixed-value": _fixed,
    "replace-with-null": _null,
    "show-first-4": _show_first,
    "show-last-4": _show_last,
    "truncate-to-year": _truncate("year"),
    "truncate-to-month": _truncate("month"),
    "sha-256-global": _sha256,
    "sha-256-query-local": _sha256_local,
    "x-hmac-tenant": _hmac_tenant,
    "x-bucket": _null,  # with its width: see `masked`
}
