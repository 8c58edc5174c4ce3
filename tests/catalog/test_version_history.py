"""Any history of one dataset keeps its invariants: random acts, compared with a small model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.catalog.catalog import Catalog
from gateway.catalog.codec import decode, encode
from gateway.catalog.state import State
from gateway.domain.dataset import Column, Dataset, next_field_ids
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import Conflict
from tests.catalog import happenings as h
from tests.catalog.test_catalog import tell

TYPES = ["int64", "double", "string"]
SCHEMAS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from(TYPES), min_size=1)
TAGS = st.lists(st.sampled_from(["pii", "pii.email", "public"]), max_size=2)


class History(RuleBasedStateMachine):
    """Registers, appends, classifies, updates, suspends; the model says what must be."""

    def __init__(self) -> None:
        super().__init__()
        self.catalog = tell(Catalog(), h.tenant("clinic"))
        self.told: list[EventDraft] = [h.tenant("clinic")]
        self.tags: dict[int, list[str]] = {}  # by field id, as somebody last said
        self.meaning: dict[int, tuple[str, str]] = {}  # field id -> the one column it ever meant
        self.card: dict[str, Any] = {}
        self.suspended = False
        self.versions = 0
        self.epoch = 0

    def tell(self, draft: EventDraft) -> None:
        tell(self.catalog, draft)
        self.told.append(draft)

    def _newest(self) -> tuple[Column, ...]:
        return self.dataset.newest.columns if self.versions else ()

    @property
    def dataset(self) -> Dataset:
        return self.catalog.dataset("clinic", "icu")

    def version(self, schema: dict[str, str], card: dict[str, Any]) -> EventDraft:
        columns = list(schema.items())
        ids = next_field_ids(self._newest(), max(self.meaning, default=0) + 1, columns)
        facts = [
            {"field_id": i, "name": name, "type": kind, "nullable": True}
            for i, (name, kind) in zip(ids, columns, strict=True)
        ]
        draft = h.version(self.versions + 1, columns=facts)
        return replace(draft, details={"card": card} if card else {})

    @initialize(schema=SCHEMAS)
    def first(self, schema: dict[str, str]) -> None:
        self.register(schema, {})

    @rule(schema=SCHEMAS, card=st.sampled_from([{}, {"title": "new"}]))
    def register(self, schema: dict[str, str], card: dict[str, Any]) -> None:
        draft = self.version(schema, card)
        before = {c.name: (c.type, c.field_id) for c in self._newest()}
        self.tell(draft)
        for c in self.dataset.newest.columns:
            kind, field_id = before.get(c.name, ("", 0))
            assert (c.type == kind) is (c.field_id == field_id)
        self.versions += 1
        self.card = card or self.card
        for column in draft.facts["columns"]:
            meant = (column["name"], column["type"])
            assert self.meaning.setdefault(column["field_id"], meant) == meant

    @rule()
    def append(self) -> None:
        self.register({c.name: c.type for c in self.dataset.newest.columns}, {})

    @rule(schema=SCHEMAS, behind=st.sampled_from([0, 2]))
    def lose_a_race(self, schema: dict[str, str], behind: int) -> None:
        draft = self.version(schema, {"title": "lost"})
        late = replace(draft, facts={**draft.facts, "version": self.versions + behind})
        before = encode(State, self.catalog.state)
        try:
            tell(self.catalog, late)
        except Conflict:
            assert encode(State, self.catalog.state) == before
        else:
            raise AssertionError("a version number was given twice or skipped")

    @rule(data=st.data(), tags=TAGS)
    def classify(self, data: Any, tags: list[str]) -> None:
        column = data.draw(st.sampled_from(self.dataset.newest.columns))
        self.tell(h.classified(**{f"f{column.field_id}": tags}))
        self.tags[column.field_id] = sorted(set(tags))
        self.epoch += 1

    @rule(title=st.text(max_size=3))
    def update(self, title: str) -> None:
        self.card = {"title": title}
        self.tell(h.updated(card=self.card))

    @rule(suspended=st.booleans())
    def suspend(self, *, suspended: bool) -> None:
        kind = EventKind.DatasetSuspended if suspended else EventKind.DatasetResumed
        self.tell(h.on_dataset(kind))
        self.suspended = suspended
        self.epoch += 1

    @invariant()
    @precondition(lambda self: self.versions)
    def versions_are_consecutive_and_the_model_holds(self) -> None:
        dataset = self.dataset
        numbers = [version.ref.version for version in dataset.versions]
        assert numbers == list(range(1, self.versions + 1))
        assert (dataset.card, dataset.suspended) == (self.card, self.suspended)
        assert self.catalog.policy_epoch == self.epoch

    @invariant()
    @precondition(lambda self: self.versions)
    def tags_are_of_the_field_id_and_never_of_a_name(self) -> None:
        ids_of: dict[str, set[int]] = {}
        for version in self.dataset.versions:
            columns = self.dataset.columns_of(version)
            assert len({c.field_id for c in columns}) == len(columns)
            for c in columns:
                assert (c.name, c.type) == self.meaning[c.field_id]
                assert list(c.tags) == self.tags.get(c.field_id, [])
                meant_another = bool(ids_of.get(c.name, set()) - {c.field_id})
                assert c.renewed is (meant_another and not c.tags)
            for c in columns:
                ids_of.setdefault(c.name, set()).add(c.field_id)

    @invariant()
    def the_fold_the_snapshot_and_a_second_fold_are_equal(self) -> None:
        state = self.catalog.state
        assert decode(State, json.loads(json.dumps(encode(State, state)))) == state
        assert tell(Catalog(), *self.told).state == state


History.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestAnyHistory = History.TestCase
