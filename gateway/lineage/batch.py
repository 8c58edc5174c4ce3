"""Events on their way into the tables: gathered, then all at once turned into Arrow columns."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gateway.domain.events import EventKind
from gateway.domain.spelled import Form, Words
from gateway.lineage import columns, rows, schema
from gateway.lineage.recorded import Recorded

# An append of more than one row group (122,880 rows) would write the main file outside a
# checkpoint and break the seal. Most events are a few rows of a table; a claim is up to
# ROWS_OF_EVENT_MAX, so rows are counted every so many events. A transaction costs as much as
# thousands of events: it is worth being large.
EVENTS_MAX = 16_384
ROWS_OF_EVENT_MAX = 4096
ROWS_MAX = 50_000
_COUNTED_EVERY = 16

PARTS = "column_set_part"  # not a table of its own: see schema.py
_EXPIRING = "expiring"  # nor this: see expiry.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Rows of consecutive events, as one transaction takes them."""

    first: int  # index of the first event
    size: int  # index behind the last one
    time: int  # of the last one, Unix microseconds
    leaf: str  # its leaf hash, hex
    tables: dict[str, pa.Table]  # by table, and PARTS; in the order of the events
    expiring: list[Any]  # see expiry.py


class Batch:
    """Consecutive events."""

    def __init__(self) -> None:
        """Begin without any."""
        self._rows = rows.new_batch()
        self._words: dict[EventKind, tuple[Form, list[Words]]] = {}
        self._first: int | None = None
        self._last: rows.EventLike | None = None
        self.events = 0

    def add(self, event: rows.EventLike) -> None:
        """Take the next event; IntegrityError when it lacks a fact."""
        if isinstance(event, Recorded) and event.form.kind in columns.KINDS:
            known = self._words.get(event.form.kind)
            if known is None:
                known = self._words[event.form.kind] = (event.form, [])
            known[1].append(event.words)
        else:
            rows.add(self._rows, event)
        if self._first is None:
            self._first = event.index
        self._last = event
        self.events += 1

    @property
    def is_full(self) -> bool:
        """Whether it is as much as one transaction may hold."""
        if self.events >= EVENTS_MAX:
            return True
        if self.events % _COUNTED_EVERY:
            return False
        return max(map(len, self._rows.values()), default=0) > ROWS_MAX

    def prepared(self, leaf: str) -> Prepared:
        """All rows; `leaf` is the leaf hash (hex) of the last event."""
        assert self._first is not None
        assert self._last is not None
        parts: defaultdict[str, list[pa.Table]] = defaultdict(list)
        expiring = self._rows.pop(_EXPIRING, [])
        for name, lines in self._rows.items():
            if lines:
                kinds = schema.COLUMN_SET_PART if name == PARTS else schema.TABLES[name]
                parts[name].append(schema.arrow_table(kinds, lines))
        for form, words in self._words.values():
            for name, table in columns.tables_of(form, words).items():
                parts[name].append(table)
        return Prepared(
            first=self._first,
            size=self._last.index + 1,
            time=rows.microseconds(self._last.time),
            leaf=leaf,
            tables={name: _joined(tables) for name, tables in parts.items()},
            expiring=expiring,
        )


def _joined(tables: list[pa.Table]) -> pa.Table:
    """As one, in the order of the events: it makes zone maps of them."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).sort_by("idx")
