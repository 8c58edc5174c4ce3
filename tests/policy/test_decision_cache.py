"""A remembered Decision is the one that would be made now, or it is not used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.access import AccessRequest, Decision
from gateway.domain.dataset import Column
from gateway.policy import judge as judging
from gateway.policy.judge import Judge

from .scene import ICU, NOW, TRAINER, deny, judge, request, rule
from .test_properties import CHECK, REQUESTS, RULES, essence, read

ACCEPTS = {"accepts": ["recipient"]}


def ask(judged: Judge, wanted: AccessRequest, now: float = NOW, **changes: Any) -> Decision:
    resource = replace(ICU, **changes) if changes else ICU
    return judged.decide(
        wanted, resource, decision_id="dec_x", now=now, policy_epoch=1, catalog_index=1
    )


def test_true_is_not_taken_for_one() -> None:
    judged = judge(rule(when="subject.clearance >= 1", **ACCEPTS))
    number = request(subject=replace(TRAINER, attributes={"clearance": 1}))
    flag = request(subject=replace(TRAINER, attributes={"clearance": True}))
    assert ask(judged, number).is_allowed
    assert not ask(judged, flag).is_allowed
    assert ask(judged, number).is_allowed


def test_two_equal_mappings_in_another_order_do_not_swap_their_types() -> None:
    judged = judge(rule(when="subject.clearance >= 1 and subject.trained == true", **ACCEPTS))
    right = request(subject=replace(TRAINER, attributes={"clearance": 1, "trained": True}))
    wrong = request(subject=replace(TRAINER, attributes={"trained": 1, "clearance": True}))
    assert ask(judged, right).is_allowed
    assert not ask(judged, wrong).is_allowed


def test_a_question_that_its_asker_changed_is_another_one() -> None:
    values: dict[str, Any] = {"clearance": 1}
    judged = judge(rule(when="subject.clearance >= 1", **ACCEPTS))
    wanted = request(subject=replace(TRAINER, attributes=values))
    assert ask(judged, wanted).is_allowed
    values["clearance"] = 0
    assert not ask(judged, wanted).is_allowed
    context: dict[str, Any] = {"mfa": True}
    judged = judge(rule(when="context.mfa == true", accepts=["requester"]))
    wanted = request(context=context)
    assert ask(judged, wanted).is_allowed
    context.clear()
    assert not ask(judged, wanted).is_allowed


def test_a_filter_by_the_time_is_bound_anew_beside_a_rule_that_holds_alike() -> None:
    where = "seen > :context.time"
    judged = judge(rule(columns=["age"]), rule(id="clinic.later", columns=["age"], where=where))
    seen = Column(field_id=9, name="seen", type="timestamp[us, tz=UTC]", tags=("public",))
    filters = []
    for later in (0, 3600):
        found = ask(judged, request(), now=NOW + later, columns=(*ICU.columns, seen))
        assert found.plan is not None, found
        filters.append(found.plan.row_filter)
    assert filters[0] != filters[1]


def test_an_answer_ends_when_one_of_its_rules_expires() -> None:
    judged = judge(rule(expires="2027-01-16"))  # NOW is the day before
    wanted = request()
    assert ask(judged, wanted).is_allowed
    assert not ask(judged, wanted, now=NOW + 2 * 86_400).is_allowed


def test_an_answer_of_later_is_no_answer_of_earlier() -> None:
    judged = judge(rule(), deny(expires="2027-01-16"))
    wanted = request()
    assert ask(judged, wanted, now=NOW + 2 * 86_400).is_allowed
    assert not ask(judged, wanted, now=NOW).is_allowed


def test_a_suspended_dataset_is_denied_though_it_was_allowed_a_moment_ago() -> None:
    judged = judge(rule())
    assert ask(judged, request()).is_allowed
    assert not ask(judged, request(), suspended=True).is_allowed


def test_a_column_tagged_anew_is_withheld_though_it_was_given_a_moment_ago() -> None:
    judged = judge(rule(columns=None, tags=["public"]))
    assert ask(judged, request()).is_allowed
    tagged = tuple(replace(c, tags=("pii.direct",)) for c in ICU.columns)
    assert not ask(judged, request(), columns=tagged).is_allowed


def test_the_end_of_a_grant_is_counted_from_each_asking() -> None:
    judged = judge(rule(limits={"valid": "1h"}))
    first, later = (ask(judged, request(), now=now) for now in (NOW, NOW + 60))
    assert first.plan
    assert later.plan
    assert (later.plan.limits.expires_at or 0) - (first.plan.limits.expires_at or 0) == 60


def test_rows_that_depend_on_the_time_are_those_of_each_asking() -> None:
    until = Column(field_id=8, name="until", type="timestamp[us, tz=UTC]", tags=("public",))
    judged = judge(rule(where='"until" > :context.time'))
    columns = (*ICU.columns, until)
    for now, hour in ((NOW, "08"), (NOW + 3600, "09")):
        plan = ask(judged, request(), now=now, columns=columns).plan
        assert plan
        assert plan.row_filter == ("cmp", ">", "until", ("ts", f"2027-01-15T{hour}:00:00+00:00"))


def test_what_was_unknown_is_asked_again(monkeypatch: Any) -> None:
    judged = judge(rule(when="subject.clearance >= 1", **ACCEPTS))
    assert ask(judged, request()).reasons == ask(judged, request()).reasons
    assert _times_judged(monkeypatch, judged, request()) == 1


def test_the_same_question_is_judged_once(monkeypatch: Any) -> None:
    judged = judge(rule())
    ask(judged, request())
    assert _times_judged(monkeypatch, judged, request()) == 0


def _times_judged(monkeypatch: Any, judged: Judge, wanted: AccessRequest) -> int:
    judgings = []
    real = judging.Trial

    def counted(*args: Any) -> Any:
        judgings.append(args)
        return real(*args)

    monkeypatch.setattr(judging, "Trial", counted)
    ask(judged, wanted)
    return len(judgings)


@CHECK
@given(RULES, st.lists(st.tuples(REQUESTS, st.sampled_from([-1, 0, 86_400])), max_size=6))
def test_with_a_memory_every_answer_is_the_same(
    rules: list[dict[str, Any]], asked: list[tuple[dict[str, Any], int]]
) -> None:
    bundle = read(rules)
    remembering = Judge.build([bundle])
    for fields, later in [*asked, *asked]:
        wanted = request(**fields)
        fresh = ask(Judge.build([bundle]), wanted, now=NOW + later)
        assert essence(ask(remembering, wanted, now=NOW + later)) == essence(fresh)
