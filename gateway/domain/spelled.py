"""Tell from its bytes alone that a leaf of the journal is a canonical event: a fast yes.

One regular expression per kind, made from the same facts that `events.parse` checks value by
value (ten times slower). It says yes only to what `parse` takes; what it does not say yes to
(text beyond ASCII, maps of many keys, rare kinds) is for `parse` to judge. Whoever reads
millions of events asks here first. The same match gives every value as it stands in the bytes
(its word), for whoever needs a few of them and no object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from gateway.domain import facts as f
from gateway.domain.events import FACTS, EventKind

_FACT = "fact_"  # before the names of the groups that are facts
_MEMBERS = ("actor", "owner", "who", "time", "index", "node")
_THINGS = ("dataset", "identity")  # of which the owner is the first part
_KIND = b'"kind":"'
_LINKS = re.compile(rb'"([0-9a-f]+)":\{"prev":"([0-9a-f]+)","seq":([0-9]+)\}')

Link = tuple[bytes, bytes, bytes]  # tag, leaf hash of the event before (hex), counter
Words = tuple[Any, ...]  # of one event: bytes, text without its quotes; null, absent: None


@dataclass(frozen=True, slots=True)
class Form:
    """How the events of one kind are spelled, and where in their Words each value is."""

    kind: EventKind
    pattern: re.Pattern[bytes]
    members: Mapping[str, int]  # actor, owner, who, time (microseconds), index, node
    facts: Mapping[str, int]
    index: int
    node: int


def spelled(data: bytes, index: int, node: bytes) -> tuple[Form, Words] | None:
    """The words of event `index` of `node`, if these bytes are it; None = ask `parse`."""
    at = data.rfind(_KIND)
    if at < 0:
        return None
    at += len(_KIND)
    form = _form_of(data[at : data.find(b'"', at)])
    found = form.pattern.fullmatch(data) if form else None
    if found is None or form is None:
        return None
    words = found.groups()
    if int(words[form.index]) != index or words[form.node] != node:
        return None
    if words[4] is not None and not _are_ascending(words):
        return None
    return form, words


def links_of(words: Words) -> list[Link]:
    """The chains that an event continues, by ascending tag."""
    if words[1] is None:
        return []
    if words[4] is None:
        return [words[1:4]]
    links: list[Link] = [words[1:4], words[4:7]]
    return links + _LINKS.findall(words[7]) if words[7] else links


def _are_ascending(words: Words) -> bool:
    if not words[7]:
        return bool(words[1] < words[4])
    return all(before[0] < after[0] for before, after in pairwise(links_of(words)))


@lru_cache(maxsize=256)
def _form_of(kind: bytes) -> Form | None:
    try:
        of = EventKind(kind.decode("ascii", "replace"))
    except ValueError:
        return None
    schema = {name: _taken(fact, f"{_FACT}{name}") for name, fact in FACTS[of].items()}
    things = [name for name in _THINGS if name in schema]
    owner = f'"(?P<owner>{f.NAME_PATTERN})"'
    if len(things) == 1:  # the owner of the event owns the thing
        (name,) = things
        is_optional = schema[name].is_optional
        thing = rf'"(?P<{_FACT}{name}>(?P<of>{f.NAME_PATTERN})/{f.NAME_PATTERN})"'
        spelling = f"(?:{thing}|null)" if is_optional else thing
        schema[name] = f.Fact("", bool, is_optional, spelling)
        owner = rf'"(?P<owner>(?(of)(?P=of)|{f.NAME_PATTERN}))"'
    facts = f.spelled_object(schema)
    if not facts or len(things) > 1:
        return None
    return _form(of, facts, owner)


def _form(kind: EventKind, facts: str, owner: str) -> Form:
    text = _EVENT.replace("FACTS", facts).replace("OWNER", owner).replace("KIND", kind.value)
    pattern = re.compile(text.encode("ascii"))
    places = {name: number - 1 for name, number in pattern.groupindex.items()}
    return Form(
        kind,
        pattern,
        {name: places[name] for name in _MEMBERS},
        {name.removeprefix(_FACT): at for name, at in places.items() if name.startswith(_FACT)},
        places["index"],
        places["node"],
    )


def _taken(fact: f.Fact, name: str) -> f.Fact:
    """The same fact with its word in a group of that name."""
    return replace(fact, spelling=_named(fact.spelling, name)) if fact.spelling else fact


def _named(spelling: str, name: str) -> str:
    """Text without its quotes; null is no word."""
    if spelling.startswith("(?:") and spelling.endswith("|null)"):
        return f"(?:{_named(spelling[3:-6], name)}|null)"
    if spelling[0] == spelling[-1] == '"':
        return f'"(?P<{name}>{spelling[1:-1]})"'
    return f"(?P<{name}>{spelling})"


_HEX = f.HEX.spelling
_TAKEN = (
    rf'"([0-9a-f]{{32}}|[0-9a-f]{{64}})":\{{"prev":"([0-9a-f]{{64}})","seq":({f.COUNT.spelling})\}}'
)
_LINK = rf'{_HEX}:\{{"prev":{f.SHA256.spelling},"seq":{f.COUNT.spelling}\}}'
_SEALED = rf'\{{"commitment":{_HEX},"key":{f.WORD.spelling},"sealed":"[A-Za-z0-9+/]*={{0,2}}"\}}'
# Groups 2 to 8 are the chains: tag, prev, seq of the first two, and the text of all others.
_EVENT = (
    rf'\{{"actor":(?:{_named(f.NAME.spelling, "actor")}|null),"boot":{_HEX},'
    rf'"chains":\{{(?:{_TAKEN}(?:,{_TAKEN}((?:,{_LINK})*))?)?\}},'
    rf'"details":(?:{_SEALED}|null),"facts":FACTS,'
    rf'"index":{_named(f.COUNT.spelling, "index")},"kind":"KIND",'
    rf'"node":{_named(f.NAME.spelling, "node")},"owner":OWNER,'
    rf'"time":{_named(f.COUNT.spelling, "time")},"v":0,"who":(?:{_named(_HEX, "who")}|null)\}}'
)
