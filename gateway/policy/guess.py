"""Datasets as rules imagine them, for when the real ones are not at hand.

Types are guessed so that every mask and filter of the rules can work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from gateway.domain.access import Resource
from gateway.domain.dataset import Column, DatasetRef
from gateway.domain.masks import applies_to
from gateway.domain.rowfilter import Filter
from gateway.errors import InvalidInput
from gateway.policy.rules import Rule
from gateway.policy.schema import Schema

_TYPES = ("string", "int64", "double", "date32[day]")
_NOWHERE = "any-dataset"


def imagined(rules: Sequence[Rule], tenant: str, schema: Schema) -> tuple[Resource, ...]:
    """One resource for every dataset that the rules name, and one that they do not."""
    names = sorted({r.key.removeprefix("dataset:") for r in rules if r.key.startswith("dataset:")})
    found = [_resource(DatasetRef.parse(name), rules, schema) for name in names]
    return (*found, _resource(DatasetRef(tenant, _NOWHERE), rules, schema))


def types_for(
    columns: Iterable[str],
    masks: Iterable[tuple[str, str]],
    filters: Iterable[Filter],
    schema: Schema,
) -> dict[str, str]:
    """Columns that are named, with types under which masks and filters can work."""
    types = dict.fromkeys(columns, "string")
    for name, mask in masks:
        types[name] = _type_for(mask)
    for tree in filters:
        types.update(_filter_types(tree, schema))
    return types


def _resource(ref: DatasetRef, rules: Sequence[Rule], schema: Schema) -> Resource:
    about = [r for r in rules if r.key == f"dataset:{ref}" or not r.key.startswith("dataset:")]
    types = types_for(
        [name for rule in about for name in rule.columns],
        [pair for rule in about for pair in rule.masks],
        [rule.where for rule in about if rule.where is not None],
        schema,
    )
    masks = dict(pair for rule in about for pair in rule.tag_masks)
    tags = {tag for rule in about for tag in rule.tags} | set(masks)
    tags |= {rule.scope.removeprefix("tag:") for rule in about if rule.key.startswith("tag:")}
    columns: list[tuple[str, str, tuple[str, ...]]] = [(n, kind, ()) for n, kind in types.items()]
    columns += [
        (f"tagged {tag}", _type_for(masks[tag]) if tag in masks else "string", (tag,))
        for tag in sorted(tags)
    ]
    return Resource(
        tenant=ref.tenant,
        dataset=DatasetRef(ref.tenant, ref.name, 1),
        columns=tuple(
            Column(field_id=number, name=name, type=kind, tags=tags)
            for number, (name, kind, tags) in enumerate(columns, 1)
        ),
        splits=tuple(sorted({split for rule in about for split in rule.splits})),
    )


def _type_for(mask: str) -> str:
    return next((kind for kind in _TYPES if _applies(mask, kind)), "string")


def _applies(mask: str, kind: str) -> bool:
    try:
        return applies_to(mask, kind)
    except InvalidInput:
        return False  # reading the rule says it better


def _filter_types(tree: Filter | None, schema: Schema) -> Iterable[tuple[str, str]]:
    if tree is None:
        return
    if tree[0] in ("and", "or", "not"):
        for part in tree[1:]:
            yield from _filter_types(part, schema)
    elif tree[0] == "cmp":
        yield tree[2], _literal_type(tree[3], schema)
    elif tree[0] == "in":
        yield tree[1], _literal_type(tree[2][0], schema) if tree[2] else "string"
    else:
        yield tree[1], "string"


def _literal_type(literal: tuple[Any, ...], schema: Schema) -> str:
    kind, value = literal
    if kind == "bind":
        kind = {"string": "str", "int": "int", "decimal": "dec", "bool": "bool"}.get(
            schema.attributes[value].type, "ts"
        )
        value = "2026-01-01T00:00:00+00:00"
    if kind != "ts":
        return {"str": "string", "int": "int64", "bool": "bool"}.get(kind, "double")
    if len(value) == len("2026-01-01"):
        return "date32[day]"
    zoned = datetime.fromisoformat(value).tzinfo is not None
    return "timestamp[us, tz=UTC]" if zoned else "timestamp[us]"
