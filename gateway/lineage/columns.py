"""Rows of the events that come by the million, whole columns at a time from their words.

The same rows as rows.py makes of the same events, one by one (a test compares them): only the
kinds that streams record by the segment are worth a second way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from gateway.domain.events import EventKind
from gateway.domain.spelled import Form, Words
from gateway.lineage import schema

Column = Callable[[Sequence[Any]], pa.Array]


def tables_of(form: Form, events: Sequence[Words]) -> dict[str, pa.Table]:
    """Table name to rows, in the order of the events, which are all of one of KINDS."""
    columns = list(zip(*events, strict=True))
    member = {name: columns[place] for name, place in form.members.items()}
    head = [
        _number(member["index"]),
        _number(member["time"]).cast(pa.timestamp("us")),
        _text(member["owner"]),
        _text(member["actor"]),
        _text(member["who"]),
    ]
    found = {"event": _table("event", [*head, pa.repeat(form.kind.value, len(events))])}
    name, facts = KINDS[form.kind]
    if name:
        own = [read(columns[form.facts[fact]]) for fact, read in facts]
        found[name] = _table(name, [*head, *own])
    return found


def _table(name: str, arrays: list[pa.Array]) -> pa.Table:
    return pa.Table.from_arrays(arrays, names=list(schema.TABLES[name]))


def _text(words: Sequence[Any]) -> pa.Array:
    return pa.array(words, pa.binary()).cast(pa.string())


def _number(words: Sequence[Any]) -> pa.Array:
    return _text(words).cast(pa.int64())


def _least(lists: Sequence[bytes]) -> pa.Array:
    return _of_each(lists, min)


def _greatest(lists: Sequence[bytes]) -> pa.Array:
    return _of_each(lists, max)


def _of_each(lists: Sequence[bytes], of: Callable[[Any], int]) -> pa.Array:
    """Of each list of counts, as it is spelled; an empty one has neither a least nor a greatest."""
    inner = [text[1:-1] for text in lists]
    if any(b"," in text for text in inner):
        return pa.array([of(map(int, t.split(b","))) if t else None for t in inner], pa.int64())
    return _number([text or None for text in inner])


_READ = (("rows", _number), ("bytes", _number))
# kind: its table but for `event`, and of which facts its further columns are made, in their order
KINDS: dict[EventKind, tuple[str, tuple[tuple[str, Column], ...]]] = {
    EventKind.SegmentIntent: (
        "intent",
        (("lease", _text), ("first", _number), ("last", _number), *_READ),
    ),
    EventKind.SegmentsConfirmed: (
        "confirmed",
        (("lease", _text), ("segments", _least), ("segments", _greatest), *_READ),
    ),
    EventKind.SegmentsAcknowledged: (
        "acknowledged",
        (("lease", _text), ("upto", _number), ("rows", _number)),
    ),
    EventKind.TenantHeads: ("", ()),
}
