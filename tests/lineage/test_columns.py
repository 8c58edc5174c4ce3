"""Rows made from the words of many events are those that are made from each event."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.events import FACTS, Event, EventKind, parse
from gateway.journal.composer import canonical, read_event
from gateway.lineage import columns, schema
from gateway.lineage.batch import Batch
from gateway.lineage.recorded import Recorded, recorded
from gateway.lineage.rows import EventLike
from tests.journal.load import drafts

VECTORS = Path(__file__).resolve().parents[1] / "vectors/event-v0"
GOOD = {path.stem: path.read_bytes() for path in sorted(VECTORS.glob("ok-*.json"))}
INTENT = parse(GOOD["ok-segment-intent"]).envelope()


def rows_of(events: list[Any]) -> dict[str, list[Any]]:
    batch = Batch()
    for event in events:
        batch.add(event)
    prepared = batch.prepared("ab" * 32)
    for name, table in prepared.tables.items():
        wanted = schema.TABLES.get(name, schema.COLUMN_SET_PART)
        assert table.column_names == list(wanted), name
        assert table.schema == schema.arrow_table(wanted, [(None,) * len(wanted)]).schema, name
    return {name: table.to_pylist() for name, table in prepared.tables.items()}


def put_in_order(envelopes: list[dict[str, Any]]) -> list[bytes]:
    return [canonical({**value, "index": at}) for at, value in enumerate(envelopes)]


def both_ways(data: list[bytes]) -> list[list[EventLike]]:
    slow: list[EventLike] = [read_event(d, i, "n1") for i, d in enumerate(data)]
    return [slow, [recorded(d, i, "n1") for i, d in enumerate(data)]]


def test_every_kind_that_there_is_gives_the_same_rows_both_ways() -> None:
    events = [parse(data) for data in GOOD.values()]
    data = put_in_order([e.envelope() for e in events if e.node == "n1"] * 2)
    one, other = both_ways(data)
    assert rows_of(other) == rows_of(one)
    assert sum(isinstance(event, Recorded) for event in other) > len(other) // 2


def test_what_streams_record_never_becomes_an_object() -> None:
    data = [
        canonical(
            {**INTENT, "index": at, "kind": str(draft.kind), "owner": draft.owner_tenant,
             "actor": draft.actor_tenant, "facts": draft.facts}
        )
        for at, draft in enumerate(islice(drafts(), 500))
    ]  # fmt: skip
    one, other = both_ways(data)
    assert all(isinstance(e, Recorded) and e.kind in columns.KINDS for e in other)
    found = rows_of(other)
    assert found == rows_of(one)
    assert [row["idx"] for row in found["event"]] == list(range(500))


@given(st.data())
def test_any_counts_and_lists_give_the_same_rows_both_ways(data: st.DataObject) -> None:
    counts = st.integers(0, 8 * 10**15)
    made = []
    for _ in range(data.draw(st.integers(1, 8))):
        kind = data.draw(st.sampled_from(list(columns.KINDS)))
        facts = dict(parse(GOOD[_name(kind)]).facts)
        for name, value in facts.items():
            if type(value) is int:
                facts[name] = data.draw(counts)
            elif type(value) is list:
                facts[name] = data.draw(st.lists(counts, max_size=3))
        actor = data.draw(st.sampled_from([None, "startup"]))
        who = data.draw(st.sampled_from([None, "ab" * 16]))
        time = data.draw(st.integers(0, 4 * 10**15))
        made.append({**INTENT, "kind": str(kind), "facts": facts, "actor": actor, "who": who,
                     "time": time})  # fmt: skip
    one, other = both_ways(put_in_order(made))
    assert rows_of(other) == rows_of(one)


def _name(kind: EventKind) -> str:
    return next(name for name, data in GOOD.items() if parse(data).kind is kind)


@pytest.mark.parametrize("name", GOOD)
def test_an_event_that_was_not_decoded_says_what_the_decoded_one_says(name: str) -> None:
    event = parse(GOOD[name])
    read = recorded(GOOD[name], event.index, event.node)
    for member in ("kind", "index", "time", "owner_tenant", "actor_tenant", "actor_tag", "facts"):
        assert getattr(read, member) == getattr(event, member)
    assert isinstance(read, Recorded | Event)


def test_the_columns_of_a_kind_are_facts_of_it() -> None:
    for kind, (table, facts) in columns.KINDS.items():
        assert {name for name, _ in facts} <= set(FACTS[kind])
        assert not table or len(schema.TABLES[table]) == 5 + len(facts)
    assert pa.types.is_timestamp(schema.arrow_table({"t": "TIMESTAMP"}, [(1,)]).schema[0].type)
