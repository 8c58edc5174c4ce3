"""Column masks: their names, arguments, order of strictness and the types each applies to.

What a mask does to values is in `shards/masks.py`; this module is what the policy room needs
to refuse a mask that cannot work. The first nine names are Apache Iceberg's, the `x-` names
are ours. Every mask keeps the type of the column and keeps NULL as NULL. What each one does
and does not protect: docs/reference/masks.md.

`a` is at least as strict as `b` when it lets the reader link or learn no more than `b`. The
order is a lattice with `None` (as it is) at the bottom and `x-drop` at the top: families that
cannot be compared meet in `replace-with-null`, so that adding a rule never widens a Plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import lcm

from gateway.errors import InvalidInput

DROP = "x-drop"
NULL = "replace-with-null"
UNKEYED = "sha-256-global"  # who can list the values can find each one's digest
LARGE_DOMAIN_TAG = "domain.large"  # an owner's word that nobody can list the column's values
BUCKET = "x-bucket"  # with its width: `x-bucket:10` puts 17 into 10
BUCKET_WIDTH_MAX = 10**12

_STRINGS = re.compile(r"(?:large_)?string(?:_view)?\Z")
_BINARIES = re.compile(r"(?:large_)?binary(?:_view)?\Z|fixed_size_binary\[[0-9]+\]\Z")
_INTEGERS = re.compile(r"u?int(?:8|16|32|64)\Z")
_FLOATS = re.compile(r"(?:halffloat|float|double)\Z")
_BOOLEANS = re.compile(r"bool\Z")
_DATES = re.compile(r"date(?:32\[day\]|64\[ms\])\Z")
_TIMES = re.compile(r"timestamp\[(?:s|ms|us|ns)(?:, tz=[^\]]+)?\]\Z")
_ANY = re.compile(r".*", re.DOTALL)
_LONG_INTEGERS = re.compile(r"u?int64\Z")

_TEXT = (_STRINGS,)
_MOMENTS = (_DATES, _TIMES)
_APPLIES: dict[str, tuple[re.Pattern[str], ...]] = {
    "mask-alphanum": _TEXT,
    "mask-to-fixed-value": (_STRINGS, _INTEGERS, _FLOATS, _BOOLEANS, _DATES, _TIMES),
    NULL: (_ANY,),
    "show-first-4": _TEXT,
    "show-last-4": _TEXT,
    "truncate-to-year": _MOMENTS,
    "truncate-to-month": _MOMENTS,
    UNKEYED: _TEXT,
    "sha-256-query-local": _TEXT,
    "x-hmac-tenant": (_STRINGS, _LONG_INTEGERS),
    BUCKET: (_INTEGERS, _FLOATS),
    DROP: (_ANY,),
}
# Chains of rising strictness; what is in no chain is a family of its own.
_CHAINS = (
    ("truncate-to-month", "truncate-to-year"),
    (UNKEYED, "x-hmac-tenant", "sha-256-query-local"),
)
_WIDTH = re.compile(r"[1-9][0-9]{0,12}\Z")


def mask_names() -> tuple[str, ...]:
    """The closed list, in the order of the format page."""
    return tuple(_APPLIES)


def parse_mask(text: str) -> tuple[str, int | None]:
    """Split `x-bucket:10` into name and argument; raises InvalidInput for what is no mask."""
    name, colon, argument = str(text).partition(":")
    if name not in _APPLIES:
        raise InvalidInput(
            f"`{str(text)[:80]}` is not a mask", advice=f"use one of: {', '.join(_APPLIES)}"
        )
    if name != BUCKET:
        if colon:
            raise InvalidInput(f"`{name}` takes no argument", advice=f"write `{name}`")
        return name, None
    if not _WIDTH.match(argument) or int(argument) > BUCKET_WIDTH_MAX:
        raise InvalidInput(
            f"`{str(text)[:80]}` has no usable width", advice="write a whole number: `x-bucket:10`"
        )
    return name, int(argument)


def applies_to(mask: str, arrow_type: str) -> bool:
    """Whether `mask` (with its argument) can mask a column of this Arrow type, given as text."""
    name, _ = parse_mask(mask)
    plain = _values_of_dictionary(arrow_type)
    return any(pattern.match(plain) for pattern in _APPLIES[name])


def is_at_least(mask: str | None, other: str | None) -> bool:
    """Whether `mask` is at least as strict as `other`."""
    return strictest((mask, other)) == mask


def strictest(masks: Iterable[str | None]) -> str | None:
    """The least mask that is at least as strict as each given one; None for none at all."""
    found: str | None = None
    for mask in masks:
        found = _join(found, mask)
    return found


def _join(a: str | None, b: str | None) -> str | None:
    if a == b or b is None:
        return a
    if a is None:
        return b
    for top in (DROP, NULL):
        if top in (a, b):
            return top
    (name_a, width_a), (name_b, width_b) = parse_mask(a), parse_mask(b)
    if width_a is not None and width_b is not None:
        width = lcm(width_a, width_b)
        return f"{BUCKET}:{width}" if width <= BUCKET_WIDTH_MAX else NULL
    for chain in _CHAINS:
        if name_a in chain and name_b in chain:
            return max(name_a, name_b, key=chain.index)
    return NULL


def _values_of_dictionary(arrow_type: str) -> str:
    found = re.match(r"dictionary<values=([^,>]+), indices=[a-z0-9]+, ordered=[01]>\Z", arrow_type)
    return found.group(1) if found else arrow_type
