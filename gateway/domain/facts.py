"""The closed kinds of values that may stand in clear in a journal event, with their checks.

Clear facts are names, ids, codes, counts and digests: never free text, never a person's data,
never a float (docs/formats/event-v0.md §3). A fact that no check here allows cannot be
recorded in clear; it belongs into the sealed details.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from gateway.domain.ids import ID_BODY, ID_BODY_CHARS, is_id
from gateway.errors import InvalidInput

INTEGER_MAX = 2**53 - 1  # what every JSON reader keeps exactly
TEXT_CHARS_MAX = 1024
TYPE_CHARS_MAX = 16_384  # of one column: a struct names all its members
NAME_CHARS_MAX = 63
NAME_PATTERN = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
Holds = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Fact:
    """One kind of value: what to call it, and whether a value is one."""

    what: str
    holds: Holds
    is_optional: bool = False  # the key may be absent
    spelling: str = ""  # regular expression of canonical JSON that holds (spelled.py); "" = none

    def __or__(self, other: None) -> Fact:
        """`FACT | None`: the value may be null, and the key absent."""
        inner = self.holds
        spelling = f"(?:{self.spelling}|null)" if self.spelling else ""
        return Fact(
            f"{self.what} or null",
            lambda v: v is None or inner(v),
            is_optional=True,
            spelling=spelling,
        )


Schema = Mapping[str, Fact]


def check_facts(schema: Schema, facts: Mapping[str, Any], *, where: str) -> None:
    """Raise InvalidInput unless `facts` has exactly the facts of `schema`, each of its kind."""
    if not isinstance(facts, Mapping):
        raise InvalidInput(f"the facts of {where} are not a mapping")
    known = 0
    for name, fact in schema.items():
        if name not in facts:
            if fact.is_optional:
                continue
            raise InvalidInput(f"{where} lacks the fact `{name}`")
        known += 1
        if not fact.holds(facts[name]):
            raise InvalidInput(f"{where}: `{name}` is not {fact.what}")
    if known != len(facts):
        extra = min(str(name) for name in facts if name not in schema)
        raise InvalidInput(f"{where} has no fact `{extra[:80]}`")


_KNOWN = 4096  # texts of one kind of which it is remembered whether they are one


def _pattern(what: str, pattern: str, *, spelled: str = "") -> Fact:
    match = re.compile(pattern + r"\Z").match
    holds: Holds = lambda v: type(v) is str and match(v) is not None  # noqa: E731 - typed
    return Fact(what, holds, spelling=f'"(?:{spelled or pattern})"')


def _name() -> Fact:
    """A name; few tenants are in many events."""
    fact = _pattern("a name", NAME_PATTERN)
    known = lru_cache(maxsize=_KNOWN)(fact.holds)
    most = NAME_CHARS_MAX
    holds: Holds = lambda v: type(v) is str and len(v) <= most and known(v)  # noqa: E731 - typed
    return replace(fact, holds=holds)


def _of_prefix(prefix: str) -> Fact:
    known = lru_cache(maxsize=_KNOWN)(lambda v: is_id(v, prefix))  # one lease, many segments
    chars = len(prefix) + ID_BODY_CHARS  # nothing longer is kept
    holds: Holds = lambda v: type(v) is str and len(v) == chars and known(v)  # noqa: E731 - typed
    return Fact(f"an id `{prefix}…`", holds, spelling=f'"{prefix}{ID_BODY}"')


def one_of(what: str, *words: str) -> Fact:
    """One of these plain words."""
    return Fact(what, words.__contains__, spelling=f'"(?:{"|".join(words)})"')


def is_text(value: Any, chars_max: int = TEXT_CHARS_MAX) -> bool:
    """Whether `value` is text of at most `chars_max` characters that has UTF-8 bytes."""
    if type(value) is not str or len(value) > chars_max:
        return False
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def is_count(value: Any) -> bool:
    """Whether `value` is an integer from 0 to INTEGER_MAX (and no bool)."""
    return type(value) is int and 0 <= value <= INTEGER_MAX


def list_of(fact: Fact, *, at_most: int = 1 << 16) -> Fact:
    """A list of one kind of value."""
    holds, one = fact.holds, fact.spelling
    return Fact(
        f"a list, each {fact.what}",
        lambda v: type(v) in (list, tuple) and len(v) <= at_most and all(map(holds, v)),
        spelling=rf"\[(?:{one}(?:,{one}){{0,{at_most - 1}}})?\]" if one else "",
    )


def map_of(key: Fact, value: Fact) -> Fact:
    """An object whose keys and values are each of one kind."""
    of_key, of_value = key.holds, value.holds
    is_spelled = key.spelling and value.spelling  # with one key at most: no order to look at
    return Fact(
        f"an object from {key.what} to {value.what}",
        lambda v: type(v) is dict and all(map(of_key, v)) and all(map(of_value, v.values())),
        spelling=rf"\{{(?:{key.spelling}:{value.spelling})?\}}" if is_spelled else "",
    )


def record_of(**members: Fact) -> Fact:
    """An object with exactly these members."""
    names = set(members)
    checks = [(name, fact.holds) for name, fact in members.items()]
    return Fact(
        f"an object of {', '.join(members)}",
        lambda v: type(v) is dict and set(v) == names and all(h(v[n]) for n, h in checks),
        spelling=spelled_object({n: replace(m, is_optional=False) for n, m in members.items()}),
    )


def spelled_object(schema: Schema) -> str:
    """Regular expression of the canonical JSON of an object with these facts; "" = none."""
    if not all(fact.spelling for fact in schema.values()):
        return ""
    parts, is_first = [], True
    for name in sorted(schema):
        pair = f'"{name}":{schema[name].spelling}'
        if not schema[name].is_optional:
            parts.append(pair if is_first else f",{pair}")
            is_first = False
        else:
            parts.append(f"(?:{pair},)?" if is_first else f"(?:,{pair})?")
    return "" if is_first else rf"\{{{''.join(parts)}\}}"  # else nobody sets the commas


_PLAIN = r"!#-\[\]-~"  # printable ASCII that JSON spells as it is, without the space
_COUNT = "(?:0|[1-8][0-9]{0,15}|9[0-9]{0,14})"  # below 9 * 10^15 < INTEGER_MAX

# only for names that others chose, such as columns
TEXT = Fact("text", is_text, spelling=f'"[ {_PLAIN}]{{0,{TEXT_CHARS_MAX}}}"')
TYPE = Fact(
    "a type",
    lambda v: is_text(v, TYPE_CHARS_MAX),
    spelling=f'"[ {_PLAIN}]{{0,{TYPE_CHARS_MAX}}}"',
)
COUNT = Fact("a count", is_count, spelling=_COUNT)
INTEGER = Fact(
    "an integer",
    lambda v: type(v) is int and -INTEGER_MAX <= v <= INTEGER_MAX,
    spelling=f"(?:{_COUNT}|-[1-8][0-9]{{0,15}})",
)
FLAG = Fact("true or false", lambda v: type(v) is bool, spelling="(?:true|false)")
NAME = _name()
DATASET = _pattern("a dataset `tenant/name`", f"{NAME_PATTERN}/{NAME_PATTERN}")
IDENTITY = _pattern("an identity `tenant/name`", f"{NAME_PATTERN}/{NAME_PATTERN}")
MONTH = _pattern("a month", r"[0-9]{4}-(?:0[1-9]|1[0-2])")
CODE = _pattern("a code", r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
WORD = _pattern("a word without spaces", r"[!-~]{1,256}", spelled=f"[{_PLAIN}]{{1,256}}")
ROUTE = _pattern(
    "a route",
    r"(?:[A-Z]{3,7} )?/[!-~]{0,255}",
    spelled=rf"(?:[A-Z]{{3,7}} )?/[{_PLAIN}]{{0,255}}",
)
SHA256 = _pattern("a SHA-256 in hex", r"[0-9a-f]{64}")
SHA256_OR_EMPTY = _pattern("a SHA-256 in hex or empty", r"(?:[0-9a-f]{64})?")
HEX = _pattern("lower-case hex", r"(?:[0-9a-f]{2}){1,64}", spelled="[0-9a-f]{32}|[0-9a-f]{64}")
FIELD_KEY = _pattern("a field id", r"[1-9][0-9]{0,8}")
TAG = _pattern("a tag", r"[a-z][a-z0-9_-]{0,31}(?:\.[a-z0-9][a-z0-9_-]{0,31}){0,3}")
DECISION, GRANT, LEASE = _of_prefix("dec_"), _of_prefix("grant_"), _of_prefix("lease_")
REQUEST = _of_prefix("req_")
