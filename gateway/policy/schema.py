"""The attributes that rules may read, with types and authority, and the known obligations.

Read from `policies/schema.yaml`. An attribute that is not declared cannot be named by a rule;
a value of another type, or text that is not clean (NFC, no blanks at its ends, nothing
invisible), is UNKNOWN, which never allows and always counts for a deny.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping as Values
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import Any

from gateway.domain.obligations import ENFORCED, TRACKED
from gateway.domain.purpose import PURPOSES
from gateway.policy.documents import Fields, Node, Place, read_document
from gateway.policy.version import check_format

SCHEMA = "gateway-policy-schema"
TYPES = ("string", "int", "decimal", "bool", "timestamp")
AUTHORITIES = ("gateway", "owner", "recipient", "attestation", "requester")
LEVELS = ("enforced", "tracked", "declared")
PURPOSE = "purpose"
PERIOD = "period"  # ISO 8601: `P30D`
_ATTRIBUTE = re.compile(r"(?:subject|workload|resource|context)\.[a-z][a-z0-9_]{0,62}\Z")
_OBLIGATION = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
TEXT_CHARS_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One declared attribute; `authority` is who vouches for its values."""

    name: str
    type: str
    authority: str
    values: tuple[str, ...] = ()  # of a closed list of texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """One declared obligation: `level` says what the gateway does about it."""

    name: str
    type: str
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What rules may speak about."""

    attributes: Values[str, Attribute] = field(default_factory=dict)
    obligations: Values[str, Obligation] = field(default_factory=dict)

    def value(self, name: str, raw: Any) -> Any:
        """`raw` as the declared type, or None (UNKNOWN) when it is not of that type."""
        attribute = self.attributes.get(name)
        if attribute is None or raw is None:
            return None
        value = _typed(attribute.type, raw)
        if attribute.values and value not in attribute.values:
            return None
        return value


def read_schema(text: str, file: str = "policies/schema.yaml") -> Schema:
    """Read a schema; raises PolicyError with its place."""
    top = Fields(read_document(text, file), "a schema")
    check_format(top, SCHEMA)
    attributes = {
        PURPOSE: Attribute(
            name=PURPOSE, type="string", authority="requester", values=tuple(PURPOSES)
        )
    }
    for name, place, node in top.pairs("attributes"):
        attributes[name] = _attribute(name, place, node)
    obligations = {
        name: _obligation(name, place, node) for name, place, node in top.pairs("obligations")
    }
    top.finish()
    return Schema(attributes=attributes, obligations=obligations)


@cache
def default_schema() -> Schema:
    """The schema that ships with the gateway."""
    return read_schema(files("policies").joinpath("schema.yaml").read_text("utf-8"))


def _attribute(name: str, place: Place, node: Node) -> Attribute:
    if not _ATTRIBUTE.match(name):
        raise place.refuse(
            f"`{name[:80]}` cannot name an attribute",
            "use `subject.`, `workload.`, `resource.` or `context.` and lower-case words",
        )
    own = Fields(node, "an attribute")
    kind = own.one_of("type", TYPES, "string")
    authority = own.one_of("authority", AUTHORITIES, "requester")
    values = tuple(scalar.text for scalar in own.scalars("values"))
    own.text("description")
    own.finish()
    return Attribute(name=name, type=kind, authority=authority, values=values)


def _obligation(name: str, place: Place, node: Node) -> Obligation:
    if not _OBLIGATION.match(name):
        raise place.refuse(f"`{name[:80]}` cannot name an obligation")
    own = Fields(node, "an obligation")
    kind = own.one_of("type", ("string", "int", "bool", PERIOD), "bool")
    level = own.one_of("level", LEVELS, "declared")
    really = {"enforced": name in ENFORCED, "tracked": name in TRACKED and kind == PERIOD}
    if not really.get(level, True):
        raise place.refuse(
            f"`{name[:80]}` is not {level} by this gateway",
            f"tracked, as a {PERIOD}: {', '.join(TRACKED)}; enforced: {', '.join(ENFORCED)}",
        )
    own.text("description")
    own.finish()
    return Obligation(name=name, type=kind, level=level)


def _typed(kind: str, raw: Any) -> Any:
    if kind == "string":
        return raw if isinstance(raw, str) and is_clean(raw) else None
    if kind == "bool":
        return raw if isinstance(raw, bool) else None
    if kind == "int":
        return raw if type(raw) is int and -(2**63) <= raw < 2**63 else None
    if kind == "decimal":
        return _decimal(raw)
    return moment(raw)


def _decimal(raw: Any) -> Decimal | None:
    if type(raw) is int and -(2**63) <= raw < 2**63:
        return Decimal(raw)
    return Decimal(repr(raw)) if type(raw) is float and isfinite(raw) else None


def moment(raw: Any) -> datetime | None:
    """An aware datetime from ISO 8601 text with a zone, or None."""
    if not isinstance(raw, str):
        return None
    try:
        found = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None


def is_clean(text: str) -> bool:
    """Whether text can be compared safely: NFC, trimmed, bounded, nothing invisible."""
    return (
        len(text) <= TEXT_CHARS_MAX
        and (text.isascii() or unicodedata.normalize("NFC", text) == text)
        and text == text.strip()
        and text.isprintable()  # Unicode: none of Other and Separator but the ASCII space
    )
