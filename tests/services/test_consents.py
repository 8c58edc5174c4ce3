"""Consent comes in by the owner alone, as tags, and all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

import gateway.wire as W
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, InvalidInput, NotFound
from gateway.services import consents
from gateway.services.house import House
from gateway.services.request_access import Caller
from tests.services.test_access import OWNER, STRANGER, TRAINER, run, shared

__all__ = ["shared"]
KINDS = (EventKind.ConsentGiven, EventKind.ConsentWithdrawn)
SMITH = "patient 4711, Mrs. Smith"


def entry(person: str = SMITH, state: str = "withdrawn", **more: Any) -> W.ConsentEntry:
    return W.ConsentEntry(person=person, purpose=more.pop("purpose", "HMB"), state=state, **more)


def recorded(house: House, *entries: W.ConsentEntry, who: Caller = OWNER) -> W.ConsentReceipt:
    return run(consents.record(house, who, W.ConsentRequest(entries=entries)))


def events(house: House) -> list[Any]:
    return [event for event in house.journal.read(0) if event.kind in KINDS]


def test_nobody_but_who_may_change_the_tenants_things_records_consent(shared: House) -> None:
    with pytest.raises(AccessDenied):
        recorded(shared, entry(), who=TRAINER)
    with pytest.raises(NotFound):
        recorded(shared, entry(dataset="clinic/icu"), who=STRANGER)
    assert events(shared) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (entry(person=""), InvalidInput),
        (entry(person="x" * 257), InvalidInput),
        (entry(person="a\nb"), InvalidInput),
        (entry(state="maybe"), InvalidInput),
        (entry(purpose="world-peace"), InvalidInput),
        (entry(at="tomorrow"), InvalidInput),
        (entry(at="2999-01-01"), InvalidInput),
        (entry(at="1901-01-01"), InvalidInput),
        (entry(dataset="clinic/nothing"), NotFound),
        (entry(dataset="startup/theirs"), NotFound),
        (entry(dataset="clinic"), InvalidInput),
    ],
)
def test_one_bad_entry_and_nothing_is_recorded(
    shared: House, bad: W.ConsentEntry, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        recorded(shared, entry(), bad)
    assert "Smith" not in str(caught.value)
    assert error is NotFound or str(caught.value).startswith("entry 2: ")
    assert events(shared) == []


@pytest.mark.parametrize("count", [0, W.CONSENTS_MAX + 1])
def test_a_request_has_a_bounded_number_of_entries(shared: House, count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 1000"):
        recorded(shared, *[entry()] * count)


def test_a_person_is_a_tag_and_nowhere_an_id(shared: House) -> None:
    epoch = shared.catalog.policy_epoch
    done = recorded(
        shared,
        entry(at="2026-01-31", dataset="clinic/icu"),
        entry("other", at="2026-01-31", dataset="clinic/icu@1"),
        entry(state="given", at="2026-01-01"),
    )
    assert (done.given, done.withdrawn) == (1, 2)
    withdrawn, given = events(shared)
    assert (withdrawn.facts["purpose"], withdrawn.facts["dataset"], given.facts["dataset"]) == (
        "health-research", "clinic/icu", None,
    )  # fmt: skip
    tag = shared.journal.tags.person("clinic", SMITH)
    assert withdrawn.facts["persons"][0]["person"] == tag
    assert given.facts["persons"] == [{"person": tag, "at": 1_767_225_600}]
    assert all("Smith" not in str(event) for event in events(shared))
    assert shared.catalog.policy_epoch == epoch + 2


def test_two_tenants_tags_of_one_id_do_not_match(shared: House) -> None:
    tags = shared.journal.tags
    assert tags.person("clinic", "4711") != tags.person("startup", "4711")
    assert tags.person("clinic", "4711") != tags.actor("clinic", "4711")
