"""What an explanation of a decision says, and to whom it says nothing."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.access import Subject
from gateway.policy.judge import Judge

from .scene import (
    ICU,
    NOW,
    TRAINER,
    ask,
    bundle,
    codes,
    deny,
    judge,
    request,
    rule,
)


def test_a_denial_says_what_would_have_to_change_only_if_a_rule_permits_it() -> None:
    silent = judge(rule(purpose=["health-research"]))
    decision = ask(silent, purpose="marketing")
    assert (codes(decision), decision.advice) == (["no-rule"], None)
    speaking = judge(rule(purpose=["health-research"], explain="requester"))
    decision = ask(speaking, purpose="marketing")
    assert codes(decision) == ["purpose-not-permitted"]
    assert decision.advice == "purpose must be within `health-research`"


def test_advice_never_comes_from_a_rule_that_keeps_its_reasons_to_itself() -> None:
    judged = judge(
        rule(when="subject.clearance >= 4", accepts=["recipient"]),
        rule(id="clinic.icu.open", purpose=["audit"], explain="requester"),
    )
    decision = ask(judged)
    assert decision.advice == "purpose must be within `audit`"
    secret = judge(rule(), deny(description="we distrust the startup"))
    assert ask(secret).advice is None
    spoken = judge(rule(), deny(description="ask again after the audit", explain="requester"))
    assert ask(spoken).advice == "ask again after the audit"
    assert ask(spoken).reasons[0].rule == "clinic.icu.deny"


def test_what_no_rule_names_is_invisible() -> None:
    judged = judge(rule())
    assert judged.is_visible(TRAINER, ICU, NOW)
    assert not judged.is_visible(replace(TRAINER, roles=()), ICU, NOW)
    assert not judge(deny()).is_visible(TRAINER, ICU, NOW)
    assert not judge(rule(expires="2026-01-01")).is_visible(TRAINER, ICU, NOW)
    hostile = Subject(id="startup/ml", tenant="evil", type="job", roles=("trainer",))
    assert not judged.is_visible(hostile, ICU, NOW)


def test_an_explanation_shows_every_candidate_and_the_nearest_allow() -> None:
    judged = judge(
        rule(
            purpose=["audit"],
            when="subject.clearance >= 3 and has context.mfa",
            accepts=["recipient"],
        ),
        rule(id="clinic.icu.near", when="workload.attested == true or context.mfa == true"),
        deny(when="subject.type == 'person'"),
    )
    found = judged.explain(request(), ICU, NOW)
    assert found.effect == "deny"
    assert [c.rule for c in found.candidates] == [
        "clinic.icu.deny",
        "clinic.icu.near",
        "clinic.icu.research",
    ]
    assert found.nearest == "clinic.icu.near"
    assert found.changes == ("`workload.attested == true` must hold",)
    near = found.candidates[1]
    assert near.truth == "UNKNOWN"
    assert near.conditions[0].parts[0].truth == "UNKNOWN"
    assert found.to_dict()["candidates"][2]["changes"][0] == "purpose must be within `audit`"


def test_the_nearest_allow_may_be_one_that_holds_behind_a_deny() -> None:
    other = rule(id="clinic.icu.audit", purpose=["audit"])
    found = judge(rule(), other, deny(when="subject.type == 'job'")).explain(request(), ICU, NOW)
    assert (found.effect, found.nearest, found.changes) == ("deny", "clinic.icu.research", ())


def test_an_explanation_names_every_kind_of_change() -> None:
    judged = judge(
        rule(expires="2020-01-01"),
        rule(id="clinic.icu.b", splits=["train", "test"]),
        rule(id="clinic.icu.c", when="not subject.type == 'job' and has context.mfa"),
        rule(id="clinic.icu.d", when="workload.attested == true or true"),
    )
    found = judged.explain(request(), ICU, NOW)
    assert [c.changes for c in found.candidates] == [
        ("split must be `train` or `test`",),
        ("`subject.type == 'job'` must not hold", "`context.mfa` must be known"),
        ("`workload.attested == true` must hold",),
        ("the rule must be renewed, it has expired",),
    ]
    assert found.candidates[0].conditions[0].text == "split in (train, test)"
    assert found.candidates[3].conditions[0].text == "before 2020-01-02T00:00:00+00:00"
    assert found.candidates[1].conditions[0].parts[0].parts[0].truth == "TRUE"


def test_a_request_that_cannot_be_judged_is_explained_as_an_error() -> None:
    broken = replace(ICU, columns=(None,))  # type: ignore[arg-type]
    found = judge(rule()).explain(request(), broken, NOW)
    assert (found.effect, found.reasons, found.candidates) == ("deny", ("error",), ())


def test_a_condition_that_fails_is_explained_as_unknown() -> None:
    class Broken:
        def judge(self, _: object) -> bool:
            raise RuntimeError("never seen")

        def reads(self) -> frozenset[str]:
            return frozenset()

        def text(self) -> str:
            return "broken"

        def parts(self) -> tuple[()]:
            return ()

    read = bundle(rule())
    rules = (replace(read.rules[0], when=Broken()),)  # type: ignore[arg-type]
    found = Judge.build([replace(read, rules=rules)]).explain(request(), ICU, NOW)
    assert found.candidates[0].conditions[0].truth == "UNKNOWN"


def test_a_purpose_a_rule_needs_is_unknown_when_none_is_given() -> None:
    judged = judge(
        rule(actions=["describe"], columns=None), deny(actions=["describe"], purpose=["marketing"])
    )
    assert codes(ask(judged, action="describe", purpose=None)) == ["denied-by-rule"]
    assert ask(judged, action="describe", purpose="research").is_allowed


def test_a_deny_that_may_speak_says_what_must_not_hold() -> None:
    judged = judge(rule(), deny(when="subject.type == 'job'", explain="requester"))
    assert ask(judged).advice == "`subject.type == 'job'` must not hold"
    judged = judge(rule(), deny(explain="requester"))
    assert ask(judged).advice == "a rule forbids this action"
