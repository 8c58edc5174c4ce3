"""What an issuer vouches for besides who somebody is: claims of its tokens as attributes.

The operator's table says which claim becomes which declared attribute (policies/schema.yaml);
a token names none itself. Only attributes of the recipient's authority, or the requester's,
can come from an issuer, which speaks for the recipient's tenant alone; those of `attestation`
where the operator wrote that the issuer attests. What a token does not say, or says in another
type or unclean, is UNKNOWN. Form: docs/operate/identity-providers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.access import Scalar
from gateway.errors import InvalidInput
from gateway.policy.schema import Schema, default_schema

ISSUER = "workload.issuer"  # set for every foreign token, by the gateway itself
_ROOTS = ("subject.", "workload.")
_AUTHORITIES = frozenset({"recipient", "requester"})
_MEMBERS = frozenset({"claim", "contains", "values", "value"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the value of one attribute comes from."""

    attribute: str  # `subject.region`
    path: tuple[str, ...] = ()  # of the claim; empty: `constant`
    constant: Scalar | None = None
    contains: str | None = None  # the claim is a list: whether this is in it
    values: Mapping[str, Scalar] | None = None  # text of the claim -> value

    def found(self, claims: Mapping[str, Any], schema: Schema) -> Scalar | None:
        """The value; None where the claims say nothing that can be used."""
        raw = self._raw(claims)
        if schema.value(self.attribute, raw) is None or isinstance(raw, float):
            return None  # a float has no place among an event's details
        value: Scalar = raw
        return value

    def _raw(self, claims: Mapping[str, Any]) -> Any:
        if not self.path:
            return self.constant
        value: Any = claims
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if self.contains is not None:
            return self.contains in value if isinstance(value, list) else None
        if self.values is not None:
            return self.values.get(value) if isinstance(value, str) else None
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMap:
    """The attributes of one issuer's tokens."""

    issuer: str
    sources: tuple[Source, ...] = ()
    schema: Schema = field(default_factory=default_schema)

    @classmethod
    def read(cls, issuer: str, table: Any, *, attests: bool) -> ClaimMap:
        """The table `attributes` of a row; InvalidInput when it is not as documented."""
        schema = default_schema()
        if not isinstance(table, Mapping):
            raise InvalidInput("`attributes` is a table")
        allowed = _AUTHORITIES | ({"attestation"} if attests else set())
        sources = tuple(_source(name, said, schema, allowed) for name, said in table.items())
        return cls(issuer=issuer, sources=sources, schema=schema)

    def attributes_of(self, claims: Mapping[str, Any]) -> dict[str, Scalar]:
        """As `Subject.attributes` has them: without `subject.`, with `workload.`."""
        found: dict[str, Scalar] = {ISSUER: self.issuer}
        for source in self.sources:
            value = source.found(claims, self.schema)
            if value is not None:
                found[source.attribute.removeprefix("subject.")] = value
        return found


def _source(name: str, said: Any, schema: Schema, allowed: frozenset[str] | set[str]) -> Source:
    declared = schema.attributes.get(name)
    if declared is None or not name.startswith(_ROOTS):
        raise InvalidInput(f"`{name}` is no attribute of a subject or a workload")
    if declared.authority not in allowed:
        raise InvalidInput(
            f"`{name}` is vouched for by the {declared.authority}, not by this issuer"
        )
    if not isinstance(said, Mapping):
        said = {"claim": said}
    if set(said) - _MEMBERS or ("claim" in said) == ("value" in said):
        raise InvalidInput(f"`{name}` has a `claim` or a `value`")
    source = _made(name, said)
    literals: list[Any] = [*(source.values or {}).values()]
    literals += [source.constant] if not source.path else []
    literals += [True] if source.contains is not None else []
    if any(schema.value(name, literal) is None for literal in literals):
        raise InvalidInput(f"`{name}` cannot have such a value")
    return source


def _made(name: str, said: Mapping[str, Any]) -> Source:
    contains, values = said.get("contains"), said.get("values")
    if "value" in said:
        if len(said) > 1:
            raise InvalidInput(f"`{name}` has a `value` and nothing else")
        return Source(attribute=name, constant=said["value"])
    if not isinstance(contains, str | None) or not isinstance(values, Mapping | None):
        raise InvalidInput(f"`{name}`: `contains` is text, `values` a table")
    if contains is not None and values is not None:
        raise InvalidInput(f"`{name}` has `contains` or `values`, not both")
    return Source(attribute=name, path=_path(name, said["claim"]), contains=contains, values=values)


def _path(name: str, said: Any) -> tuple[str, ...]:
    names = said if isinstance(said, list) else [said]
    if not names or not all(isinstance(each, str) and each for each in names):
        raise InvalidInput(f"the claim of `{name}` is text, or a list of the names that lead to it")
    return tuple(names)
