"""An event of the journal as the projection reads it: its words, and an object only on demand.

Most events by far are what streams record. Their rows are made from the words of many of them
at once (columns.py); to decode each into an object would take longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from gateway.domain.events import MICROSECONDS, Event, EventKind
from gateway.domain.spelled import Form, Words, spelled
from gateway.journal.composer import read_event
from gateway.journal.reader import Reader


class Recorded:
    """An event whose bytes are known to be canonical; what it says is read when it is asked."""

    __slots__ = ("_data", "form", "index", "words")

    def __init__(self, data: bytes, index: int, form: Form, words: Words) -> None:
        """`words` as `spelled` found them in `data`."""
        self._data = data
        self.index = index
        self.form = form
        self.words = words

    @property
    def kind(self) -> EventKind:
        """What happened."""
        return self.form.kind

    @property
    def time(self) -> float:
        """Unix seconds."""
        return int(self.words[self.form.members["time"]]) / MICROSECONDS

    @property
    def owner_tenant(self) -> str | None:
        """Whose thing it is."""
        return self._text("owner")

    @property
    def actor_tenant(self) -> str | None:
        """Whose member acted."""
        return self._text("actor")

    @property
    def actor_tag(self) -> str | None:
        """Keyed pseudonym of who acted."""
        return self._text("who")

    @property
    def facts(self) -> Mapping[str, Any]:
        """All facts, decoded."""
        facts: Mapping[str, Any] = orjson.loads(self._data)["facts"]
        return facts

    def _text(self, member: str) -> str | None:
        word = self.words[self.form.members[member]]
        return None if word is None else word.decode("ascii")


def recorded(data: bytes, index: int, node: str) -> Recorded | Event:
    """Read one leaf without keys; IntegrityError unless it is event `index` of `node`."""
    found = spelled(data, index, node.encode("ascii"))
    return read_event(data, index, node) if found is None else Recorded(data, index, *found)


def tail_of(reader: Reader) -> Callable[[int], Iterator[tuple[Recorded | Event, bytes]]]:
    """The `tail` of a reader, of such events."""

    def tail(start: int) -> Iterator[tuple[Recorded | Event, bytes]]:
        for index, payload, leaf in reader.leaves(start):
            yield recorded(payload, index, reader.node), leaf

    return tail
