"""Asking about others: only the enforcement point of the data's owner may (threats.md 20)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.access import Decision
from gateway.domain.approval import REQUIRED
from gateway.domain.events import EventKind
from gateway.errors import (
    AccessDenied,
    NotFound,
)
from gateway.services import (
    enforcement,
    publish,
)
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from tests.services.asking import (
    OWNER,
    RIVAL,
    RULES,
    TRAINER,
    codes,
    prepared,
    shared,
)
from tests.services.simulator import add_rules, caller
from tests.services.test_access import kinds, run

__all__ = ["prepared", "shared"]

DOOR = caller("clinic", "door", "enforcement-point")


def check_for(house: House, who: str = "startup/ml", door: Caller = DOOR, **ask_: Any) -> Decision:
    wanted = Ask(**{"dataset": "clinic/icu", "purpose": "safety", **ask_})
    told: Decision = run(enforcement.check_for(house, door, ("person", who), wanted, None))
    return told


@pytest.mark.parametrize("who", [OWNER, TRAINER, RIVAL, caller("rival", "x", "operator")])
def test_who_is_no_enforcement_point_learns_nothing_of_others(shared: House, who: Caller) -> None:
    start = shared.journal.durable_size
    words = set()
    for name in ("clinic/icu", "clinic/nothing"):
        with pytest.raises(AccessDenied) as caught:
            check_for(shared, door=who, dataset=name)
        words.add(caught.value.message)
    assert len(words) == 1
    assert kinds(shared, start) == [EventKind.RequestRefused] * 2


def test_an_enforcement_point_asks_about_its_own_tenants_data_alone(shared: House) -> None:
    foreign = caller("rival", "door", "enforcement-point")
    words = set()
    for name in ("clinic/icu", "clinic/nothing"):
        with pytest.raises(NotFound) as caught:
            check_for(shared, door=foreign, dataset=name)
        words.add(caught.value.message.replace(name, "X"))
    assert len(words) == 1


def test_a_recipients_enforcement_point_learns_nothing_of_what_others_may(shared: House) -> None:
    seen = RULES.replace("actions: [stream, request]", "actions: [describe, stream, request]")
    run(add_rules(shared, "clinic", seen))
    with pytest.raises(NotFound):
        check_for(shared, door=caller("startup", "door", "enforcement-point", "trainer"))


def test_the_role_without_the_owners_rule_is_denied(shared: House) -> None:
    files = publish.load(shared, "clinic").files
    kept = {name: text for name, text in files.items() if not name.endswith("_test.yaml")}
    roles = {name: text.partition("  - id: clinic.roles.enf")[0] for name, text in kept.items()}
    assert roles != kept
    run(publish.store_and_record(shared, None, "clinic", roles))
    with pytest.raises(AccessDenied):
        check_for(shared)


def test_the_answer_about_another_makes_no_grant_and_is_recorded_as_the_askers(
    shared: House,
) -> None:
    start = shared.journal.durable_size
    assert check_for(shared).is_allowed
    assert shared.catalog.grants() == []
    (event,) = [e for e in shared.journal.read(start) if e.kind == EventKind.QuestionAsked]
    assert event.actor == "clinic/door"
    assert (event.details or {})["parameters"]["subject"] == ["person", "startup/ml"]


def test_what_the_gateway_knows_of_another_comes_from_the_catalogue(shared: House) -> None:
    nobody = codes(check_for(shared, "startup/nobody"))
    assert nobody == codes(check_for(shared, "rival/spy")) == ["no-rule"]
    as_job = run(
        enforcement.check_for(
            shared, DOOR, ("job", "startup/ml"), Ask(dataset="clinic/icu", purpose="safety"), None
        )
    )
    assert codes(as_job) == ["no-rule"]
    assert codes(check_for(shared, purpose="health-research")) == [REQUIRED]
