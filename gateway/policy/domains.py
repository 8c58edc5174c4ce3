"""Small sets of values that tell apart everything a set of conditions can tell apart.

A condition compares attributes with literals and with each other, so its truth changes only at
its literals: values on, between and beyond them, as many as there are attributes, are enough to
try it exhaustively. Used to find conditions that never or always hold, and counterexamples
between two bundles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, product
from typing import Any

from gateway.policy.conditions import Compare, Has, Node, OneOf
from gateway.policy.schema import PURPOSE, Schema

COMBINATIONS_MAX = 20_000


class Assigned:
    """Facts that are what they were set to."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Typed values by attribute; what is missing is UNKNOWN."""
        self._values = values

    def value(self, name: str) -> Any:
        """The value, or None."""
        return self._values.get(name)


def literals(nodes: Iterable[Node]) -> Iterator[tuple[str, Any]]:
    """Every (attribute, literal) of the conditions."""
    for node in nodes:
        if isinstance(node, Compare) and node.other is None:
            yield node.name, node.literal
        elif isinstance(node, OneOf):
            yield from ((node.name, literal) for literal in node.literals)
        yield from literals(node.parts())


def domains(
    nodes: Sequence[Node], schema: Schema, also: Iterable[str] = ()
) -> dict[str, tuple[Any, ...]]:
    """The typed values worth trying for every attribute that is read; None stands for absent.

    `also` are attributes that something else reads.
    """
    names = sorted(frozenset(also).union(*(node.reads() for node in nodes)))
    found: dict[str, set[Any]] = {}
    for name, literal in literals(nodes):
        found.setdefault(_family(schema.attributes[name].type), set()).add(literal)
    kinds = [_family(schema.attributes[name].type) for name in names]
    absent = dict.fromkeys(_asked_for(nodes), (None,))
    return {
        name: _values(schema, name, found.get(kind, set()), kinds.count(kind))
        + absent.get(name, ())
        for name, kind in zip(names, kinds, strict=True)
    }


def _asked_for(nodes: Iterable[Node]) -> Iterator[str]:
    """Attributes of which a condition asks whether they are there."""
    for node in nodes:
        if isinstance(node, Has):
            yield node.name
        yield from _asked_for(node.parts())


def assignments(nodes: Sequence[Node], schema: Schema) -> Iterator[Assigned] | None:
    """Every combination worth trying; None when they are too many."""
    tried = domains(nodes, schema)
    if math.prod(map(len, tried.values())) > COMBINATIONS_MAX:
        return None
    return (Assigned(dict(zip(tried, each, strict=True))) for each in product(*tried.values()))


def raw(value: Any) -> Any:
    """A typed value as a request carries it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _family(kind: str) -> str:
    return "number" if kind in ("int", "decimal") else kind


def _values(schema: Schema, name: str, known: set[Any], attributes: int) -> tuple[Any, ...]:
    attribute = schema.attributes[name]
    if name == PURPOSE or attribute.values:
        return attribute.values
    if attribute.type == "bool":
        return (False, True)
    if attribute.type == "string":
        return (*sorted(known), *(f"other-{n}" for n in range(1, attributes + 1)))
    if attribute.type == "int":
        steps = range(-attributes, attributes + 1)
        return tuple(sorted({math.floor(edge) + n for edge in known or {0} for n in steps}))
    if attribute.type == "decimal":
        points = sorted({Decimal(edge) for edge in known or {0}})
        return tuple(_line(points, attributes, Decimal(1)))
    edges = known or {datetime(2026, 1, 1, tzinfo=UTC)}
    return tuple(_line(sorted(edges), attributes, timedelta(days=1)))


def _line(edges: list[Any], between: int, step: Any) -> Iterator[Any]:
    """The edges, `between` points inside each gap, and as many beyond both ends."""
    yield from (edges[0] - step * n for n in range(between, 0, -1))
    for left, right in pairwise(edges):
        yield left
        yield from (left + (right - left) * n / (between + 1) for n in range(1, between + 1))
    yield edges[-1]
    yield from (edges[-1] + step * n for n in range(1, between + 1))
