"""`policy new` writes what it says; lint finds what an author did not mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.dataset import DatasetRef
from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle
from gateway.policy.coverage import coverage
from gateway.policy.judge import Judge
from gateway.policy.lint import lint
from gateway.policy.suite import run_suites
from gateway.policy.write import RuleWish, sentence, write_rule

from .scene import COLUMNS, ICU, NOW, TRAINER, ask, bundle, deny, masks, restrict, rule


def wish(**fields: Any) -> RuleWish:
    base: dict[str, Any] = {
        "dataset": DatasetRef("clinic", "icu"),
        "allow": ("stream",),
        "to": ("startup/role:trainer",),
        "purpose": ("health-research",),
        "columns": ("age", "born", "site"),
        "masks": {"born": "truncate-to-year"},
    }
    return RuleWish(**{**base, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"allow": ("read",)},
        {"to": ("trainer",)},
        {"to": ("*",)},
        {"purpose": ("world-domination",)},
        {"masks": {"born": "rot13"}},
        {"where": "age = (select 1)"},
        {"valid": "forever"},
        {"columns": ()},
        {"expires": "2020-01-01"},
        {"masks": {"site": "x-bucket:10"}},
        {"where": "gone = 1"},
        {"columns": ("age\u200b",)},
    ],
)
def test_a_wish_that_cannot_be_a_rule_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        write_rule(wish(**fields), now=NOW, columns=COLUMNS)


def test_text_in_a_wish_never_becomes_another_rule() -> None:
    hostile = 'x"\n  - id: clinic.evil\n    kind: allow'
    written = write_rule(wish(description=hostile), now=NOW, columns=COLUMNS)
    read = PolicyBundle.read(written.files, "clinic")
    assert [(one.id, one.description) for one in read.rules] == [("clinic.icu.stream", hostile)]


def test_a_written_rule_releases_what_was_wished_and_its_suite_passes() -> None:
    written = write_rule(
        wish(where="site = :subject.region or age between 18 and 99", valid="90d"),
        now=NOW,
        columns=COLUMNS,
        taken=["clinic.icu.stream"],
    )
    assert written.id == "clinic.icu.stream-2"
    read = PolicyBundle.read(written.files, "clinic")
    results = run_suites(read)
    assert all(result.ok for result in results)
    assert not coverage(read, results).uncovered
    subject = replace(TRAINER, attributes={"region": "south"})
    decision = ask(Judge.build([read]), subject=subject)
    assert masks(decision) == {"age": None, "site": None, "born": "truncate-to-year"}
    assert written.sentence == (
        "`startup/role:trainer` may stream `dataset:clinic/icu` for health-research: columns age, "
        'born (truncate-to-year), site; rows where ("age" <= 99 and "age" >= 18) or '
        '"site" == :subject.region; each grant ends after 90 days'
    )


def test_a_rule_can_be_written_before_the_dataset_is_known() -> None:
    odd = 'a "quoted": name, with #signs'
    written = write_rule(
        wish(columns=(odd, "n"), masks={"n": "x-bucket:5"}, where='"n" > 1.5', to=("role:own",)),
        now=NOW,
    )
    assert PolicyBundle.read(written.files, "clinic").rules[0].columns == (odd, "n")
    assert all(result.ok for result in run_suites(PolicyBundle.read(written.files, "clinic")))


@pytest.mark.parametrize(
    "fields",
    [
        {"columns": (), "masks": {}, "tags": ("public",)},
        {"columns": (), "masks": {}, "tags": ("public", "health.vital"), "purpose": ()},
        {"to": ("startup/user:ml",), "where": "flag = true and seen >= date '2026-01-01'"},
        {"where": "at > timestamp '2026-01-01T00:00:00Z' or local < timestamp '2026-01-01T00:00'"},
        {"where": "level >= :subject.clearance and site = :subject.org_type"},
        {"where": "checked = :subject.trained and x is null and y in () and z in (1.5, 2.5)"},
        {"allow": ("discover", "stream"), "explain": False, "expires": "2030-01-01"},
        {"masks": {"site": "x-drop"}, "purpose": ("any",)},
        {"columns": ("age", "id"), "masks": {"id": "x-hmac-tenant"}},
    ],
    ids=str,
)
def test_every_kind_of_wish_is_written_and_tested_without_the_dataset(fields: Any) -> None:
    written = write_rule(wish(**fields), now=NOW)
    read = PolicyBundle.read(written.files, "clinic")
    results = run_suites(read)
    assert results
    assert all(result.ok for result in results)
    assert len(read.rules) == 1


def test_a_sentence_says_what_a_rule_means() -> None:
    found = bundle(
        deny(principals=["*"], actions=["*"], when="subject.type == 'person'"),
        restrict(tag_masks={"pii": "x-drop"}, limits={"max_rows": 5}, expires="2027-12-31"),
    ).rules
    assert sentence(found[0]) == (
        "everybody must not do anything to `dataset:clinic/icu`: when subject.type == 'person'"
    )
    rich = bundle(
        rule(
            tags=["public"],
            columns=None,
            splits=["train"],
            obligations={"no_redistribution": True, "delete_after": "P30D"},
            masks={"age": "x-drop"},
        )
    ).rules[0]
    assert sentence(rich) == (
        "`startup/role:trainer` may stream `dataset:clinic/icu`: every column tagged public; "
        "masked age (x-drop); only split train; on the promise delete_after = P30D; "
        "on the promise no_redistribution"
    )
    assert sentence(found[1]) == (
        "`startup/role:trainer` sees less when it may stream `dataset:clinic/icu`: masked "
        "everything tagged pii (x-drop); at most 5 rows; until 2028-01-01 00:00 UTC"
    )


def found_codes(*rules: dict[str, Any], resources: bool = True) -> set[str]:
    return {
        finding.code
        for finding in lint(bundle(*rules), now=NOW, resources=[ICU] if resources else [])
    }


def test_lint_finds_what_an_author_did_not_mean() -> None:
    assert found_codes(rule(purpose=["research"], expires="2028-01-01")) == set()
    assert found_codes(rule()) == {"any-purpose", "no-end"}
    assert "expired" in found_codes(rule(expires="2020-01-01"))
    assert "wildcard-principal" in found_codes(rule(principals=["startup/*"]))
    assert "wildcard-principal" in found_codes(rule(principals=["*"], public=True))
    assert "deny-over-optional" in found_codes(deny(when="context.mfa == false"))
    assert "deny-over-optional" not in found_codes(deny(when="subject.type == 'person'"))
    assert "mask-unused" in found_codes(rule(masks={"income": "x-bucket:5"}))
    assert "unknown-column" in found_codes(rule(columns=["agee"]))
    assert "mask-unsuited" in found_codes(rule(masks={"site": "x-bucket:5"}))
    assert "filter-unusable" in found_codes(rule(where="age = 'x'"))
    assert "unknown-dataset" in found_codes(rule(scope="dataset:clinic/icuu"))
    other = rule(scope="tag:pii", expires="2028-01-01", purpose=["research"])
    assert found_codes(other) == set()  # names are checked where the dataset is known
    many = [rule(id=f"clinic.icu.r{n}") for n in range(101)]
    assert "crowded" in found_codes(*many)


@pytest.mark.parametrize(
    ("when", "code"),
    [
        ("true", "always-true"),
        ("false", "never-true"),
        ("subject.clearance > 3 or subject.clearance <= 3", "always-true"),
        ("subject.clearance > 3 and subject.clearance < 4", "never-true"),
        ("subject.type == 'job' and subject.type == 'person'", "never-true"),
        ("subject.region == 'eu' and subject.region == 'us'", "never-true"),
        ("subject.region in ('eu', 'us') or subject.region not in ('eu')", "always-true"),
        (("context.time < timestamp'2026-01-01T00:00:00Z' and "
         "context.time > timestamp'2026-06-01T00:00:00Z'"), "never-true"),
        ("subject.type == 'job' or subject.type == 'person'", "always-true"),
        ("subject.region != subject.country and subject.region == subject.country", "never-true"),
        ("not has subject.region and subject.region == 'eu'", "never-true"),
    ],
)  # fmt: skip
def test_a_condition_that_never_or_always_holds_is_found(when: str, code: str) -> None:
    assert code in found_codes(rule(when=when, accepts=["recipient"]))


@pytest.mark.parametrize(
    "when",
    [
        "subject.clearance > 3 and subject.clearance < 5",
        "subject.type == 'job'",
        "subject.region == subject.country",
        "subject.region != subject.country and subject.project == subject.country",
        "has subject.region",
        "not has subject.region",
        "purpose within 'research'",
        "context.time >= timestamp'2026-01-01T00:00:00Z'",
    ],
)
def test_a_condition_that_can_hold_and_fail_is_left_alone(when: str) -> None:
    assert not found_codes(rule(when=when, accepts=["recipient"])) & {"always-true", "never-true"}


def test_lint_finds_rules_that_stand_in_each_others_way() -> None:
    one = rule(purpose=["research"], expires="2028-01-01")
    assert found_codes(one, {**one, "id": "clinic.icu.copy", "ticket": "x"}) == {"duplicate"}
    other = {**one, "id": "clinic.icu.other", "columns": ["born"]}
    assert found_codes(one, other) == {"disjoint-allows"}
    assert found_codes(one, {**other, "columns": ["born", "age"]}) == set()
    assert found_codes(one, {**other, "purpose": ["marketing"]}) == set()
    wide = deny(principals=["startup/*"], actions=["*"], scope="tenant:clinic")
    assert found_codes(one, wide) == {"shadowed"}
    assert found_codes(one, deny(id="clinic.icu.other-people", principals=["rival/*"])) == set()
    assert found_codes(one, deny(when="subject.type == 'job'")) == set()
    assert found_codes(one, deny(expires="2027-12-30")) == set()
    assert found_codes(one, deny(purpose=["research"])) == {"shadowed"}
    assert found_codes(one, deny(purpose=["health-research"])) == set()
    tagged = restrict(scope="tag:pii.direct", tag_masks={"pii": "x-drop"})
    assert found_codes(tagged, deny(scope="tag:pii")) == {"shadowed"}


def test_names_that_do_not_exist_are_found_where_they_are_known() -> None:
    assert "unknown-tag" in found_codes(restrict(scope="tag:piii", tag_masks={"pii": "x-drop"}))
    assert "unknown-split" in found_codes(rule(splits=["tarin"]))
    own = bundle(rule(principals=["clinic/role:nurse"]), deny(principals=["rival/role:x"]))
    found = lint(own, now=NOW, principals=frozenset({"clinic/user:ana", "clinic/role:doctor"}))
    assert [f.text for f in found if f.code == "unknown-principal"] == [
        "nobody is `clinic/role:nurse`"
    ]


def test_more_candidates_than_the_judge_can_bear_are_an_error() -> None:
    many = bundle(*(rule(id=f"clinic.icu.r{n}") for n in range(501)))
    first = lint(many, now=NOW)[0]
    assert (first.code, first.level) == ("crowded", "error")


CLEAN = rule(purpose=["research"], expires="2028-01-01")
TAGGED = restrict(scope="tag:pii", tag_masks={"pii": "x-drop"})


@pytest.mark.parametrize(
    ("code", "fires", "silent"),
    [
        ("duplicate", [CLEAN, {**CLEAN, "id": "clinic.icu.b", "columns": ["site", "age"]}],
         [CLEAN, {**CLEAN, "id": "clinic.icu.b", "columns": ["site"]}]),
        ("unknown-dataset", [rule(scope="dataset:clinic/ico")], [rule(scope="dataset:clinic/icu")]),
        ("unknown-column", [rule(masks={"agee": "x-drop"})], [rule(masks={"age": "x-drop"})]),
        ("unknown-column", [rule(where="agee > 1")], [rule(where="age > 1")]),
        ("unknown-split", [rule(splits=["tset"])], [rule(splits=["test"])]),
        ("unknown-tag", [{**TAGGED, "scope": "tag:pij"}], [TAGGED]),
        ("never-true", [rule(when="subject.type == 'job' and not subject.type == 'job'")],
         [rule(when="subject.type == 'job'")]),
        ("always-true", [deny(when="has context.mfa or not has context.mfa")],
         [deny(when="has context.mfa")]),
        ("shadowed", [CLEAN, deny()], [CLEAN, deny(actions=["export"])]),
        ("shadowed", [TAGGED, deny(scope="tag:pii")], [TAGGED, deny(scope="tag:pii.direct")]),
        ("deny-over-optional", [deny(when="context.mfa == false")],
         [deny(when="resource.tenant == 'clinic' and subject.type == 'job'")]),
        ("deny-over-optional", [deny(when="context.mfa == false")],
         [rule(when="context.mfa == true", accepts=["requester"])]),
        ("crowded", [rule(id=f"clinic.icu.r{n}") for n in range(101)],
         [rule(id=f"clinic.icu.r{n}") for n in range(100)]),
        ("wildcard-principal", [rule(principals=["*"], public=True)],
         [{**TAGGED, "principals": ["*"]}, deny(id="clinic.icu.no", principals=["startup/*"])]),
        ("wildcard-principal", [rule(principals=["startup/*"])],
         [rule(principals=["startup/role:x"])]),
        ("expired", [deny(expires="2026-12-31")], [deny(expires="2028-01-01")]),
        ("mask-unused", [rule(masks={"income": "x-drop"})], [rule(masks={"site": "x-drop"})]),
        ("mask-unsuited", [rule(masks={"site": "truncate-to-year"})],
         [rule(columns=["born"], masks={"born": "truncate-to-year"})]),
        ("filter-unusable", [rule(where="site > 5")], [rule(where="age > 5")]),
        ("any-purpose", [rule()], [rule(actions=["discover"], columns=None)]),
        ("no-end", [rule()], [CLEAN]),
    ],
)  # fmt: skip
def test_each_kind_of_finding_fires_and_keeps_silent(
    code: str, fires: list[dict[str, Any]], silent: list[dict[str, Any]]
) -> None:
    assert code in found_codes(*fires)
    assert code not in found_codes(*silent)
