"""Rules as they were read, in one block of bytes: a start reads YAML only once per bundle.

    head: {"tenant", "digest", "second_person", "count", "moving", "groups": [[key, offset, size]]}
    body: one JSON array of rules per index key, read when a request first comes near it

A cache and never an authority: whoever keeps the bytes seals them (services/compiled_rules.py),
and names `code_digest()` with them, so that rules read by another version of this code, or under
another schema, are read from YAML again. Conditions and filters travel as their text and are
compiled on the way back, once per text; nothing in here executes what it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from gateway.domain import rowfilter
from gateway.domain.access import Limits
from gateway.errors import IntegrityError, PolicyError
from gateway.policy.conditions import parse_condition
from gateway.policy.documents import Place, Scalar
from gateway.policy.filters import parse_where
from gateway.policy.rules import Rule, moves
from gateway.policy.schema import Schema

_HEAD_BYTES = 8
_LIMITS = tuple(field.name for field in fields(Limits))
_NAMES = tuple(field.name for field in fields(Rule))
_TUPLES = (
    "principals",
    "actions",
    "purposes",
    "splits",
    "columns",
    "tags",
    "accepts",
    "time_edges",
)
_PAIRS = ("masks", "tag_masks", "obligations")
_NOWHERE = Place("compiled")


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 (hex) over the code that reads and holds rules: this room and the domain."""
    here = Path(__file__).parent
    found = hashlib.sha256()
    for room in (here, here.parent / "domain"):
        for path in sorted(room.glob("*.py")):
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def schema_digest(schema: Schema) -> str:
    """SHA-256 (hex) of what attributes and obligations are declared."""
    declared = sorted(map(repr, (schema.attributes, schema.obligations)))
    return hashlib.sha256(repr(declared).encode()).hexdigest()


class CompiledRules(Sequence[Rule]):
    """The rules of one bundle in the order of its files, each group read at its first use."""

    def __init__(self, data: bytes, head: Mapping[str, Any], schema: Schema) -> None:
        """Use `unpack`."""
        self._data = data
        self._schema = schema
        self._count = int(head["count"])
        self._places = {key: (offset, size) for key, offset, size in head["groups"]}
        self._texts: dict[tuple[str, str], Any] = {}
        self._groups: dict[str, tuple[tuple[int, Rule], ...]] = {}
        self.moving = frozenset(head["moving"])

    def keys(self) -> Iterator[str]:
        """Every index key that a rule of the bundle has."""
        return iter(self._places)

    def group(self, key: str) -> tuple[Rule, ...]:
        """The rules of one key, in their order."""
        return tuple(rule for _, rule in self._group(key))

    def _group(self, key: str) -> tuple[tuple[int, Rule], ...]:
        known = self._groups.get(key)
        if known is None:
            offset, size = self._places[key]
            values = json.loads(self._data[offset : offset + size])
            known = tuple((place, self._rule(value)) for place, *value in values)
            self._groups[key] = known  # two threads read the same: either is right
        return known

    def _all(self) -> list[Rule]:
        placed = [pair for key in self._places for pair in self._group(key)]
        return [rule for _, rule in sorted(placed, key=lambda pair: pair[0])]

    def _rule(self, values: list[Any]) -> Rule:
        found = dict(zip(_NAMES, values, strict=True))
        for name in _TUPLES:
            found[name] = tuple(found[name])
        for name in _PAIRS:
            found[name] = tuple((key, value) for key, value in found[name])
        found["place"] = Place(*found["place"])
        found["limits"] = Limits(**dict(zip(_LIMITS, found["limits"], strict=True)))
        found["when"] = self._compiled("when", found["when"])
        found["where"] = self._compiled("where", found["where"])
        return Rule(**found)

    def _compiled(self, kind: str, text: str | None) -> Any:
        if text is None:
            return None
        known = self._texts.get((kind, text))
        if known is None:
            parse = parse_condition if kind == "when" else parse_where
            known = parse(_scalar(text), self._schema)
            self._texts[kind, text] = known
        return known

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> Rule: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Rule]: ...
    def __getitem__(self, at: int | slice) -> Rule | Sequence[Rule]:
        return self._all()[at]


def pack(tenant: str, digest: str, rules: Sequence[Rule], *, second_person: bool) -> bytes:
    """The block of bytes of a bundle's rules."""
    groups: dict[str, list[Any]] = {}
    for place, rule in enumerate(rules):
        groups.setdefault(rule.key, []).append([place, *_values(rule)])
    bodies = {key: _json(values) for key, values in groups.items()}
    offsets, at = [], 0
    for key, body in bodies.items():
        offsets.append([key, at, len(body)])
        at += len(body)
    head = _json(
        {
            "tenant": tenant,
            "digest": digest,
            "second_person": second_person,
            "count": len(rules),
            "moving": [rule.id for rule in rules if moves(rule)],
            "groups": offsets,
        }
    )
    return len(head).to_bytes(_HEAD_BYTES, "big") + head + b"".join(bodies.values())


def unpack(data: bytes, tenant: str, digest: str, schema: Schema) -> tuple[CompiledRules, bool]:
    """The rules of a block, and whether the bundle needs a second person.

    Raises:
        IntegrityError: it is no block of this bundle.
    """
    try:
        end = _HEAD_BYTES + int.from_bytes(data[:_HEAD_BYTES], "big")
        head = json.loads(data[_HEAD_BYTES:end])
        named = head["tenant"], head["digest"]
        rules = CompiledRules(data[end:], head, schema)
        is_whole = sum(size for _, _, size in head["groups"]) == len(data) - end
    except (ValueError, KeyError, TypeError) as cause:
        raise IntegrityError("compiled rules cannot be read") from cause
    if named != (tenant, digest) or not is_whole:
        raise IntegrityError("compiled rules are of another bundle")
    return rules, head["second_person"] is True


def comes_back(rules: Sequence[Rule], schema: Schema) -> bool:
    """Whether each condition and filter, as text in normal form, is read as what it was.

    That text can be longer or nested deeper than what its author wrote, beyond what may be read.
    """
    whens = {id(rule.when): rule.when for rule in rules if rule.when is not None}
    wheres = {id(rule.where): rule.where for rule in rules if rule.where is not None}
    try:
        return all(
            repr(parse_condition(_scalar(when.text()), schema)) == repr(when)
            for when in whens.values()
        ) and all(
            repr(parse_where(_scalar(rowfilter.text_of(where)), schema)) == repr(where)
            for where in wheres.values()
        )
    except PolicyError:
        return False


def _scalar(text: str) -> Scalar:
    return Scalar(text, _NOWHERE, plain=True)


def _values(rule: Rule) -> list[Any]:
    found = {name: getattr(rule, name) for name in _NAMES}
    found["place"] = list(rule.place)
    found["limits"] = [getattr(rule.limits, name) for name in _LIMITS]
    found["when"] = None if rule.when is None else rule.when.text()
    found["where"] = None if rule.where is None else rowfilter.text_of(rule.where)
    return list(found.values())


def _json(value: Any) -> bytes:
    """By the standard library, whose integers have no end: `max_bytes` may be beyond 64 bits."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")
