"""Row filters: a closed, typed tree that says which rows of a dataset may be seen.

Not text and not code: `policy` parses `where` into this tree, `shards` compiles it to Arrow,
and both agree on the meaning given here. Nodes are nested tuples, hence canonical JSON:

    ("and", a, b, …)  ("or", a, b, …)  ("not", a)
    ("cmp", op, column, literal)         op: == != < <= > >=
    ("in", column, (literal, …))         () is false
    ("null", column)

    literal: ("str", text) ("int", n) ("dec", text) ("float", text) ("bool", b) ("ts", iso)
             ("bind", "subject.region")  until `bind` put the subject's value there

Meaning: SQL's three-valued logic; a row passes only when the tree is TRUE. A comparison with
NULL or NaN is not TRUE and its negation is not TRUE either. Strings compare by code points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gateway.domain.dataset import Column
from gateway.errors import InvalidInput

Filter = tuple[Any, ...]
Literal = tuple[Any, ...]

OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
NODES_MAX = 200
DEPTH_MAX = 32
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_TYPES: tuple[tuple[re.Pattern[str], frozenset[str], bool], ...] = (
    # Arrow type as text, literals it compares with, whether it is ordered
    (re.compile(r"(?:large_)?string(?:_view)?\Z"), frozenset({"str"}), True),
    (re.compile(r"u?int(?:8|16|32|64)\Z"), frozenset({"int"}), True),
    (re.compile(r"(?:halffloat|float|double)\Z"), frozenset({"int", "dec", "float"}), True),
    (re.compile(r"decimal[0-9]{2,3}\([0-9]+, -?[0-9]+\)\Z"), frozenset({"int", "dec"}), True),
    (re.compile(r"bool\Z"), frozenset({"bool"}), False),
    (re.compile(r"date(?:32\[day\]|64\[ms\])\Z"), frozenset({"date"}), True),
    (re.compile(r"timestamp\[(?:s|ms|us|ns), tz=[^\]]+\]\Z"), frozenset({"moment"}), True),
    (re.compile(r"timestamp\[(?:s|ms|us|ns)\]\Z"), frozenset({"local"}), True),
)  # fmt: skip
_DICTIONARY = re.compile(r"dictionary<values=([^,>]+), indices=[a-z0-9]+, ordered=[01]>\Z")
_LITERALS: dict[str, type] = {
    "str": str, "int": int, "dec": str, "float": str, "bool": bool, "ts": str, "bind": str,
}  # fmt: skip
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:e[+-]?[0-9]{1,3})?\Z")


def check_shape(tree: Any, *, depth: int = 0) -> int:
    """Return how many nodes `tree` has; raises InvalidInput for anything but a filter."""
    if depth > DEPTH_MAX:
        raise InvalidInput("the row filter is nested too deeply")
    kind = tree[0] if isinstance(tree, tuple) and tree else None
    if kind in ("and", "or") and len(tree) > 1:
        nodes = 1 + sum(check_shape(part, depth=depth + 1) for part in tree[1:])
    elif kind == "not" and len(tree) == 2:  # noqa: PLR2004 - the shape of the node
        nodes = 1 + check_shape(tree[1], depth=depth + 1)
    else:
        nodes = 1 + len(_leaf(tree))
    if nodes > NODES_MAX:
        raise InvalidInput(f"the row filter has more than {NODES_MAX} nodes")
    return nodes


def columns_of(tree: Filter) -> tuple[str, ...]:
    """Names of the columns it reads, sorted."""
    return tuple(sorted({column for column, _, _ in _leaves(tree)}))


def binds_of(tree: Filter) -> tuple[str, ...]:
    """Names of the attributes still to be bound, sorted."""
    names = {
        str(literal[1])
        for _, _, literals in _leaves(tree)
        for literal in literals
        if literal[0] == "bind"
    }
    return tuple(sorted(names))


def bind(tree: Filter, attributes: Mapping[str, Any]) -> Filter:
    """Put values in place of `("bind", name)`; a name without a value raises InvalidInput."""
    kind = tree[0]
    if kind in ("and", "or", "not"):
        return (kind, *(bind(part, attributes) for part in tree[1:]))
    if kind == "cmp":
        return (*tree[:3], _bound(tree[3], attributes))
    if kind == "in":
        return (*tree[:2], tuple(_bound(literal, attributes) for literal in tree[2]))
    return tree


def literal_of(value: Any) -> Literal:
    """The literal for a plain value (text, integer, finite float, boolean, aware datetime)."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int) and INT_MIN <= value <= INT_MAX:
        return ("int", value)
    if isinstance(value, float) and value == value and abs(value) != float("inf"):  # noqa: PLR0124
        return ("float", repr(value))
    if isinstance(value, Decimal) and value.is_finite():
        return ("dec", format(value, "f"))
    if isinstance(value, datetime) and value.tzinfo is not None:
        return ("ts", value.astimezone(UTC).isoformat())
    if isinstance(value, str):
        return ("str", value)
    raise InvalidInput("an attribute has a value that no row filter can compare with")


