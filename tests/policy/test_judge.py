"""The judge: refusals first, then what is permitted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.access import DATA_ACTIONS, Effect, Resource, Subject
from gateway.domain.dataset import Column, DatasetRef
from gateway.errors import AccessDenied, InvalidInput
from gateway.policy import packs
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.policy.schema import Schema, default_schema

from .scene import (
    COLUMNS,
    ICU,
    REF,
    TRAINER,
    ask,
    bundle,
    codes,
    deny,
    judge,
    masks,
    names,
    restrict,
    rule,
)


def test_an_empty_policy_set_denies_everything() -> None:
    for judged in (Judge.build([]), judge()):
        for action in ("discover", "stream", "operate", "publish"):
            decision = ask(judged, action=action)
            assert decision.effect is Effect.DENY
            assert codes(decision) == ["no-rule"]


def test_an_empty_policy_set_denies_even_a_request_of_empty_texts() -> None:
    nobody = Subject(id="", tenant="", type="")
    assert not ask(Judge.build([]), subject=nobody, action="", purpose="").is_allowed


def test_a_decision_has_no_truth_value_and_a_denial_raises() -> None:
    decision = ask(judge())
    with pytest.raises(TypeError):
        bool(decision)
    with pytest.raises(AccessDenied) as caught:
        decision.require()
    assert caught.value.decision == "dec_test"
    assert caught.value.facts["reasons"] == ["no-rule"]


def test_a_data_action_without_purpose_is_denied() -> None:
    for action in DATA_ACTIONS:
        decision = ask(judge(rule(actions=[action])), action=action, purpose=None)
        assert codes(decision) == ["purpose-missing"]


def test_a_purpose_nobody_knows_is_denied() -> None:
    assert codes(ask(judge(rule()), purpose="world-domination")) == ["purpose-unknown"]


def test_a_grant_for_research_does_not_open_a_marketing_stream() -> None:
    judged = judge(rule(purpose=["research"]))
    assert not ask(judged, purpose="marketing").is_allowed
    assert not ask(judged, purpose="any").is_allowed
    assert ask(judged, purpose="disease-research").is_allowed


def test_an_action_nobody_knows_is_denied() -> None:
    assert codes(ask(judge(rule()), action="read")) == ["action-unknown"]


def test_another_action_another_role_another_dataset_are_denied() -> None:
    judged = judge(rule())
    assert not ask(judged, action="export").is_allowed
    assert not ask(judged, subject=replace(TRAINER, roles=("auditor",))).is_allowed
    other = DatasetRef("clinic", "labs", 1)
    decision = ask(judged, replace(ICU, dataset=other), dataset=other)
    assert not decision.is_allowed


def test_a_tenant_that_writes_anothers_principals_matches_nothing() -> None:
    judged = judge(rule(), rule(id="clinic.icu.user", principals=["startup/user:ml", "startup/*"]))
    for hostile in (
        Subject(id="startup/ml", tenant="evil", type="job", roles=("trainer",)),
        Subject(id="evil/ml", tenant="startup", type="job", roles=("trainer",)),
        Subject(id="evil/x", tenant="evil", type="job", roles=("startup/role:trainer",)),
        Subject(id="evil/startup/user:ml", tenant="evil", type="job"),
        Subject(id="evil/x", tenant="evil", type="job", roles=("trainer\nstartup/role:trainer",)),
        Subject(id="evil/*", tenant="evil", type="job"),
        Subject(id="x", tenant="startup/role:trainer", type="job"),
    ):
        assert not ask(judged, subject=hostile).is_allowed, hostile


def test_a_suspended_dataset_releases_nothing_but_can_be_described() -> None:
    judged = judge(rule(), rule(id="clinic.icu.see", actions=["describe"], columns=None))
    asleep = replace(ICU, suspended=True)
    assert codes(ask(judged, asleep)) == ["dataset-suspended"]
    assert ask(judged, asleep, action="describe").is_allowed


def test_an_expired_rule_permits_nothing() -> None:
    judged = judge(rule(expires="2027-01-14"))  # the day before NOW
    assert ask(judged, now=1_799_971_199).is_allowed
    assert not ask(judged, now=1_799_971_200).is_allowed


def test_deny_wins_at_any_scope_and_in_any_order() -> None:
    for extra in (
        deny(),
        deny(scope="tenant:clinic"),
        deny(scope="tag:health", principals=["*"]),
        deny(actions=["*"], principals=["startup/user:ml"]),
    ):
        for rules in ([rule(), extra], [extra, rule()]):
            assert codes(ask(judge(*rules))) == ["denied-by-rule"]


def test_unknown_counts_for_a_deny_and_never_for_an_allow() -> None:
    when = "subject.clearance >= 3"
    assert not ask(judge(rule(when=when, accepts=["recipient"]))).is_allowed
    judged = judge(rule(), deny(when=when, accepts=["recipient"]))
    assert codes(ask(judged)) == ["denied-by-rule"]
    low = replace(TRAINER, attributes={"clearance": 1})
    assert ask(judged, subject=low).is_allowed


def test_a_split_that_is_not_allowed_is_not_released_by_asking_for_everything() -> None:
    judged = judge(rule(splits=["train"]))
    assert ask(judged, split="train").is_allowed
    assert not ask(judged, split="test").is_allowed
    assert not ask(judged, split=None).is_allowed
    assert codes(ask(judged, split="nope")) == codes(ask(judged, split="test")) == ["no-rule"]
    assert codes(ask(judge(rule()), split="nope")) == ["split-unknown"]


@pytest.mark.parametrize(
    "when",
    ["resource.split == 'train'", "resource.split != 'test'", "not resource.split == 'test'"],
)
def test_a_condition_on_the_split_releases_no_other_and_not_the_whole(when: str) -> None:
    for judged in (
        judge(rule(when=when)),
        judge(rule(), deny(when=f"not ({when})")),
    ):
        assert ask(judged, split="train").is_allowed
        assert not ask(judged, split="test").is_allowed
        assert not ask(judged, split=None).is_allowed


def test_request_and_resource_must_be_the_same_thing() -> None:
    judged = judge(rule())
    other = replace(ICU, dataset=DatasetRef("clinic", "labs", 1))
    assert codes(ask(judged, other)) == ["error"]
    assert codes(ask(judged, replace(ICU, tenant="evil"))) == ["error"]
    assert codes(ask(judged, replace(ICU, dataset=REF.unversioned))) == ["error"]


def test_an_error_inside_is_a_denial_that_says_so() -> None:
    broken = replace(ICU, columns=(None,))  # type: ignore[arg-type]
    assert codes(ask(judge(rule()), broken)) == ["error"]


def test_an_error_in_one_rule_touches_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def judge(self, _: object) -> bool:
            raise RuntimeError("never seen")

        def reads(self) -> frozenset[str]:
            return frozenset()

    good, bad = bundle(rule()), bundle(rule(id="clinic.icu.broken"))
    rules = (*good.rules, replace(bad.rules[0], when=Broken()))  # type: ignore[arg-type]
    assert ask(Judge.build([replace(good, rules=rules)])).is_allowed
    denying = replace(rules[1], kind="deny", columns=())
    judged = Judge.build([replace(good, rules=(rules[0], denying))])
    assert codes(ask(judged)) == ["denied-by-rule"]


def test_an_obligation_this_gateway_does_not_know_denies() -> None:
    written = bundle(rule(obligations={"no_redistribution": True}))
    assert ask(Judge.build([written])).is_allowed
    poorer = Schema(attributes=default_schema().attributes, obligations={})
    assert codes(ask(Judge.build([written], poorer))) == ["obligation-unknown"]


def test_rules_that_disagree_about_an_obligation_deny() -> None:
    judged = judge(
        rule(obligations={"delete_after": "P30D"}), restrict(obligations={"delete_after": "P7D"})
    )
    assert codes(ask(judged)) == ["obligation-conflict"]


def test_a_filter_that_cannot_be_applied_denies() -> None:
    for where in ("gone = 1", "age = 'old'", "notes < 3"):
        assert codes(ask(judge(rule(where=where)))) == ["filter-unusable"]
    judged = judge(rule(where="site = :subject.region", accepts=["recipient"]))
    assert codes(ask(judged)) == ["filter-unusable"]
    decision = ask(judged, subject=replace(TRAINER, attributes={"region": "a' or true"}))
    assert decision.plan is not None
    assert decision.plan.row_filter == ("cmp", "==", "site", ("str", "a' or true"))


def test_two_bundles_of_one_tenant_are_refused() -> None:
    with pytest.raises(InvalidInput):
        Judge.build([bundle(rule()), bundle()])


def test_operators_get_no_data_and_owners_get_none_by_role_alone() -> None:
    platform = PolicyBundle.read(packs.load("platform", "platform"), "platform")
    clinic = PolicyBundle.read(packs.load("tenant", "clinic"), "clinic")
    judged = Judge.build([platform, clinic])
    operator = Subject(id="platform/op", tenant="platform", type="person", roles=("operator",))
    owner = Subject(id="clinic/ada", tenant="clinic", type="person", roles=("owner",))
    for action in DATA_ACTIONS:
        assert not ask(judged, subject=operator, action=action).is_allowed
        assert not ask(judged, subject=owner, action=action).is_allowed
    assert not ask(judged, subject=operator, action="publish").is_allowed
    assert ask(judged, subject=operator, action="revoke").is_allowed
    assert ask(judged, subject=owner, action="publish").is_allowed
    assert not ask(judged, subject=TRAINER, action="publish").is_allowed


def test_a_decision_names_what_it_was_judged_by() -> None:
    judged = judge(rule())
    decision = ask(judged)
    assert (decision.id, decision.policy_epoch, decision.catalog_index) == ("dec_test", 7, 9)
    assert decision.bundle == judged.digest
    assert judge(rule(columns=["age"])).digest != judged.digest
    assert judge(rule()).digest == judged.digest


def test_casbins_answer_is_needed_and_it_is_asked_about_denies_too() -> None:
    class Loop:
        def __init__(self, *, answer: bool) -> None:
            self.answer = answer
            self.effects: list[str] = []

        def allows(self, _: object, rows: list[tuple[str, ...]]) -> bool:
            self.effects = sorted(row[-1] for row in rows)
            return self.answer

    judged = judge(rule(), restrict(where="age > 3"))
    loop = Loop(answer=False)
    judged._loop = loop  # type: ignore[assignment]
    assert codes(ask(judged)) == ["no-rule"]
    assert loop.effects == ["allow"]
    judged = judge(rule(), deny(), restrict(where="age > 3"))
    loop = Loop(answer=True)
    judged._loop = loop  # type: ignore[assignment]
    assert codes(ask(judged)) == ["denied-by-rule"]
    assert loop.effects == ["allow", "deny"]


def test_a_subject_that_is_not_well_formed_is_refused_before_any_rule() -> None:
    for hostile in (
        replace(TRAINER, roles=("trainer", "startup/role:owner")),
        replace(TRAINER, roles=("Trainer",)),
        replace(TRAINER, id="startup/role:trainer"),
        replace(TRAINER, id="ml"),
        replace(TRAINER, tenant="startup/x"),
        replace(TRAINER, id=None),  # type: ignore[arg-type]
    ):
        assert codes(ask(judge(rule()), subject=hostile)) == ["subject-invalid"]


def test_a_tag_is_above_another_by_words_not_by_letters() -> None:
    alike = Column(field_id=9, name="alike", type="int64", tags=("piimento",))
    columns = replace(ICU, columns=(*COLUMNS, alike))
    judged = judge(rule(columns=["alike", "age"], tag_masks={"pii": "x-bucket:5"}))
    assert masks(ask(judged, columns)) == {"alike": None, "age": "x-bucket:5"}
    assert "alike" not in names(ask(judge(rule(columns=None, tags=["pii"])), columns))


def test_a_resource_without_dataset_is_judged_by_tenant_scopes() -> None:
    clinic = PolicyBundle.read(packs.load("tenant", "clinic"), "clinic")
    judged = Judge.build([clinic])
    owner = Subject(id="clinic/ada", tenant="clinic", type="person", roles=("owner",))
    nothing = Resource(tenant="clinic")
    assert ask(judged, nothing, subject=owner, action="publish", dataset=None).is_allowed
    assert not ask(judged, nothing, subject=owner, action="operate", dataset=None).is_allowed


def test_locked_data_goes_nowhere_when_nobody_accepted_says_where_it_goes() -> None:
    here = replace(TRAINER, attributes={"region": "eu"})
    locked = rule(obligations={"region_lock": "eu, ch"})
    for judged, subject, context in (
        (judge(locked), TRAINER, {}),
        (judge(locked), here, {}),  # the recipient's own word, which the rule does not accept
        (judge({**locked, "accepts": ["recipient"]}), TRAINER, {}),
        (
            judge({**locked, "accepts": ["recipient"]}),
            replace(here, attributes={"region": "us"}),
            {},
        ),
        (judge({**locked, "accepts": ["recipient"]}), here, {"workload.region": "us"}),
        (judge(locked), TRAINER, {"workload.region": "eu, ch"}),
    ):
        assert codes(ask(judged, subject=subject, context=context)) == ["region-locked"]


def test_locked_data_goes_where_an_accepted_authority_says_it_may() -> None:
    here = replace(TRAINER, attributes={"region": "ch"})
    locked = rule(obligations={"region_lock": "eu, ch"})
    assert ask(judge(locked), context={"workload.region": "eu"}).is_allowed
    assert ask(judge({**locked, "accepts": ["recipient"]}), subject=here).is_allowed
    narrow = restrict(obligations={"region_lock": "eu"})
    assert codes(ask(judge(rule(), narrow))) == ["region-locked"]
