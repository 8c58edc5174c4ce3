"""Asking a person: what a yes permits, to whom, until when; and all that it does not."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gateway.wire as W
from gateway import bootstrap
from gateway.catalog.records import Asked
from gateway.config import Settings
from gateway.domain.access import Decision, Limits
from gateway.domain.approval import OUTDATED, REQUIRED
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.errors import (
    AccessDenied,
    Conflict,
    GatewayError,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from gateway.services import (
    answer_request,
    ask_person,
    enforcement,
    publish,
    request_access,
    revoke,
    stream,
)
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.services.revoke import Selector
from tests.services.conftest import open_house
from tests.services.simulator import add_rules, add_tenant, add_version, caller
from tests.services.test_access import kinds, run

RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.asked
    kind: allow
    principals: [startup/role:trainer, clinic/role:owner]
    scope: dataset:clinic/icu
    actions: [stream, request]
    purpose: [health-research]
    columns: [age, hr, label]
    masks: {age: "x-bucket:10"}
    limits: {max_rows: 1000}
    obligations: {require_approval: true}
  - id: clinic.icu.open
    kind: allow
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream, request]
    purpose: [safety]
    columns: [name]
"""
OWNER = caller("clinic", "owner", "owner")
SECOND = caller("clinic", "second", "owner")
TRAINER = caller("startup", "ml", "trainer")
COLLEAGUE = caller("startup", "other", "trainer")
RIVAL = caller("rival", "spy", "trainer", "owner", "auditor")
ASK = Ask(dataset="clinic/icu", purpose="health-research", columns=("age", "hr"))
DAY = 24 * 3600


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house with three tenants and the rules, at rest; each test works on a copy."""
    base = tmp_path_factory.mktemp("prepared")
    bootstrap.init(settings_in(base))
    house = open_house(settings_in(base))

    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"), ("second", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"), ("other", "trainer"))
        await add_tenant(house, "rival", ("spy", "trainer"))
        add_version(house, "clinic", "icu", ["age", "hr", "label", "name"])
        await add_rules(house, "clinic", RULES)

    run(arrange())
    house.journal.close()
    return base


def settings_in(base: Path) -> Settings:
    return Settings(state_dir=base / "state", config_dir=base / "config", runtime_dir=base / "run")


@pytest.fixture
def shared(prepared: Path, tmp_path: Path) -> Iterator[House]:
    base = shutil.copytree(prepared, tmp_path / "own")
    house = open_house(settings_in(base))
    yield house
    house.journal.close()


def ask(house: House, who: Caller = TRAINER, wanted: Ask = ASK, **more: Any) -> Asked:
    said = {"valid": None, "reason": None, **more}
    asked: Asked = run(ask_person.ask(house, who, wanted, **said))
    return asked


def answer(
    house: House, asked: Asked, who: Caller = OWNER, said: str = "approve", **more: Any
) -> Asked:
    wanted = W.RequestAnswer(decision=said, **more)
    answered: Asked = run(answer_request.answer(house, who, asked.id, wanted))
    return answered


def check(
    house: House, wanted: Ask = ASK, who: Caller = TRAINER, at: float | None = None
) -> Decision:
    decision: Decision = run(request_access.check(house, who, wanted, at))
    return decision


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def get(house: House, wanted: Ask = ASK, who: Caller = TRAINER) -> Grant:
    grant: Grant = run(request_access.request_grant(house, who, wanted))[1]
    return grant


# before anybody said yes


def test_without_an_approval_it_is_denied_with_the_command_that_asks(shared: House) -> None:
    decision = check(shared)
    assert codes(decision) == [REQUIRED]
    assert decision.advice == (
        "ask: `gateway access request clinic/icu --purpose health-research --columns age,hr "
        "--reason WHY`"
    )
    with pytest.raises(AccessDenied):
        get(shared)
    assert shared.catalog.grants() == []


def test_what_needs_no_person_makes_no_request(shared: House) -> None:
    with pytest.raises(Conflict, match="allow this already"):
        ask(shared, wanted=Ask(dataset="clinic/icu", purpose="safety"))
    assert shared.catalog.requests() == []


def test_what_the_rules_deny_nobody_can_be_asked_for(shared: House) -> None:
    start = shared.journal.durable_size
    with pytest.raises(AccessDenied):
        ask(shared, wanted=Ask(dataset="clinic/icu", purpose="health-research", columns=("name",)))
    with pytest.raises(AccessDenied):
        ask(shared, wanted=Ask(dataset="clinic/icu", purpose="marketing"))
    assert kinds(shared, start) == [EventKind.AccessDecided] * 2


def test_who_may_not_even_ask_is_denied(shared: House) -> None:
    narrower = RULES.replace("[stream, request]", "[stream]")
    run(add_rules(shared, "clinic", narrower))
    with pytest.raises(AccessDenied):
        ask(shared)
    assert shared.catalog.requests() == []


def test_what_is_unseen_and_what_is_not_there_cannot_be_asked_for_alike(shared: House) -> None:
    words, costs = [], []
    for name in ("clinic/icu", "clinic/nothing"):
        start = shared.journal.durable_size
        with pytest.raises(NotFound) as caught:
            ask(shared, RIVAL, dataclasses.replace(ASK, dataset=name))
        words.append(caught.value.message.replace(name, "X"))
        costs.append(len(kinds(shared, start)))
    assert len(set(words)) == 1
    assert costs == [1, 1]


def test_asking_twice_is_one_question(shared: House) -> None:
    first = ask(shared, reason="IRB 2026-17")
    assert ask(shared).id == first.id
    assert ask(shared, COLLEAGUE).id != first.id
    assert [asked.reason for asked in shared.catalog.requests("startup/ml")] == ["IRB 2026-17"]


def test_a_subject_cannot_fill_the_queue(shared: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_person, "PENDING_MAX", 2)
    for rows in (1, 2):
        ask(shared, wanted=dataclasses.replace(ASK, limits=Limits(max_rows=rows)))
    with pytest.raises(LimitExceeded):
        ask(shared)
    assert ask(shared, COLLEAGUE).answer is None


def test_the_reason_is_sealed(shared: House) -> None:
    ask(shared, reason="for the IRB of a canary")
    assert b"canary" not in b"".join(
        path.read_bytes() for path in (shared.settings.state_dir / "journal").iterdir()
    )


# who answers


def test_nobody_approves_his_own_request(shared: House) -> None:
    own = ask(shared, OWNER)
    for said in ("approve", "reject"):
        with pytest.raises(AccessDenied, match="nobody answers his own"):
            answer(shared, own, OWNER, said, reason="me")
    assert answer(shared, own, SECOND).grant is not None


def test_the_catalogue_itself_refuses_an_answer_to_oneself(shared: House) -> None:
    asked = ask(shared, OWNER)
    draft = answer_request._answered(shared, OWNER, asked, "reject", "me")
    with pytest.raises(InvalidInput, match="somebody else"):
        shared.record(draft)


@pytest.mark.parametrize("who", [TRAINER, COLLEAGUE, caller("clinic", "aud", "auditor")])
def test_only_owners_of_the_data_approve(shared: House, who: Caller) -> None:
    asked = ask(shared)
    with pytest.raises(AccessDenied):
        answer(shared, asked, who)
    assert shared.catalog.request(asked.id).answer is None


def test_other_tenants_see_no_request(shared: House) -> None:
    asked = ask(shared)
    assert run(ask_person.list_(shared, RIVAL, {})) == []
    words = []
    for request in (asked.id, "req_" + "a" * 26):
        for act in (
            ask_person.show(shared, RIVAL, request),
            answer_request.answer(shared, RIVAL, request, W.RequestAnswer(decision="approve")),
        ):
            with pytest.raises(NotFound) as caught:
                run(act)
            words.append(caught.value.message.replace(request, "X"))
    assert len(set(words)) == 1


# what a yes permits


def test_an_approval_becomes_the_askers_grant(shared: House) -> None:
    asked = ask(shared, valid="7d", reason="IRB 2026-17")
    epoch = shared.catalog.policy_epoch
    answered = answer(shared, asked, reason="fine")
    assert answered.grant is not None
    grant = shared.catalog.grant(answered.grant)
    assert (grant.subject, grant.plan.names) == ("startup/ml", ("age", "hr"))
    assert grant.expires_at <= shared.now() + 7 * DAY
    assert check(shared).is_allowed
    assert get(shared).id == grant.id
    assert shared.catalog.policy_epoch == epoch


def test_an_approval_is_for_one_subject(shared: House) -> None:
    answer(shared, ask(shared))
    assert codes(check(shared, who=COLLEAGUE)) == [REQUIRED]


def test_every_run_has_its_part_and_all_are_charged_together(shared: House) -> None:
    answered = answer(shared, ask(shared))
    first = get(shared, dataclasses.replace(ASK, run="one"))
    again = get(shared, dataclasses.replace(ASK, run="one"))
    second = get(shared, dataclasses.replace(ASK, run="two"))
    assert first.id == again.id != second.id
    assert {first.parent, second.parent} == {answered.grant}
    assert second.plan.limits.max_rows == 1000


def test_ranks_that_ask_at_once_share_one_part_of_one_approval(shared: House) -> None:
    answered = answer(shared, ask(shared))

    async def launch() -> list[Grant]:
        wanted = dataclasses.replace(ASK, run="one")
        asks = (request_access.request_grant(shared, TRAINER, wanted) for _ in range(8))
        return [grant for _, grant in await asyncio.gather(*asks)]

    grants = run(launch())
    assert {(grant.id, grant.parent) for grant in grants} == {(grants[0].id, answered.grant)}


def test_a_request_for_one_run_is_for_that_run(shared: House) -> None:
    answered = answer(shared, ask(shared, wanted=dataclasses.replace(ASK, run="one")))
    assert get(shared, dataclasses.replace(ASK, run="one")).id == answered.grant
    assert codes(check(shared, dataclasses.replace(ASK, run="two"))) == [REQUIRED]


def test_fewer_columns_can_be_approved(shared: House) -> None:
    answered = answer(shared, ask(shared), narrow_columns=("hr",))
    assert answered.grant is not None
    assert shared.catalog.grant(answered.grant).plan.names == ("hr",)
    decision = check(shared)
    assert decision.plan is not None
    assert decision.plan.names == ("hr",)
    assert "column `age` is withheld" in [reason.text for reason in decision.reasons]
    only_age = dataclasses.replace(ASK, columns=("age",))
    assert codes(check(shared, only_age)) == [REQUIRED, OUTDATED]


def test_what_was_not_asked_for_cannot_be_approved(shared: House) -> None:
    asked = ask(shared)
    for names in (("label",), ("name",), ()):
        with pytest.raises(InvalidInput):
            answer(shared, asked, narrow_columns=names)
    assert answer(shared, asked, valid="400d").given_until is not None


def test_the_shortest_time_that_anybody_said_counts(shared: House) -> None:
    answered = answer(shared, ask(shared, valid="3d"), valid="90d")
    assert answered.given_until is not None
    assert answered.given_until <= shared.now() + 3 * DAY
    at = answered.given_until + 1
    assert codes(check(shared, at=at)) == [REQUIRED, OUTDATED]
    assert check(shared, at=at - 2).is_allowed


def test_the_grant_outlives_the_request(shared: House) -> None:
    answer(shared, ask(shared, valid="90d"))
    now = shared.now()
    shared.now = lambda: now + 60 * DAY
    assert get(shared).plan.names == ("age", "hr")


def test_it_survives_a_restart(shared: House) -> None:
    answered = answer(shared, ask(shared, reason="IRB"))
    shared.journal.close()
    again = open_house(shared.settings)
    try:
        assert again.catalog.request(answered.id) == answered
        assert get(again).id == answered.grant
    finally:
        again.journal.close()


# what ends it, and what it is bound to


def test_a_pending_request_expires(shared: House) -> None:
    asked = ask(shared)
    now = shared.now()
    shared.now = lambda: now + ask_person.PENDING_SECONDS + 1
    with pytest.raises(Conflict, match="expired already"):
        answer(shared, asked)
    assert run(ask_person.list_(shared, OWNER, {"pending": "true"})) == []
    assert ask(shared).id != asked.id


def test_a_rejection_tells_the_asker_why_and_is_final(shared: House) -> None:
    asked = ask(shared)
    with pytest.raises(InvalidInput, match="say why"):
        answer(shared, asked, said="reject")
    answer(shared, asked, said="reject", reason="no consent for this")
    assert run(ask_person.show(shared, TRAINER, asked.id)).answer_reason == "no consent for this"
    with pytest.raises(Conflict):
        answer(shared, asked)
    assert (
        answer(shared, asked, said="reject", reason="again").answer_reason == "no consent for this"
    )
    assert codes(check(shared)) == [REQUIRED]


def test_the_same_approval_twice_is_one_grant(shared: House) -> None:
    asked = ask(shared)
    first = answer(shared, asked, narrow_columns=("hr",))
    assert answer(shared, asked).grant == first.grant
    with pytest.raises(Conflict):
        answer(shared, asked, SECOND)
    assert len(shared.catalog.grants()) == 1


def test_a_gateway_killed_between_answer_and_grant_finishes_on_the_same_answer(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(shared)
    with monkeypatch.context() as killed:
        killed.setattr(answer_request, "_grant", lambda *_: None)
        answer(shared, asked, narrow_columns=("hr",), valid="1d")
    assert codes(check(shared)) == [REQUIRED]
    answered = answer(shared, asked, valid="30d")
    assert answered.grant is not None
    grant = shared.catalog.grant(answered.grant)
    assert grant.plan.names == ("hr",)
    assert grant.expires_at == answered.given_until


def test_a_withdrawn_approval_permits_nothing_and_raises_the_policy_epoch(shared: House) -> None:
    answered = answer(shared, ask(shared))
    grant = get(shared, dataclasses.replace(ASK, run="one"))
    epoch = shared.catalog.policy_epoch
    run(revoke.revoke(shared, OWNER, Selector(grant=answered.grant), "over"))
    assert shared.catalog.policy_epoch == epoch + 1
    assert shared.catalog.grant(grant.id).revoked
    decision = check(shared)
    assert codes(decision) == [REQUIRED, OUTDATED]
    assert "was withdrawn" in decision.reasons[1].text
    assert ask(shared).id != answered.id


def test_other_rules_than_those_asked_under_cannot_be_approved(shared: House) -> None:
    asked = ask(shared)
    run(add_rules(shared, "clinic", RULES.replace("x-bucket:10", "x-bucket:5")))
    with pytest.raises(Conflict, match="otherwise than when it was asked"):
        answer(shared, asked)
    assert shared.catalog.grants() == []


def test_an_approval_does_not_fit_another_plan(shared: House) -> None:
    answered = answer(shared, ask(shared))
    grant = shared.catalog.grant(answered.grant or "")
    run(add_rules(shared, "clinic", RULES.replace("x-bucket:10", "x-bucket:20")))
    decision = check(shared)
    assert codes(decision) == [REQUIRED, OUTDATED]
    assert "another plan" in decision.reasons[1].text
    with pytest.raises(GatewayError, match="another plan"):
        run(stream.judge_again(shared, grant))


def test_rules_that_change_elsewhere_leave_it_standing(shared: House) -> None:
    answered = answer(shared, ask(shared))
    run(add_rules(shared, "clinic", RULES + "    limits: {max_rows: 5}\n"))
    assert get(shared).id == answered.grant


def test_a_grant_from_before_an_approval_was_demanded_ends(shared: House) -> None:
    free = RULES.replace("    obligations: {require_approval: true}\n", "")
    run(add_rules(shared, "clinic", free))
    grant = get(shared)
    run(stream.judge_again(shared, grant))
    run(add_rules(shared, "clinic", RULES))
    with pytest.raises(AccessDenied, match="must approve"):
        run(stream.judge_again(shared, grant))
    with pytest.raises(AccessDenied, match="must approve"):
        get(shared, Ask(dataset="", parent=grant.id))


def test_a_grant_cut_from_an_approved_one_needs_no_other_approval(shared: House) -> None:
    answered = answer(shared, ask(shared))
    child = get(shared, Ask(dataset="", parent=answered.grant, columns=("hr",)))
    assert child.parent == answered.grant
    run(stream.judge_again(shared, child))


def test_the_catalogue_itself_refuses_a_grant_that_nobody_approved(shared: House) -> None:
    answered = answer(shared, ask(shared))
    event = next(
        e for e in shared.journal.read(0) if e.facts.get("grant") == answered.grant and e.details
    )
    for facts in (
        {"request": None},
        {"request": answered.id},  # it has its Grant
        {"request": "req_" + "a" * 26},
    ):
        fresh = {"decision": shared.id("dec_"), "grant": shared.id("grant_"), **facts}
        draft = EventDraft(
            kind=EventKind.AccessDecided,
            owner_tenant="clinic",
            actor_tenant="startup",
            actor="startup/ml",
            facts={**event.facts, **fresh},
            details=event.details or {},
        )
        with pytest.raises(InvalidInput):
            shared.record(draft)


def test_alternative_grants_are_not_joined_by_approvals(shared: House) -> None:
    asked = ask(shared)
    get(shared, Ask(dataset="clinic/icu", purpose="safety"))
    assert codes(check(shared)) == ["would-combine"]
    assert codes(check(shared, at=shared.now() + 60 * DAY)) == ["would-combine"]
    with pytest.raises(Conflict):
        answer(shared, asked)
    with pytest.raises(AccessDenied):
        ask(shared)


COLUMNS = st.sets(st.sampled_from(["age", "hr", "label"]), min_size=1).map(
    lambda s: tuple(sorted(s))
)
SPANS = st.one_of(st.none(), st.integers(1, 40).map(lambda days: f"{days}d"))
ROWS = st.one_of(st.none(), st.integers(1, 2000))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    asked_columns=st.one_of(st.none(), COLUMNS),
    narrowed=COLUMNS,
    later=st.one_of(st.none(), COLUMNS),
    spans=st.tuples(SPANS, SPANS),
    rows=st.tuples(ROWS, ROWS),
)
def test_an_approval_never_permits_more_than_its_request(
    shared: House,
    asked_columns: tuple[str, ...] | None,
    narrowed: tuple[str, ...],
    later: tuple[str, ...] | None,
    spans: tuple[str | None, str | None],
    rows: tuple[int | None, int | None],
) -> None:
    for old in shared.catalog.grants(subject="startup/ml"):
        if not old.revoked and old.parent is None:
            run(revoke.revoke(shared, OWNER, Selector(grant=old.id), "over"))
    wanted = Ask(
        dataset="clinic/icu",
        purpose="health-research",
        columns=asked_columns,
        limits=Limits(max_rows=rows[0]),
    )
    asked = ask(shared, wanted=wanted, valid=spans[0])
    assert asked.plan is not None
    chosen = tuple(name for name in narrowed if name in asked.plan.names) or None
    answered = answer(shared, asked, narrow_columns=chosen, valid=spans[1])
    given_ = shared.catalog.grant(answered.grant or "")
    assert given_.plan.is_within(asked.plan)
    for span in spans:
        if span is not None:
            assert given_.expires_at <= shared.now() + int(span[:-1]) * DAY
    exchange = dataclasses.replace(wanted, columns=later, limits=Limits(max_rows=rows[1]), run="r")
    try:
        got = get(shared, exchange)
    except AccessDenied:
        assert not set(later or ()) & set(given_.plan.names)
        return
    assert got.plan.is_within(given_.plan)
    assert got.expires_at <= given_.expires_at


# asking about others (threats.md 20)

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


# explaining


def test_the_asker_reads_the_state_and_the_owner_the_rules(shared: House) -> None:
    asked = ask(shared)
    told = run(ask_person.explain(shared, TRAINER, asked.id))
    assert told.sentences == ("a person of `clinic` must approve this: pending",)
    assert told.candidates == ()
    full = run(ask_person.explain(shared, OWNER, asked.id))
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
        run(ask_person.explain(shared, RIVAL, asked.id))
