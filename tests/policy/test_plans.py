"""What a Plan contains: columns, masks, an end."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.access import Limits
from gateway.domain.dataset import Column

from .scene import (
    COLUMNS,
    ICU,
    NOW,
    ask,
    codes,
    deny,
    judge,
    masks,
    names,
    restrict,
    rule,
)


def test_what_no_rule_releases_is_withheld_and_named_only_when_asked_for() -> None:
    judged = judge(rule())
    assert names(ask(judged)) == ("age", "site")
    decision = ask(judged, columns=("site", "email", "nonsense"))
    assert names(decision) == ("site",)
    assert codes(decision) == ["rule-allows", "column-withheld", "column-withheld"]
    assert decision.reasons[1].text == "column `email` is withheld"
    assert decision.reasons[2].text == "column `nonsense` is withheld"  # as if it existed
    assert codes(ask(judged, columns=("email",))) == ["no-column-left"]


def test_an_unclassified_column_is_released_by_name_only() -> None:
    judged = judge(rule(columns=None, tags=["public", "pii", "health"]))
    assert "notes" not in names(ask(judged))
    assert names(ask(judge(rule(columns=["notes"])))) == ("notes",)


def test_a_column_is_released_by_tags_only_if_all_its_tags_are() -> None:
    judged = judge(rule(columns=None, tags=["public"]))
    both = Column(field_id=9, name="both", type="int64", tags=("health.special", "public"))
    assert names(ask(judged, replace(ICU, columns=(*COLUMNS, both)))) == ("site",)


def test_alternative_allows_release_only_what_each_of_them_would() -> None:
    judged = judge(
        rule(columns=["age", "site", "income"], masks={"age": "x-bucket:4"}, where="site = 'a'"),
        rule(
            id="clinic.icu.two",
            columns=["age", "income", "email"],
            masks={"age": "x-bucket:10", "income": "replace-with-null"},
            where="age > 17",
            limits={"max_rows": 10},
        ),
    )
    decision = ask(judged, limits=Limits(max_rows=100, max_bytes=5))
    assert masks(decision) == {"age": "x-bucket:20", "income": "replace-with-null"}
    assert decision.plan is not None
    assert decision.plan.row_filter is not None
    assert decision.plan.row_filter[0] == "and"
    assert decision.plan.limits.to_dict() == {"max_rows": 10, "max_bytes": 5}
    assert decision.rules == ("clinic.icu.research", "clinic.icu.two")


def test_a_restrict_rule_grants_nothing_and_narrows_what_others_grant() -> None:
    narrow = restrict(
        scope="tenant:clinic", tag_masks={"pii.direct": "x-drop", "pii": "x-bucket:5"}
    )
    assert not ask(judge(narrow)).is_allowed
    judged = judge(rule(columns=["age", "email", "site"]), narrow)
    assert masks(ask(judged)) == {"age": "x-bucket:5", "site": None}


def test_a_restrict_rule_whose_condition_is_unknown_is_applied() -> None:
    narrow = restrict(
        masks={"age": "x-drop"}, when="subject.trained == false", accepts=["recipient"]
    )
    assert names(ask(judge(rule(), narrow))) == ("site",)


def test_a_mask_that_does_not_suit_the_type_withholds_the_column() -> None:
    judged = judge(rule(columns=["age", "born", "site"], tag_masks={"pii": "truncate-to-year"}))
    assert masks(ask(judged)) == {"born": "truncate-to-year", "site": None}


def test_an_unkeyed_digest_of_an_identifier_or_of_few_values_is_withheld() -> None:
    named = {"email": "sha-256-global", "site": "sha-256-global"}
    judged = judge(rule(columns=["age", "email", "site"], masks=named))
    assert names(ask(judged)) == ("age",)
    for tags, shown in (
        (("public",), False),
        (("domain.large",), True),
        (("domain.large", "pii.email"), False),
    ):
        resource = replace(
            ICU,
            columns=tuple(replace(c, tags=tags) if c.name == "site" else c for c in ICU.columns),
        )
        decision = ask(judged, resource=resource)
        assert ("site" in names(decision)) is shown


def test_a_plan_ends_when_a_rule_or_a_time_in_a_condition_does() -> None:
    judged = judge(rule(limits={"valid": "2h"}))
    plan = ask(judged).plan
    assert plan is not None
    assert plan.limits.expires_at == int(NOW) + 7200
    judged = judge(
        rule(expires="2027-01-16"), deny(when="context.time > timestamp'2027-01-15T09:00:00Z'")
    )
    plan = ask(judged).plan
    assert plan is not None
    assert plan.limits.expires_at == 1_800_003_600  # when the deny starts


def test_a_plan_never_outlives_the_rule_that_allows_it() -> None:
    plan = ask(judge(rule(expires="2027-01-16"))).plan
    assert plan is not None
    assert plan.limits.expires_at == 1_800_144_000
    plan = ask(judge(rule(expires="2027-01-16")), limits=Limits(expires_at=1_800_000_001)).plan
    assert plan is not None
    assert plan.limits.expires_at == 1_800_000_001
