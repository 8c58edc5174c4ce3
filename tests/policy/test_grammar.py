"""The grammars of the format page and the parsers say the same: neither drifts from the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.purpose import PURPOSES
from gateway.errors import PolicyError
from gateway.policy.conditions import parse_condition
from gateway.policy.documents import Place, Scalar
from gateway.policy.filters import parse_where
from gateway.policy.schema import read_schema

from .ebnf import Grammar, Token, read_grammar

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats" / "policy-v1.md"
CONDITION, FILTER = re.findall(r"```ebnf\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
SCHEMA = read_schema(
    "format: gateway-policy-schema/v1\nattributes:\n"
    "  subject.s: {type: string}\n  resource.r: {type: string}\n"
    "  subject.i: {type: int}\n  context.d: {type: decimal}\n"
    "  workload.b: {type: bool}\n  subject.c: {type: bool}\n"
    "  context.t: {type: timestamp}\n  subject.u: {type: timestamp}\n"
)


def _of_type(*types: str) -> Token:
    names = [n for n, a in SCHEMA.attributes.items() if a.type in types and n != "purpose"]
    return Token(st.sampled_from(names), lambda text: text in names)


def _pattern(texts: list[str], pattern: str) -> Token:
    return Token(st.sampled_from(texts), lambda text: re.fullmatch(pattern, text) is not None)


TEXT = _pattern(["'x'", "'it''s'", "'and'", "'a)b'", "'é'", "'research'"], r"'([^']|'')*'")
DIGITS = _pattern(["0", "-1", "7", "2.5", "-0.25"], r"-?[0-9]+(\.[0-9]+)?")
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
ZONED = "timestamp'2026-01-01T00:00:00Z'", "timestamp'2026-06-30T12:30:00+02:00'"
WORDS = ["and", "or", "not", "in", "is", "null", "between", "true", "false"]
CONDITIONS = read_grammar(
    CONDITION,
    {
        "attribute of type string": _of_type("string"),
        "attribute of type int or decimal": _of_type("int", "decimal"),
        "attribute of type timestamp": _of_type("timestamp"),
        "attribute of type bool": _of_type("bool"),
        "text in single quotes, in which two stand for one": TEXT,
        "digits, perhaps with a minus before or a point within": DIGITS,
        "timestamp'…' around ISO 8601 with zone": _pattern(
            list(ZONED), rf"timestamp'{DAY}T.*(Z|\+02:00)'"
        ),
    },
)
FILTERS = read_grammar(
    FILTER,
    {
        "ASCII identifier that is no word of this grammar": Token(
            st.sampled_from(["age", "site_2", "_x", "has", "Name"]),
            lambda t: re.fullmatch(r"[A-Za-z_]\w*", t) is not None and t.lower() not in WORDS,
        ),
        "any name in double quotes, in which two stand for one": _pattern(
            ['"a b"', '"and"', '"ä"', '"in ""it"""'], r'"([^"]|"")*"'
        ),
        "text in single quotes, in which two stand for one": TEXT,
        "digits, perhaps with a minus before or a point within": DIGITS,
        "date'YYYY-MM-DD'": _pattern(["date'2026-01-31'"], f"date'{DAY}'"),
        "timestamp'…' around ISO 8601": _pattern(
            [*ZONED, "timestamp'2026-01-01T00:00:00'"], rf"timestamp'{DAY}(T.*)?'"
        ),
        "colon and attribute": Token(
            st.sampled_from([":subject.s", ":context.d", ":purpose"]),
            lambda text: text[:1] == ":" and text[1:] in SCHEMA.attributes,
        ),
    },
)
SIGNS = ["(", ")", ",", "=", "==", "!=", "<>", "<", "<=", ">", ">="]
VALUES = ["1", "2.5", "'research'", ZONED[0], "date'2026-01-31'", '"a b"', ":subject.s"]
NAMES = ["subject.s", "context.d", "context.t", "workload.b", "purpose", "age", "subject.nobody"]
STRANGERS = [*WORDS, "has", "within", *SIGNS, *VALUES, *NAMES]


def _refusal(words: list[str], grammar: Grammar) -> int | None:
    """The offset at which the parser gives up, or None when it does not."""
    parse = parse_condition if grammar is CONDITIONS else parse_where
    scalar = Scalar(text=" ".join(words), place=Place("t"), plain=True, exact=True)
    try:
        parse(scalar, SCHEMA)
    except PolicyError as error:
        return int(error.facts["column"]) - 1
    return None


def _parses(words: list[str], grammar: Grammar) -> bool:
    return _refusal(words, grammar) is None


def _possible(words: list[str]) -> list[str]:
    """A purpose is one of a closed tree: whatever a sentence compares it with is one."""
    known = f"'{next(iter(PURPOSES))}'"
    texts = "purpose" in words
    return [known if texts and word.startswith("'") else word for word in words]


def _sentences(grammar: Grammar) -> st.SearchStrategy[list[str]]:
    return grammar.sentences().map(_possible).filter(lambda words: len(words) < 150)


@st.composite
def _broken(draw: st.DrawFn, grammar: Grammar) -> list[str]:
    """A sentence in which words were left out, doubled, swapped or replaced."""
    words = draw(_sentences(grammar))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(words)))
        cut = draw(st.integers(0, 2))
        words = (
            words[:at] + draw(st.lists(st.sampled_from(STRANGERS), max_size=2)) + words[at + cut :]
        )
    return _possible(words)


@pytest.mark.parametrize("grammar", [CONDITIONS, FILTERS], ids=["condition", "filter"])
@given(data=st.data())
def test_whatever_the_grammar_makes_the_parser_reads(grammar: Grammar, data: st.DataObject) -> None:
    words = data.draw(_sentences(grammar))
    assert grammar.covers(words)
    assert _parses(words, grammar), " ".join(words)


@pytest.mark.parametrize("grammar", [CONDITIONS, FILTERS], ids=["condition", "filter"])
@given(data=st.data())
def test_whatever_the_parser_reads_the_grammar_has(grammar: Grammar, data: st.DataObject) -> None:
    words = data.draw(_broken(grammar))
    assert _parses(words, grammar) == grammar.covers(words), " ".join(words)


@pytest.mark.parametrize("grammar", [CONDITIONS, FILTERS], ids=["condition", "filter"])
def test_every_short_sentence_is_one_to_both_or_to_neither(grammar: Grammar) -> None:
    """All that can be said in four words: longer ones only where the parser reads on."""
    begun: list[list[str]] = [[]]
    seen = 0
    for _ in range(4):
        longer = [[*words, word] for words in begun for word in STRANGERS]
        begun = []
        for words in longer:
            offset = _refusal(words, grammar)
            assert (offset is None) == grammar.covers(words), " ".join(words)
            if offset is None or offset >= len(" ".join(words)):
                begun.append(words)
        seen += len(longer)
    assert seen > 5_000


def test_words_of_a_filter_may_be_capitals() -> None:
    text = "NOT age IN (1, 2) AND (site IS NOT NULL OR age BETWEEN 1 AND 2)"
    scalar, small = (
        Scalar(text=each, place=Place("t"), plain=True) for each in (text, text.lower())
    )
    assert parse_where(scalar, SCHEMA) == parse_where(small, SCHEMA)
    for truth in ("true", "True", "TRUE"):
        assert _parses(["age", "=", truth], FILTERS)
