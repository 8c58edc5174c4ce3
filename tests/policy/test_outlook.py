"""What a recipient may be told of a dataset before asking for anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from gateway.domain.access import Subject
from gateway.policy.judge import Judge
from gateway.policy.outlook import Outlook
from tests.policy.scene import ICU, NOW, TRAINER, ask, deny, judge, restrict, rule
from tests.policy.test_properties import CHECK, REQUESTS, RULES, read


def told(*rules: dict[str, Any], subject: Subject = TRAINER) -> Outlook:
    return judge(*rules).outlook(subject, ICU, NOW)


def names(*rules: dict[str, Any]) -> list[str]:
    return [column.name for column in told(*rules).columns]


def test_without_a_rule_for_him_nothing_is_told() -> None:
    assert told() == Outlook()
    assert told(rule(), subject=replace(TRAINER, roles=())) == Outlook()
    assert told(rule(expires="2026-01-01")) == Outlook()
    assert told(rule(actions=["discover", "describe"], columns=None)) == Outlook()


def test_only_columns_that_a_plan_could_release_are_told() -> None:
    assert names(rule()) == ["age", "site"]
    assert names(rule(columns=None, tags=["pii"])) == ["age", "income", "email", "born"]
    assert names(rule(), rule(id="clinic.icu.b", columns=["notes"], purpose=["audit"])) == [
        "age",
        "site",
    ]
    both = (
        rule(purpose=["research"]),
        rule(id="clinic.icu.b", columns=["notes"], purpose=["audit"]),
    )
    assert names(*both) == ["age", "site", "notes"]


@pytest.mark.parametrize(
    "other",
    [
        deny(),
        restrict(masks={"age": "x-drop", "site": "x-drop"}),
        rule(id="clinic.icu.b", columns=["notes"]),
    ],
)
def test_what_always_comes_with_a_rule_takes_away(other: dict[str, Any]) -> None:
    assert names(rule(purpose=["research"]), other) == (
        ["notes"] if other["id"] == "clinic.icu.b" else []
    )
    conditional = {**other, "when": "resource.version == 2"}
    assert "age" in names(rule(purpose=["research"]), conditional)


def test_rows_behind_a_filter_are_not_counted() -> None:
    assert told(rule()).counts_rows
    assert not told(rule(where="age >= 18")).counts_rows
    assert not told(rule(), restrict(where="age >= 18")).counts_rows


def test_only_splits_that_could_be_released_are_told() -> None:
    assert told(rule()).splits == ("train", "test")
    assert told(rule(splits=["train"])).splits == ("train",)
    assert told(rule(splits=["train"]), deny(splits=["train"])).splits == ()


@CHECK
@given(RULES, REQUESTS)
def test_whatever_is_granted_was_told(rules: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    judged = Judge.build([read(rules)])
    plan = ask(judged, **asked).plan
    if plan is None:
        return
    before = judged.outlook(asked["subject"], ICU, NOW)
    assert {c.field_id for c in plan.columns} <= {c.field_id for c in before.columns}
    assert set(ICU.splits if plan.split is None else (plan.split,)) <= set(before.splits)
    assert plan.row_filter is None or not before.counts_rows


@CHECK
@given(RULES, REQUESTS)
def test_no_plan_reaches_a_split_that_no_rule_that_counts_names(
    rules: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    bundle = read(rules)
    decision = ask(Judge.build([bundle]), **asked)
    if decision.plan is None:
        return
    wanted = set(ICU.splits if decision.plan.split is None else (decision.plan.split,))
    for one in bundle.rules:
        if one.id in decision.rules and one.kind == "allow" and one.splits:
            assert decision.plan.split is not None
            assert wanted <= set(one.splits)
