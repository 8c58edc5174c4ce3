"""Asking a person and answering: who may, what it costs, what each is told."""

from __future__ import annotations

import dataclasses

import pytest

import gateway.wire as W
from gateway.domain.access import Limits
from gateway.domain.approval import REQUIRED
from gateway.domain.events import EventKind
from gateway.errors import (
    AccessDenied,
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from gateway.services import (
    answer_request,
    ask_person,
)
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from tests.services import asking
from tests.services.asking import prepared, shared
from tests.services.simulator import add_rules, caller
from tests.services.test_access import kinds, run

__all__ = ["prepared", "shared"]

# before anybody said yes


def test_without_an_approval_it_is_denied_with_the_command_that_asks(shared: House) -> None:
    decision = asking.check(shared)
    assert asking.codes(decision) == [REQUIRED]
    assert decision.advice == (
        "ask: `gateway access request clinic/icu --purpose health-research --columns age,hr "
        "--reason WHY`"
    )
    with pytest.raises(AccessDenied):
        asking.get(shared)
    assert shared.catalog.grants() == []


def test_what_needs_no_person_makes_no_request(shared: House) -> None:
    with pytest.raises(Conflict, match="allow this already"):
        asking.ask(shared, wanted=Ask(dataset="clinic/icu", purpose="safety"))
    assert shared.catalog.requests() == []


def test_what_the_rules_deny_nobody_can_be_asked_for(shared: House) -> None:
    start = shared.journal.durable_size
    with pytest.raises(AccessDenied):
        asking.ask(
            shared, wanted=Ask(dataset="clinic/icu", purpose="health-research", columns=("name",))
        )
    with pytest.raises(AccessDenied):
        asking.ask(shared, wanted=Ask(dataset="clinic/icu", purpose="marketing"))
    assert kinds(shared, start) == [EventKind.AccessDecided] * 2


def test_who_may_not_even_ask_is_denied(shared: House) -> None:
    narrower = asking.RULES.replace("[stream, request]", "[stream]")
    run(add_rules(shared, "clinic", narrower))
    with pytest.raises(AccessDenied):
        asking.ask(shared)
    assert shared.catalog.requests() == []


def test_what_is_unseen_and_what_is_not_there_cannot_be_asked_for_alike(shared: House) -> None:
    words, costs = [], []
    for name in ("clinic/icu", "clinic/nothing"):
        start = shared.journal.durable_size
        with pytest.raises(NotFound) as caught:
            asking.ask(shared, asking.RIVAL, dataclasses.replace(asking.ASK, dataset=name))
        words.append(caught.value.message.replace(name, "X"))
        costs.append(len(kinds(shared, start)))
    assert len(set(words)) == 1
    assert costs == [1, 1]


def test_asking_twice_is_one_question(shared: House) -> None:
    first = asking.ask(shared, reason="IRB 2026-17")
    assert asking.ask(shared).id == first.id
    assert asking.ask(shared, asking.COLLEAGUE).id != first.id
    assert [asked.reason for asked in shared.catalog.requests("startup/ml")] == ["IRB 2026-17"]


def test_a_subject_cannot_fill_the_queue(shared: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_person, "PENDING_MAX", 2)
    for rows in (1, 2):
        asking.ask(shared, wanted=dataclasses.replace(asking.ASK, limits=Limits(max_rows=rows)))
    with pytest.raises(LimitExceeded):
        asking.ask(shared)
    assert asking.ask(shared, asking.COLLEAGUE).answer is None


def test_the_reason_is_sealed(shared: House) -> None:
    asking.ask(shared, reason="for the IRB of a canary")
    assert b"canary" not in b"".join(
        path.read_bytes() for path in (shared.settings.state_dir / "journal").iterdir()
    )


# who answers


def test_nobody_approves_his_own_request(shared: House) -> None:
    own = asking.ask(shared, asking.OWNER)
    for said in ("approve", "reject"):
        with pytest.raises(AccessDenied, match="nobody answers his own"):
            asking.answer(shared, own, asking.OWNER, said, reason="me")
    assert asking.answer(shared, own, asking.SECOND).grant is not None


def test_the_catalogue_itself_refuses_an_answer_to_oneself(shared: House) -> None:
    asked = asking.ask(shared, asking.OWNER)
    draft = answer_request._answered(shared, asking.OWNER, asked, "reject", "me")
    with pytest.raises(InvalidInput, match="somebody else"):
        shared.record(draft)


@pytest.mark.parametrize(
    "who", [asking.TRAINER, asking.COLLEAGUE, caller("clinic", "aud", "auditor")]
)
def test_only_owners_of_the_data_approve(shared: House, who: Caller) -> None:
    asked = asking.ask(shared)
    with pytest.raises(AccessDenied):
        asking.answer(shared, asked, who)
    assert shared.catalog.request(asked.id).answer is None


def test_other_tenants_see_no_request(shared: House) -> None:
    asked = asking.ask(shared)
    assert run(ask_person.list_(shared, asking.RIVAL, {})) == []
    words = []
    for request in (asked.id, "req_" + "a" * 26):
        for act in (
            ask_person.show(shared, asking.RIVAL, request),
            answer_request.answer(
                shared, asking.RIVAL, request, W.RequestAnswer(decision="approve")
            ),
        ):
            with pytest.raises(NotFound) as caught:
                run(act)
            words.append(caught.value.message.replace(request, "X"))
    assert len(set(words)) == 1


# explaining


def test_the_asker_reads_the_state_and_the_owner_the_rules(shared: House) -> None:
    asked = asking.ask(shared)
    told = run(ask_person.explain(shared, asking.TRAINER, asked.id))
    assert told.sentences == ("a person of `clinic` must approve this: pending",)
    assert told.candidates == ()
    full = run(ask_person.explain(shared, asking.OWNER, asked.id))
    assert [candidate.rule for candidate in full.candidates] == [
        "clinic.icu.asked",
        "clinic.icu.open",
    ]
    assert not any("changed since" in sentence for sentence in full.sentences)
    auditor = run(ask_person.explain(shared, caller("clinic", "eva", "auditor"), asked.id))
    assert auditor.candidates == full.candidates
    with pytest.raises(AccessDenied):
        run(ask_person.explain(shared, caller("clinic", "clerk", "clerk"), asked.id))
    with pytest.raises(NotFound):
        run(ask_person.explain(shared, asking.RIVAL, asked.id))
