"""Parse `where`: text of a rule to the closed row-filter tree of `domain.rowfilter`.

A recursive-descent parser of our own, because it shares its tokens with conditions, refuses
with an exact column, and knows nothing that would have to be forbidden: no functions, no
subqueries, no arithmetic, no pattern matching. Grammar: docs/formats/policy-v1.md §4.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.domain.rowfilter import (
    DEPTH_MAX,
    INT_MAX,
    INT_MIN,
    Filter,
    Literal,
    check_shape,
    normal_form,
)
from gateway.errors import InvalidInput
from gateway.policy.documents import Scalar
from gateway.policy.lexer import Reader, Token
from gateway.policy.schema import Schema, is_clean

_SIGNS = {"=": "==", "==": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_WORDS = ("and", "or", "not", "in", "is", "null", "between", "true", "false")


def parse_where(scalar: Scalar, schema: Schema) -> Filter:
    """Parse a row filter; raises PolicyError with its place."""
    return _Where(scalar, schema).parse()


class _Where:
    def __init__(self, scalar: Scalar, schema: Schema) -> None:
        self._scalar = scalar
        self._schema = schema
        self._reader = Reader(scalar, "a row filter")

    def parse(self) -> Filter:
        tree = self._or(0)
        if self._reader.token.kind != "end":
            raise self._reader.unexpected("`and`, `or` or the end")
        try:
            check_shape(tree)
        except InvalidInput as cause:
            raise self._scalar.place.refuse(cause.message) from cause
        return normal_form(tree)

    def _or(self, depth: int) -> Filter:
        parts = [self._and(depth)]
        while self._word("or"):
            parts.append(self._and(depth))
        return parts[0] if len(parts) == 1 else ("or", *parts)

    def _and(self, depth: int) -> Filter:
        parts = [self._not(depth)]
        while self._word("and"):
            parts.append(self._not(depth))
        return parts[0] if len(parts) == 1 else ("and", *parts)

    def _not(self, depth: int) -> Filter:
        if depth >= DEPTH_MAX:
            raise self._reader.unexpected(f"at most {DEPTH_MAX} levels of nesting")
        if self._word("not"):
            return ("not", self._not(depth + 1))
        if self._reader.word("("):
            inner = self._or(depth + 1)
            self._reader.expect(")")
            return inner
        return self._leaf()

    def _leaf(self) -> Filter:
        column = self._column()
        if self._word("is"):
            negated = self._word("not")
            self._need("null")
            return ("not", ("null", column)) if negated else ("null", column)
        negated = self._word("not")
        if self._word("in"):
            tree: Filter = ("in", column, self._list())
        elif self._word("between"):
            low = self._literal()
            self._need("and")
            tree = ("and", ("cmp", ">=", column, low), ("cmp", "<=", column, self._literal()))
        elif negated:
            raise self._reader.unexpected("`in` or `between`")
        else:
            sign = self._reader.word(*_SIGNS)
            if sign is None:
                raise self._reader.unexpected("a comparison")
            return ("cmp", _SIGNS[sign], column, self._literal())
        return ("not", tree) if negated else tree

    def _list(self) -> tuple[Literal, ...]:
        self._reader.expect("(")
        found: list[Literal] = []
        if self._reader.word(")"):
            return ()
        while True:
            found.append(self._literal())
            if self._reader.word(")"):
                return tuple(found)
            self._reader.expect(",")

    def _column(self) -> str:
        token = self._reader.token
        if token.kind == "name" and (token.text.lower() in _WORDS or "." in token.text):
            raise self._reader.refuse(
                token.offset, f"`{token.text[:80]}` cannot name a column as it is", "use quotes"
            )
        if self._reader.take("name"):
            return token.text
        if self._reader.take("quoted"):
            return self._reader.string(token)
        raise self._reader.unexpected("a column")

    def _literal(self) -> Literal:
        token = self._reader.token
        if token.kind == "name" and token.text.lower() in ("true", "false"):
            self._reader.take("name")
            return ("bool", token.text.lower() == "true")
        if self._reader.take("string", "number", "time", "bind") is None:
            raise self._reader.unexpected("a value")
        if token.kind == "bind":
            return self._bind(token)
        if token.kind == "number":
            return self._number(token)
        return ("ts", self._time(token)) if token.kind == "time" else ("str", self._text(token))

    def _bind(self, token: Token) -> Literal:
        name = token.text[1:]
        if name not in self._schema.attributes:
            raise self._reader.refuse(
                token.offset, f"`{name[:80]}` is no declared attribute", "see policies/schema.yaml"
            )
        return ("bind", name)

    def _number(self, token: Token) -> Literal:
        if "." in token.text:
            return ("dec", token.text)
        if not INT_MIN <= int(token.text) <= INT_MAX:
            raise self._reader.refuse(token.offset, "a whole number has at most 64 bits")
        return ("int", int(token.text))

    def _text(self, token: Token) -> str:
        value = self._reader.string(token)
        if value and not is_clean(value):
            raise self._reader.refuse(token.offset, "a text has blanks at its ends")
        return value

    def _time(self, token: Token) -> str:
        text = token.text[token.text.index("'") + 1 : -1]
        try:
            found = datetime.fromisoformat(text)
        except ValueError as cause:
            raise self._reader.refuse(token.offset, f"`{text}` is not a time") from cause
        if token.text.startswith("date"):
            if len(text) != len("2026-01-01"):
                raise self._reader.refuse(token.offset, f"`{text}` is not a date")
            return found.date().isoformat()
        return (found.astimezone(UTC) if found.tzinfo else found).isoformat()

    def _word(self, wanted: str) -> bool:
        return self._reader.word(wanted, wanted.upper()) is not None

    def _need(self, wanted: str) -> None:
        if not self._word(wanted):
            raise self._reader.unexpected(f"`{wanted}`")
