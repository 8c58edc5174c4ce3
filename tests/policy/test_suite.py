"""Suites: what is not listed must be denied, and mistakes in a suite have a place."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle
from gateway.policy.suite import SuiteResult, run_suites, uncovered

from .scene import rule, text_of, yaml_of

BASE: dict[str, Any] = {
    "format": "gateway-policy-test/v0",
    "now": "2026-12-01T00:00:00Z",
    "subjects": {
        "job": {"id": "startup/ml", "roles": ["trainer"], "attributes": {"region": "a", "n": 1}},
        "eve": {"id": "startup/eve", "type": "person"},
    },
    "datasets": {
        "icu": {
            "ref": "clinic/icu@2",
            "splits": ["train"],
            "columns": {
                "age": {"type": "int64", "tags": ["pii.indirect"]},
                "site": {"type": "string"},
            },
        }
    },
}
TEST: dict[str, Any] = {
    "name": "t",
    "subjects": ["job", "eve"],
    "datasets": ["icu"],
    "actions": ["stream", "export"],
    "purpose": "research",
}
OURS = rule(masks={"age": "x-bucket:5"}, where="age > 17")


def results(
    *tests: dict[str, Any], rules: tuple[dict[str, Any], ...] = (OURS,)
) -> list[SuiteResult]:
    suite = "".join(f"{key}: {yaml_of(value)}\n" for key, value in BASE.items())
    suite += f"tests: {yaml_of(list(tests))}\n"
    files = {"rules.yaml": text_of(*rules), "a_test.yaml": suite}
    return run_suites(PolicyBundle.read(files, "clinic"))


def problems(**expected: Any) -> list[str]:
    one = {"subject": "job", "action": "stream", **expected}
    return [p for result in results({**TEST, "expected": [one]}) for p in result.problems]


def test_what_a_suite_does_not_list_must_be_denied() -> None:
    found = results(TEST)
    assert [(r.subject, r.action, r.ok) for r in found] == [
        ("job", "stream", False),
        ("job", "export", True),
        ("eve", "stream", True),
        ("eve", "export", True),
    ]
    assert found[0].problems == ("expected deny, got allow (rule-allows)",)
    assert found[0].text.startswith("a_test.yaml:5: t: job stream on icu: expected deny")


def test_an_expectation_is_compared_field_by_field() -> None:
    assert problems(effect="deny") == ["expected deny, got allow (rule-allows)"]
    assert problems(columns=["age"]) == ["columns: expected age, got age, site"]
    assert problems(masks={"age": "x-drop"}) == ["masks: expected age=x-drop, got age=x-bucket:5"]
    assert problems(rules=["clinic.x"]) == ["rules: expected clinic.x, got clinic.icu.research"]
    assert problems(reasons=["no-rule"]) == ["reasons: expected no-rule, got rule-allows"]
    assert problems(advice="x") == ["advice: expected x, got None"]
    assert problems(where="age > 18") == ['where: expected "age" > 18, got "age" > 17']
    assert not problems(
        columns=["age", "site"],
        masks={"age": "x-bucket:5"},
        where="age>17",
        reasons=["rule-allows"],
    )


def test_coverage_names_rules_that_took_part_in_nothing() -> None:
    rules = (OURS, rule(id="clinic.icu.unused", actions=["preview"]))
    files = {"rules.yaml": text_of(*rules)}
    read = PolicyBundle.read(files, "clinic")
    assert run_suites(read) == []
    assert uncovered(read, []) == ("clinic.icu.research", "clinic.icu.unused")
    assert uncovered(read, results(TEST, rules=rules)) == ("clinic.icu.unused",)


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"subjects": ["ghost"]},
        {"datasets": ["ghost"]},
        {"actions": ["read"]},
        {"actions": None},
        {"purpose": "profit"},
        {"expected": [{"subject": "ghost", "action": "stream"}]},
        {"expected": [{"subject": "job", "action": "preview"}]},
        {"expected": [{"subject": "job", "action": "stream", "effect": "maybe"}]},
        {"expected": [{"subject": "job", "action": "stream", "colums": ["a"]}]},
        {"expected": [{"subject": "job", "action": "stream"}] * 2},
        {"expected": [{"subject": "job", "action": "stream", "where": "age >"}]},
        {"extra": "x"},
    ],
    ids=str,
)
def test_a_mistake_in_a_suite_has_a_place(change: dict[str, Any]) -> None:
    test = {key: value for key, value in {**TEST, **change}.items() if value is not None}
    with pytest.raises(PolicyError) as caught:
        results(test)
    assert caught.value.facts["file"] == "a_test.yaml"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "gateway-policy-test/v1"},
        {"now": "2026-12-01"},
        {"now": "yesterday"},
        {"subjects": {"job": {"id": "ml"}}},
        {"subjects": {"job": {"id": "startup/ml", "attributes": {"n": ["x"]}}}},
        {"subjects": {"job": "startup/ml"}},
        {"datasets": {"icu": {"ref": "icu"}}},
        {"datasets": {"icu": {"ref": "clinic/icu", "columns": {"age": {}}}}},
        {"datasets": {"icu": {"ref": "clinic/icu", "columns": ["age"]}}},
        {"datasets": {"icu": {"ref": "clinic/icu", "splits": ["Train"]}}},
        {"extra": "x"},
    ],
    ids=str,
)
def test_a_mistake_in_the_fixtures_has_a_place(change: dict[str, Any]) -> None:
    text = "".join(f"{key}: {yaml_of(value)}\n" for key, value in {**BASE, **change}.items())
    with pytest.raises(PolicyError) as caught:
        run_suites(PolicyBundle.read({"a_test.yaml": text}, "clinic"))
    assert caught.value.facts["file"] == "a_test.yaml"


def test_a_suite_cannot_grow_without_bound() -> None:
    with pytest.raises(PolicyError):
        results(*[{**TEST, "name": f"t{n}"} for n in range(1300)])
