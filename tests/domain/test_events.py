from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import facts as f
from gateway.domain.events import (
    FACTS,
    RAISES_POLICY_EPOCH,
    Event,
    EventDraft,
    EventKind,
    canonical,
    parse,
)
from gateway.domain.ids import new_id
from gateway.errors import InvalidInput

SHA = "ab" * 32


def draft(kind: EventKind = EventKind.TenantAdded, **changes: Any) -> EventDraft:
    fields: dict[str, Any] = {"owner_tenant": "clinic", "facts": {"tenant": "clinic"}}
    return EventDraft(kind=kind, **{**fields, **changes})


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "node": "n1",
        "index": 0,
        "boot": "00" * 16,
        "time_us": 1_700_000_000_000_000,
        "kind": EventKind.TenantAdded,
        "owner_tenant": "clinic",
        "actor_tenant": None,
        "actor_tag": None,
        "facts": {"tenant": "clinic"},
        "sealed": None,
        "chains": {"cd" * 16: {"seq": 0, "prev": "00" * 32}},
    }
    return Event(**{**fields, **changes})


def test_every_kind_says_which_facts_it_has() -> None:
    assert set(FACTS) == set(EventKind)
    assert set(EventKind) >= RAISES_POLICY_EPOCH


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"tenant": "clinic", "note": "free text"},
        {"tenant": "Clinic"},
        {"tenant": "clinic\n"},
        {"tenant": None},
        {"tenant": 1},
        {"tenant": ["clinic"]},
    ],
)
def test_missing_unknown_or_wrong_facts_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        draft(facts=facts).check()


@pytest.mark.parametrize("value", [1.0, True, -1, 2**53, "1", None])
def test_a_count_is_an_exact_integer_and_nothing_else(value: object) -> None:
    facts = {"view": "v", "dataset_id": "d", "version": 1, "plan_digest": SHA, "rows": value}
    with pytest.raises(InvalidInput):
        draft(EventKind.ViewBuilt, facts=facts).check()


def test_facts_about_another_owners_dataset_are_refused() -> None:
    facts = {"dataset": "bank/loans", "dataset_id": "d"}
    with pytest.raises(InvalidInput, match="not a thing of tenant"):
        draft(EventKind.DatasetSuspended, facts=facts).check()


def test_free_text_has_no_place_among_clear_facts() -> None:
    facts = {"grants": [new_id("grant_", bytes(16))], "reason_code": "the contract ended"}
    with pytest.raises(InvalidInput, match="reason_code"):
        draft(EventKind.GrantRevoked, facts=facts).check()


def test_an_actor_without_a_tenant_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has a tenant"):
        draft(actor="startup/ml").check()


def test_a_lone_surrogate_is_no_column_name() -> None:
    column = {"field_id": 1, "name": "\ud800", "type": "int64", "nullable": False}
    schema = FACTS[EventKind.VersionRegistered]
    assert not schema["columns"].holds([column])
    assert schema["columns"].holds([{**column, "name": "Größe 🩺"}])


@pytest.mark.parametrize(
    "change",
    [
        {"v": 1},
        {"kind": "Unheard"},
        {"index": 1.0},
        {"who": "alice"},
        {"owner": ""},
        {"extra": 1},
        {"details": {"sealed": "x"}},
        {"chains": {"zz": {"seq": 0, "prev": "00" * 32}}},
        {"facts": []},
    ],
)
def test_an_envelope_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse(canonical({**event().envelope(), **change}))


@pytest.mark.parametrize("spelling", [b" %s", b"%s\n", b"\xef\xbb\xbf%s"])
def test_another_spelling_of_the_same_event_is_refused(spelling: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(spelling % canonical(event().envelope()))


def test_a_repeated_member_is_refused() -> None:
    data = canonical(event().envelope()).replace(b'"index":0', b'"index":0,"index":0')
    with pytest.raises(InvalidInput, match="canonical"):
        parse(data)


def test_an_event_survives_its_canonical_bytes() -> None:
    assert parse(canonical(event().envelope())) == event()


def test_concerned_tenants_are_owner_actor_and_the_named_ones_once_each() -> None:
    asked = draft(actor_tenant="startup", concerns=("bank", "clinic", "startup"))
    assert asked.tenants == ("clinic", "startup", "bank")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_two_writers_of_canonical_bytes_agree(value: Any) -> None:
    assert orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == canonical(value)


def test_what_is_remembered_of_names_and_ids_is_no_wider_than_the_check() -> None:
    for fact, good in ((f.NAME, "clinic"), (f.LEASE, "lease_" + "a" * 26)):
        for value in (good, good.upper(), good + "\n", good + "a" * 60, "", 7, None, [good], b"a"):
            for _ in range(2):
                assert fact.holds(value) is (value == good)
    assert f.NAME.holds("a" * 63)
    assert not f.NAME.holds("a" * 64)
