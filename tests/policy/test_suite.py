"""Suites: what is not listed must be denied, and mistakes in a suite have a place."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle
from gateway.policy.coverage import coverage
from gateway.policy.suite import SuiteResult, run_suites
from gateway.shards.fixture_rows import visible

from .scene import deny, rule, text_of, yaml_of

BASE: dict[str, Any] = {
    "format": "gateway-policy-test/v1",
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


def test_coverage_counts_the_answers_that_each_rule_took_part_in() -> None:
    rules = (OURS, rule(id="clinic.icu.unused", actions=["preview"]))
    files = {"rules.yaml": text_of(*rules)}
    read = PolicyBundle.read(files, "clinic")
    assert run_suites(read) == []
    assert coverage(read, []).percent == 0
    assert coverage(read, []).uncovered == ("clinic.icu.research", "clinic.icu.unused")
    found = coverage(read, results(TEST, rules=rules))
    assert found.cases == {"clinic.icu.research": 1, "clinic.icu.unused": 0}
    assert (found.uncovered, found.percent) == (("clinic.icu.unused",), 50)
    denied = deny(id="clinic.icu.never", principals=["startup/*"])
    found = coverage(read, results(TEST, rules=(OURS, denied)))
    assert found.uncovered == ("clinic.icu.research", "clinic.icu.unused")  # it decided nothing


ROWS = [
    {"age": "41", "site": "north"},
    {"age": "17", "site": "south"},
    {"site": "west"},
    {"age": "018"},
]


def seen(
    rows: Any = None, *, given: Any = ROWS, kind: str = "int64", ours: Any = OURS
) -> list[SuiteResult]:
    icu = {**BASE["datasets"]["icu"], "rows": given}
    icu["columns"] = {**icu["columns"], "age": {"type": kind, "tags": ["pii.indirect"]}}
    one = {"subject": "job", "action": "stream", **({} if rows is None else {"rows": rows})}
    suite = {**BASE, "datasets": {"icu": icu}, "tests": [{**TEST, "expected": [one]}]}
    text = "".join(f"{key}: {yaml_of(value)}\n" for key, value in suite.items())
    files = {"rules.yaml": text_of(ours), "a_test.yaml": text}
    return run_suites(PolicyBundle.read(files, "clinic"), show=visible)


def test_a_suite_shows_the_rows_that_pass_as_they_are_masked() -> None:
    found = {(one.subject, one.action): one.visible for one in seen()}
    assert found.pop(("job", "stream")) == (
        {"age": "40", "site": "north"},
        {"age": "15", "site": None},
    )
    assert set(found.values()) == {None}  # denied: nothing is seen


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"age": "40", "site": "north"}, {"age": "15"}], None),
        ([{"age": "040", "site": "north"}, {"age": "15"}], None),  # the same number
        ([{"age": "41", "site": "north"}, {"age": "15"}],
         "rows: expected age=41, site=north as row 1, got age=40, site=north"),
        ([{"age": "40", "site": "north"}, {"age": "15", "site": "south"}],
         "rows: expected age=15, site=south as row 2, got age=15, site=NULL"),
        ([{"age": "40", "site": "north"}], "rows: expected 1 rows, got 2"),
        ([], "rows: expected 0 rows, got 2"),
        ([{"name": "eve"}], "rows: `name` is not released"),
    ],
)  # fmt: skip
def test_rows_that_are_expected_are_compared_as_their_types_mean_them(
    rows: list[dict[str, str]], problem: str | None
) -> None:
    found = [text for result in seen(rows) for text in result.problems]
    assert found == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ([{"age": "old"}], "int64"),
        ([{"age": "9" * 30}], "int64"),
        ([{"agee": "1"}], "int64"),
        ([{"age": ["1"]}], "int64"),
        (["1"], "int64"),
        ("1", "int64"),
        ([{"age": "1"}], "list<item: int64>"),
        ([{"age": "1"}], "nonsense"),
        ([{"age": "2026-01-01"}], "timestamp[us, tz=UTC]"),
    ],
)
def test_rows_that_cannot_be_have_a_place(given: Any, kind: str) -> None:
    with pytest.raises(PolicyError) as caught:
        seen(given=given, kind=kind, ours=rule())
    assert caught.value.facts["file"] == "a_test.yaml"


@pytest.mark.parametrize(
    ("kind", "mask", "text", "shown"),
    [
        ("timestamp[us, tz=UTC]", "truncate-to-year", "2026-05-04T10:00:00Z",
         "2026-01-01 00:00:00.000000Z"),
        ("date32[day]", "truncate-to-month", "2026-05-04", "2026-05-01"),
        ("decimal128(6, 2)", "replace-with-null", "12.5", None),
        ("double", "x-bucket:5", "12.5", "10"),
        ("bool", "mask-to-fixed-value", "true", "false"),
        ("string", "show-last-4", "DE8937", "xx8937"),
    ],
)  # fmt: skip
def test_every_type_with_a_text_is_shown_through_its_mask(
    kind: str, mask: str, text: str, shown: str | None
) -> None:
    ours = rule(columns=["age"], masks={"age": mask})
    (found,) = [one for one in seen(given=[{"age": text}], kind=kind, ours=ours) if one.visible]
    assert found.visible == ({"age": shown},)


def test_rows_are_expected_only_of_a_dataset_that_has_some() -> None:
    with pytest.raises(PolicyError, match="has none itself"):
        problems(rows=[{"age": "1"}])
    suite = {**BASE, "datasets": {"icu": {**BASE["datasets"]["icu"], "rows": ROWS}}}
    text = "".join(f"{k}: {yaml_of(v)}\n" for k, v in {**suite, "tests": [TEST]}.items())
    read = PolicyBundle.read({"rules.yaml": text_of(OURS), "a_test.yaml": text}, "clinic")
    with pytest.raises(PolicyError, match="cannot be tried here"):
        run_suites(read)


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
        {"format": "gateway-policy-test/v2"},
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
