"""What a yes permits, to whom, until when; and all that it does not."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.access import Limits
from gateway.domain.approval import OUTDATED, REQUIRED
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.errors import (
    AccessDenied,
    Conflict,
    GatewayError,
    InvalidInput,
)
from gateway.services import (
    answer_request,
    ask_person,
    request_access,
    revoke,
    stream,
)
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.revoke import Selector
from tests.services.asking import (
    ASK,
    COLLEAGUE,
    DAY,
    OWNER,
    RULES,
    SECOND,
    TRAINER,
    answer,
    ask,
    check,
    codes,
    get,
    prepared,
    shared,
)
from tests.services.conftest import open_house
from tests.services.simulator import add_rules
from tests.services.test_access import run

__all__ = ["prepared", "shared"]

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
