"""A small reader of ISO 14977 grammars: makes sentences of one, and tells whose a sentence is.

It knows what the format pages use: `,` `|` `;` `( )` `[ ]` `{ }`, quoted words, and `? … ?` for
what a grammar leaves to prose, whose meaning a test gives as a `Token`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

_PART = re.compile(r'\s*(?:"([^"]*)"|\?([^?]*)\?|([a-z-]+)|([=,|;()\[\]{}]))')
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Token:
    """What a `? … ?` stands for: sentences of it, and whether a text is one."""

    texts: st.SearchStrategy[str]
    is_one: Callable[[str], bool]


# A kind and what it is about: `word`, `token` and `rule` a name, `all` and `any` parts, `[` and
# `{` one part.
Part = tuple[Any, ...]


@dataclass(frozen=True)
class Grammar:
    """Rules by name; the first one is a whole sentence."""

    rules: Mapping[str, Part]
    tokens: Mapping[str, Token]

    @property
    def start(self) -> Part:
        return ("rule", next(iter(self.rules)))

    def sentences(self, depth: int = 9) -> st.SearchStrategy[list[str]]:
        """Sentences as lists of words; beyond `depth` the shortest way to an end is taken."""

        @st.composite
        def draw_sentence(draw: st.DrawFn) -> list[str]:
            return list(self._made(draw, self.start, depth))

        return draw_sentence()

    def _made(self, draw: st.DrawFn, part: Part, depth: int) -> Iterator[str]:
        kind, *rest = part
        if kind == "word":
            yield rest[0]
        elif kind == "token":
            yield draw(self.tokens[rest[0]].texts)
        elif kind == "rule":
            yield from self._made(draw, self.rules[rest[0]], depth - 1)
        elif kind == "all":
            for each in rest:
                yield from self._made(draw, each, depth)
        elif kind == "any":
            chosen = draw(st.sampled_from(rest)) if depth > 0 else min(rest, key=self._height)
            yield from self._made(draw, chosen, depth)
        else:
            most = (2 if kind == "{" else 1) if depth > 0 else 0
            for _ in range(draw(st.integers(0, most))):
                yield from self._made(draw, rest[0], depth)

    def _height(self, part: Part, seen: frozenset[str] = frozenset()) -> float:
        kind, *rest = part
        if kind == "rule":
            if rest[0] in seen:
                return float("inf")
            return 1 + self._height(self.rules[rest[0]], seen | {rest[0]})
        if kind in ("all", "any"):
            pick = max if kind == "all" else min
            return pick(self._height(each, seen) for each in rest)
        return 0

    def covers(self, words: list[str]) -> bool:
        """Whether the grammar has this sentence."""
        ends = cache(lambda part, at: self._ends(part, at, words, ends))
        return len(words) in ends(self.start, 0)

    def _ends(self, part: Part, at: int, words: list[str], ends: Any) -> frozenset[int]:
        """Where a part that begins at `at` may end; `ends` is this, remembered."""
        kind, *rest = part
        if kind in ("word", "token"):
            fits = at < len(words) and self._fits(kind, rest[0], words[at])
            return frozenset({at + 1} if fits else ())
        if kind == "rule":
            return ends(self.rules[rest[0]], at)
        if kind == "any":
            return frozenset().union(*(ends(each, at) for each in rest))
        found = frozenset({at})
        if kind == "all":
            for each in rest:
                found = frozenset().union(*(ends(each, one) for one in found))
            return found
        while True:  # as often as it brings something new; once for `[`
            more = found.union(*(ends(rest[0], one) for one in found))
            if kind == "[" or more == found:
                return more
            found = more

    def _fits(self, kind: str, name: str, word: str) -> bool:
        return word == name if kind == "word" else self.tokens[name].is_one(word)


def read_grammar(text: str, tokens: Mapping[str, Token]) -> Grammar:
    """Read a grammar; every rule is used and defined, every `? … ?` is one of `tokens`."""
    parts = list(_split(text))
    rules: dict[str, Part] = {}
    while parts:
        (_, name), (_, sign) = parts.pop(0), parts.pop(0)
        assert sign == "=", name
        assert name not in rules, name
        rules[name] = _choice(parts)
        assert parts.pop(0)[1] == ";", name
    used = set(_leaves(rules.values()))
    named = {leaf[1] for leaf in used if leaf[0] == "rule"}
    assert named | {next(iter(rules))} == set(rules), named ^ set(rules)
    assert {leaf[1] for leaf in used if leaf[0] == "token"} == set(tokens)
    return Grammar(rules, tokens)


def _leaves(parts: Any) -> Iterator[Part]:
    for part in parts:
        if part[0] in ("word", "token", "rule"):
            yield part
        else:
            yield from _leaves(part[1:])


def _split(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        found = _PART.match(text, at)
        assert found, text[at : at + 40]
        kind = ("word", "token", "rule", "sign")[(found.lastindex or 0) - 1]
        yield kind, (found[found.lastindex or 0]).strip()
        at = found.end()


def _choice(parts: list[tuple[str, str]]) -> Part:
    found = [_row(parts)]
    while parts[0] == ("sign", "|"):
        parts.pop(0)
        found.append(_row(parts))
    return found[0] if len(found) == 1 else ("any", *found)


def _row(parts: list[tuple[str, str]]) -> Part:
    found = [_one(parts)]
    while parts[0] == ("sign", ","):
        parts.pop(0)
        found.append(_one(parts))
    return found[0] if len(found) == 1 else ("all", *found)


def _one(parts: list[tuple[str, str]]) -> Part:
    kind, text = parts.pop(0)
    if kind != "sign":
        return (kind, text)
    inner = _choice(parts)
    assert parts.pop(0) == ("sign", _CLOSING[text])
    return inner if text == "(" else (text, inner)
