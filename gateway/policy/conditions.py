"""Conditions (`when`): a closed, typed grammar, compiled once, judged in three values.

TRUE, FALSE and UNKNOWN (None) come strictly from left to right: `and` stops at the first that
is not TRUE, `or` at the first that is not FALSE, so an UNKNOWN on the way poisons the whole.
A missing attribute, another type, NaN or unclean text is UNKNOWN. No calls, no arithmetic, no
patterns, no text is ever evaluated by Python. Grammar: docs/formats/policy-v1.md §3.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from gateway.domain.purpose import PURPOSES, is_within
from gateway.policy.documents import Scalar
from gateway.policy.lexer import Reader, Token
from gateway.policy.schema import PURPOSE, Attribute, Schema, is_clean

NODES_MAX = 200
DEPTH_MAX = 32
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_FAMILY = {"int": "number", "decimal": "number"}
_WORDS = ("and", "or", "not", "in", "has", "within", "true", "false")
Truth = bool | None


class Facts(Protocol):
    """Where a condition finds the values of one request."""

    def value(self, name: str) -> Any:
        """The typed value of a declared attribute, or None for UNKNOWN."""
        ...


class Node(Protocol):
    """A part of a compiled condition."""

    def judge(self, facts: Facts) -> Truth:
        """TRUE, FALSE or UNKNOWN (None)."""
        ...

    def text(self) -> str:
        """The part as written, in normal form."""
        ...

    def parts(self) -> tuple[Node, ...]:
        """What it is made of; () for a leaf."""
        ...

    def reads(self) -> frozenset[str]:
        """Names of the attributes it reads."""
        ...


@dataclass(frozen=True, slots=True)
class Both:
    """`and` (stop_at True means: go on while TRUE) and `or`."""

    word: str
    members: tuple[Node, ...]

    def judge(self, facts: Facts) -> Truth:
        """Go on while the value is the neutral one of the word."""
        neutral = self.word == "and"
        for member in self.members:
            truth = member.judge(facts)
            if truth is not neutral:
                return truth
        return neutral

    def text(self) -> str:
        """Members joined by the word."""
        return f" {self.word} ".join(_wrapped(member) for member in self.members)

    def parts(self) -> tuple[Node, ...]:
        """The members."""
        return self.members

    def reads(self) -> frozenset[str]:
        """Of all members."""
        return frozenset().union(*(member.reads() for member in self.members))


@dataclass(frozen=True, slots=True)
class Not:
    """`not`."""

    member: Node

    def judge(self, facts: Facts) -> Truth:
        """UNKNOWN stays UNKNOWN."""
        truth = self.member.judge(facts)
        return None if truth is None else not truth

    def text(self) -> str:
        """With the word in front."""
        return f"not {_wrapped(self.member)}"

    def parts(self) -> tuple[Node, ...]:
        """The member."""
        return (self.member,)

    def reads(self) -> frozenset[str]:
        """Of the member."""
        return self.member.reads()


@dataclass(frozen=True, slots=True)
class Compare:
    """An attribute against a literal or another attribute of the same family."""

    name: str
    sign: str
    literal: Any  # None: compare with `other`
    other: str | None
    shown: str

    def judge(self, facts: Facts) -> Truth:
        """UNKNOWN when either side is."""
        left = facts.value(self.name)
        right = self.literal if self.other is None else facts.value(self.other)
        if left is None or right is None:
            return None
        return _COMPARE[self.sign](left, right)

    def text(self) -> str:
        """As written."""
        return f"{self.name} {self.sign} {self.shown}"

    def parts(self) -> tuple[Node, ...]:
        """A leaf."""
        return ()

    def reads(self) -> frozenset[str]:
        """One or two attributes."""
        return frozenset({self.name} if self.other is None else {self.name, self.other})


@dataclass(frozen=True, slots=True)
class OneOf:
    """`in` a list of literals, or `within` a purpose."""

    name: str
    word: str  # `in` | `within`
    literals: tuple[Any, ...]
    shown: str

    def judge(self, facts: Facts) -> Truth:
        """UNKNOWN when the attribute is."""
        value = facts.value(self.name)
        if value is None:
            return None
        if self.word == "within":
            return any(is_within(value, allowed) for allowed in self.literals)
        return value in self.literals

    def text(self) -> str:
        """As written."""
        return f"{self.name} {self.word} {self.shown}"

    def parts(self) -> tuple[Node, ...]:
        """A leaf."""
        return ()

    def reads(self) -> frozenset[str]:
        """One attribute."""
        return frozenset({self.name})


@dataclass(frozen=True, slots=True)
class Has:
    """Whether an attribute has a usable value; never UNKNOWN."""

    name: str

    def judge(self, facts: Facts) -> Truth:
        """TRUE or FALSE."""
        return facts.value(self.name) is not None

    def text(self) -> str:
        """As written."""
        return f"has {self.name}"

    def parts(self) -> tuple[Node, ...]:
        """A leaf."""
        return ()

    def reads(self) -> frozenset[str]:
        """One attribute."""
        return frozenset({self.name})


@dataclass(frozen=True, slots=True)
class Always:
    """`true` or `false`."""

    truth: bool

    def judge(self, facts: Facts) -> Truth:
        """What it says."""
        del facts
        return self.truth

    def text(self) -> str:
        """The word."""
        return "true" if self.truth else "false"

    def parts(self) -> tuple[Node, ...]:
        """A leaf."""
        return ()

    def reads(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()


def parse_condition(scalar: Scalar, schema: Schema) -> Node:
    """Parse and type-check a condition; raises PolicyError with its place."""
    return _Condition(scalar, schema).parse()


def _wrapped(node: Node) -> str:
    return f"({node.text()})" if isinstance(node, Both) else node.text()


class _Condition:
    def __init__(self, scalar: Scalar, schema: Schema) -> None:
        self._schema = schema
        self._reader = Reader(scalar, "a condition")
        self._nodes = 0

    def parse(self) -> Node:
        node = self._either("or", 0)
        if self._reader.token.kind != "end":
            raise self._reader.unexpected("`and`, `or` or the end")
        return node

    def _either(self, word: str, depth: int) -> Node:
        """`or` of `and`s, `and` of `not`s."""
        parts = [self._below(word, depth)]
        while self._reader.word(word):
            parts.append(self._below(word, depth))
        return parts[0] if len(parts) == 1 else Both(word, tuple(parts))

    def _below(self, word: str, depth: int) -> Node:
        return self._either("and", depth) if word == "or" else self._not(depth)

    def _not(self, depth: int) -> Node:
        self._nodes += 1
        if depth >= DEPTH_MAX or self._nodes > NODES_MAX:
            raise self._reader.unexpected(f"at most {DEPTH_MAX} levels and {NODES_MAX} parts")
        if self._reader.word("not"):
            return Not(self._not(depth + 1))
        if self._reader.word("("):
            inner = self._either("or", depth + 1)
            self._reader.expect(")")
            return inner
        found = self._reader.word("true", "false")
        if found:
            return Always(found == "true")
        if self._reader.word("has"):
            return Has(self._attribute().name)
        return self._leaf(self._attribute())

    def _leaf(self, attribute: Attribute) -> Node:
        if self._reader.word("within"):
            return self._within(attribute)
        negated = self._reader.word("not") is not None
        if self._reader.word("in"):
            found = OneOf(attribute.name, "in", *self._list(attribute))
            return Not(found) if negated else found
        sign = None if negated else self._reader.word(*_COMPARE)
        if sign is None:
            raise self._reader.unexpected("`in`" if negated else "a comparison")
        if sign not in ("==", "!=") and attribute.type in ("string", "bool"):
            raise self._reader.unexpected(f"`==`, `!=` or `in` after a {attribute.type}")
        token = self._reader.token
        if token.kind == "name" and token.text not in ("true", "false"):
            other = self._attribute()
            if _family(other) != _family(attribute):
                raise self._reader.refuse(
                    token.offset, f"`{other.name}` is of another type than `{attribute.name}`"
                )
            return Compare(attribute.name, sign, None, other.name, other.name)
        return Compare(attribute.name, sign, self._literal(attribute), None, token.text)

    def _within(self, attribute: Attribute) -> Node:
        token = self._reader.token
        if attribute.name != PURPOSE or token.kind != "string":
            raise self._reader.unexpected("`purpose within 'a purpose'`")
        value = self._literal(attribute)
        return OneOf(PURPOSE, "within", (value,), token.text)

    def _list(self, attribute: Attribute) -> tuple[tuple[Any, ...], str]:
        self._reader.expect("(")
        values: list[Any] = []
        shown: list[str] = []
        while True:
            shown.append(self._reader.token.text)
            values.append(self._literal(attribute))
            if self._reader.word(")"):
                return tuple(values), f"({', '.join(shown)})"
            self._reader.expect(",")

    def _attribute(self) -> Attribute:
        token = self._reader.token
        if token.kind != "name" or token.text in _WORDS:
            raise self._reader.unexpected("an attribute")
        found = self._schema.attributes.get(token.text)
        if found is None:
            raise self._reader.refuse(
                token.offset,
                f"`{token.text[:80]}` is no declared attribute",
                f"known: {', '.join(sorted(self._schema.attributes))}",
            )
        self._reader.take("name")
        return found

    def _literal(self, attribute: Attribute) -> Any:
        token = self._reader.token
        self._nodes += 1
        value = self._value(token)
        wanted = {"decimal": (int, Decimal), "int": (int, Decimal), "string": (str,),
                  "bool": (bool,), "timestamp": (datetime,)}[attribute.type]  # fmt: skip
        if type(value) not in wanted:
            raise self._reader.unexpected(f"a value of type {attribute.type}")
        if attribute.values and value not in attribute.values:
            known = PURPOSES if attribute.name == PURPOSE else attribute.values
            raise self._reader.refuse(
                token.offset,
                f"`{attribute.name}` is never {token.text[:80]}",
                f"known: {', '.join(known)}",
            )
        self._reader.take(token.kind)
        return value

    def _value(self, token: Token) -> Any:
        if token.kind == "string":
            value = self._reader.string(token)
            if not is_clean(value):
                raise self._reader.refuse(token.offset, "a text has blanks at its ends")
            return value
        if token.kind == "number":
            return Decimal(token.text) if "." in token.text else int(token.text)
        if token.kind == "name" and token.text in ("true", "false"):
            return token.text == "true"
        return self._time(token) if token.kind == "time" else None

    def _time(self, token: Token) -> datetime:
        text = token.text[token.text.index("'") + 1 : -1]
        try:
            found = datetime.fromisoformat(text)
        except ValueError as cause:
            raise self._reader.refuse(token.offset, f"`{text}` is not a time") from cause
        if token.text.startswith("date") or found.tzinfo is None:
            raise self._reader.refuse(
                token.offset, "a time has a zone", "write timestamp'2026-01-01T00:00:00Z'"
            )
        return found.astimezone(UTC)


def _family(attribute: Attribute) -> str:
    return _FAMILY.get(attribute.type, attribute.type)