def check_types(tree: Filter, columns: Iterable[Column]) -> None:
    """Refuse a filter that names no such column or compares it with another type.

    Raises:
        InvalidInput: with the column's name, never with a value.
    """
    types = {column.name: column.type for column in columns}
    for column, operator, literals in _leaves(tree):
        if column not in types:
            raise InvalidInput(f"the row filter reads `{column[:80]}`, which is no column")
        if operator == "null":
            continue
        accepted, ordered = _comparable(column, types[column])
        if any(_kind(literal) not in accepted for literal in literals):
            raise InvalidInput(f"the row filter compares `{column[:80]}` with another type")
        if operator not in ("==", "!=", "in") and not ordered:
            raise InvalidInput(f"`{column[:80]}` has no order to compare by")


def normal_form(tree: Filter) -> Filter:
    """One tree per meaning, as far as flattening, sorting and duplicates go."""
    kind = tree[0]
    if kind == "in":
        return ("in", tree[1], tuple(sorted(set(tree[2]), key=_order)))
    if kind == "not":
        inner = normal_form(tree[1])
        return tuple(inner[1]) if inner[0] == "not" else ("not", inner)
    if kind not in ("and", "or"):
        return tree
    parts: list[Filter] = []
    for part in map(normal_form, tree[1:]):
        parts.extend(part[1:] if part[0] == kind else (part,))
    unique = sorted(set(parts), key=_order)
    return unique[0] if len(unique) == 1 else (kind, *unique)


def conjunction(trees: Iterable[Filter]) -> Filter | None:
    """Rows that pass every tree; None (every row) for none."""
    parts = tuple(trees)
    return normal_form(("and", *parts)) if parts else None


def text_of(tree: Filter) -> str:
    """The filter as its author could have written it in `where`."""
    kind = tree[0]
    if kind in ("and", "or"):
        return f" {kind} ".join(_wrapped(part) for part in tree[1:])
    if kind == "not":
        return f"not {_wrapped(tree[1])}"
    name = str(tree[2] if kind == "cmp" else tree[1])
    column = '"' + name.replace('"', '""') + '"'
    if kind == "null":
        return f"{column} is null"
    if kind == "in":
        return f"{column} in ({', '.join(_literal_text(literal) for literal in tree[2])})"
    return f"{column} {tree[1]} {_literal_text(tree[3])}"


def _wrapped(tree: Filter) -> str:
    return f"({text_of(tree)})" if tree[0] in ("and", "or", "not") else text_of(tree)


def _literal_text(literal: Literal) -> str:
    kind, value = literal
    if kind == "str":
        return "'" + str(value).replace("'", "''") + "'"
    if kind == "ts":
        return f"{'date' if len(value) == len('2026-01-01') else 'timestamp'} '{value}'"
    if kind == "bind":
        return f":{value}"
    return ("true" if value else "false") if kind == "bool" else str(value)


def _leaf(tree: Any) -> tuple[Literal, ...]:
    """The literals of a leaf; raises InvalidInput when it is none."""
    literals: tuple[Any, ...]
    match tree:
        case ("cmp", op, str(), tuple() as literal) if op in OPERATORS:
            literals = (literal,)
        case ("in", str(), tuple() as several):
            literals = several
        case ("null", str()):
            literals = ()
        case _:
            raise InvalidInput("this is not a row filter")
    for literal in literals:
        if not isinstance(literal, tuple) or len(literal) != 2:  # noqa: PLR2004 - kind and value
            raise InvalidInput("this is not a literal of a row filter")
        wanted = _LITERALS.get(literal[0]) if isinstance(literal[0], str) else None
        if wanted is None or type(literal[1]) is not wanted:
            raise InvalidInput("this is not a literal of a row filter")
        if literal[0] in ("dec", "float") and not _NUMBER.match(str(literal[1])):
            raise InvalidInput("this is not a number of a row filter")
    return literals


def _leaves(tree: Filter) -> list[tuple[str, str, tuple[Literal, ...]]]:
    """(column, operator, literals) of every leaf."""
    if tree[0] in ("and", "or", "not"):
        return [leaf for part in tree[1:] for leaf in _leaves(part)]
    literals = _leaf(tree)
    if tree[0] == "cmp":
        return [(tree[2], tree[1], literals)]
    return [(tree[1], tree[0], literals)]


def _bound(literal: Literal, attributes: Mapping[str, Any]) -> Literal:
    if literal[0] != "bind":
        return literal
    value = attributes.get(literal[1])
    if value is None:
        raise InvalidInput(f"the row filter needs `{literal[1]}`, which is not known")
    return literal_of(value)


def _kind(literal: Literal) -> str:
    if literal[0] == "bind":
        raise InvalidInput(f"the row filter still waits for `{literal[1]}`")
    if literal[0] != "ts":
        return str(literal[0])
    try:
        moment = datetime.fromisoformat(literal[1])
    except ValueError as cause:
        raise InvalidInput("the row filter compares with what is no time") from cause
    if len(literal[1]) == len("2026-01-01"):
        return "date"
    return "moment" if moment.tzinfo else "local"


def _comparable(column: str, arrow_type: str) -> tuple[frozenset[str], bool]:
    found = _DICTIONARY.match(arrow_type)
    plain = found.group(1) if found else arrow_type
    for pattern, literals, ordered in _TYPES:
        if pattern.match(plain):
            return literals, ordered
    raise InvalidInput(f"`{column[:80]}` has a type that row filters cannot read")


def _order(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
