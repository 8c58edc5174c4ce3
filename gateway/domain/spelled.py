"""Tell from its bytes alone that a leaf of the journal is a canonical event: a fast yes.

One regular expression per kind, made from the same facts that `events.parse` checks value by
value (ten times slower). It says yes only to what `parse` takes; what it does not say yes to
(text beyond ASCII, maps of many keys, rare kinds) is for `parse` to judge. Whoever reads
millions of events asks here first.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from gateway.domain import facts as f
from gateway.domain.events import FACTS, EventKind

_OR_NULL = "(?:{}|null)"
_HEX = f.HEX.spelling
_LINK = rf'{_HEX}:\{{"prev":{f.SHA256.spelling},"seq":{f.COUNT.spelling}\}}'
_SEALED = rf'\{{"commitment":{_HEX},"key":{f.WORD.spelling},"sealed":"[A-Za-z0-9+/]*={{0,2}}"\}}'
_EVENT = (
    rf'\{{"actor":{_OR_NULL.format(f.NAME.spelling)},"boot":{_HEX},'
    rf'"chains":(?P<chains>\{{(?:{_LINK}(?:,{_LINK})*)?\}}),'
    rf'"details":{_OR_NULL.format(_SEALED)},"facts":FACTS,'
    rf'"index":(?P<index>{f.COUNT.spelling}),"kind":"KIND","node":"(?P<node>{f.NAME_PATTERN})",'
    rf'"owner":OWNER,"time":{f.COUNT.spelling},"v":0,"who":{_OR_NULL.format(_HEX)}\}}'
)
_THINGS = ("dataset", "identity")  # of which the owner is the first part
_KIND = b'"kind":"'
_LINKS = re.compile(rb'"([0-9a-f]+)":\{"prev":"([0-9a-f]+)","seq":([0-9]+)\}')

Link = tuple[bytes, bytes, bytes]  # tag, leaf hash of the event before (hex), counter


def spelled(data: bytes, index: int, node: bytes) -> list[Link] | None:
    """The chains of event `index` of `node`, if these bytes are it; None = ask `parse`."""
    at = data.rfind(_KIND)
    if at < 0:
        return None
    at += len(_KIND)
    pattern = _pattern_of(data[at : data.find(b'"', at)])
    found = pattern.fullmatch(data) if pattern else None
    if found is None or int(found["index"]) != index or found["node"] != node:
        return None
    chains: list[Link] = _LINKS.findall(found["chains"])
    if any(before[0] >= after[0] for before, after in pairwise(chains)):
        return None
    return chains


@lru_cache(maxsize=256)
def _pattern_of(kind: bytes) -> re.Pattern[bytes] | None:
    try:
        schema = dict(FACTS[EventKind(kind.decode("ascii", "replace"))])
    except ValueError:
        return None
    things = [name for name in _THINGS if name in schema]
    owner = f.NAME.spelling
    if len(things) == 1:  # the owner of the event owns the thing
        (name,) = things
        is_optional = schema[name].is_optional
        thing = rf'"(?P<of>{f.NAME_PATTERN})/{f.NAME_PATTERN}"'
        spelling = _OR_NULL.format(thing) if is_optional else thing
        schema[name] = f.Fact("", bool, is_optional, spelling)
        owner = rf'(?(of)"(?P=of)"|{owner})'
    facts = f.spelled_object(schema)
    if not facts or len(things) > 1:
        return None
    text = _EVENT.replace("FACTS", facts).replace("OWNER", owner).encode("ascii")
    return re.compile(text.replace(b"KIND", kind))
