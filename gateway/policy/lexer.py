"""Tokens of conditions and row filters, ASCII outside of quotes, each with its offset."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import PolicyError
from gateway.policy.documents import Scalar

EXPRESSION_CHARS_MAX = 2_000
STRING_CHARS_MAX = 256
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<time>(?:timestamp|date)[ ]*'[0-9T:.+Z -]{1,40}')
    | (?P<bind>:[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
    | (?P<number>-?[0-9]{1,40}(?:\.[0-9]{1,40})?)(?![\w.])
    | (?P<string>'(?:[^'\n]|'')*')
    | (?P<quoted>"(?:[^"\n]|"")*")
    | (?P<op>==|!=|<>|<=|>=|=|<|>|\(|\)|,)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind` is a group of the grammar or `end`."""

    kind: str
    text: str
    offset: int


class Reader:
    """A cursor over the tokens of one scalar."""

    def __init__(self, scalar: Scalar, what: str) -> None:
        """Split the text; `what` names it in messages, as in `a condition`."""
        self._scalar = scalar
        self._what = what
        if len(scalar.text) > EXPRESSION_CHARS_MAX:
            raise self.refuse(0, f"{what} is longer than {EXPRESSION_CHARS_MAX} characters")
        self._tokens = self._split(scalar.text)
        self._at = 0

    @property
    def token(self) -> Token:
        """The token under the cursor."""
        return self._tokens[self._at]

    def take(self, *kinds: str) -> Token | None:
        """Step over the token if it is of one of these kinds."""
        token = self.token
        if token.kind not in kinds:
            return None
        self._at += 1
        return token

    def word(self, *words: str) -> str | None:
        """Step over one of these words or signs."""
        token = self.token
        if token.kind not in ("name", "op") or token.text not in words:
            return None
        self._at += 1
        return token.text

    def expect(self, sign: str) -> None:
        """Step over `sign` or refuse."""
        if self.word(sign) is None:
            raise self.unexpected(f"`{sign}`")

    def unexpected(self, wanted: str) -> PolicyError:
        """The error for the token under the cursor."""
        token = self.token
        found = "the end" if token.kind == "end" else f"`{token.text[:80]}`"
        return self.refuse(token.offset, f"{self._what} has {found} where {wanted} is expected")

    def refuse(self, offset: int, message: str, advice: str | None = None) -> PolicyError:
        """An error at this offset of the text."""
        return self._scalar.at(offset).refuse(
            message, advice or "see the grammar in docs/formats/policy-v1.md"
        )

    def string(self, token: Token) -> str:
        """The value of a quoted token."""
        quote = token.text[0]
        value = token.text[1:-1].replace(quote * 2, quote)
        if len(value) > STRING_CHARS_MAX:
            raise self.refuse(token.offset, f"a text is longer than {STRING_CHARS_MAX} characters")
        return value

    def _split(self, text: str) -> list[Token]:
        tokens: list[Token] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise self.refuse(at, f"`{text[at]}` cannot stand in {self._what}")
            if found.lastgroup != "space":
                tokens.append(Token(found.lastgroup, found.group(), at))
            at = found.end()
        return [*tokens, Token("end", "", len(text))]
