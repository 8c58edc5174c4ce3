"""Rules on the command line: written, tested, compared, pushed, explained."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_commands import OWNER, TRAINER, Typed


def test_rules_are_written_tested_and_pushed(as_: Typed, typed: Typed, home: Path) -> None:
    rules = home / "clinic"
    new = ("policy", "new", "clinic/icu", "--to", "startup/role:trainer", "--columns", "age")
    said = as_(OWNER, *new, "--purpose", "health-research", "--dir", rules, "--json")
    assert said.code == 0, said.err
    assert "startup/role:trainer" in said.json["sentence"]
    assert typed("policy", "test", rules).code == 0
    (rules / "broken.yaml").write_text("format: gateway-policy/v0\nrules: [")
    refused = typed("policy", "test", rules)
    assert refused.code == 1
    assert "broken.yaml:" in refused.out
    (rules / "broken.yaml").write_text("")
    assert as_(OWNER, "policy", "push", rules, "--dry-run").code == 1
    (rules / "broken.yaml").unlink()
    assert "rules of clinic in force" in as_(OWNER, "policy", "push", rules).out


def test_a_suite_with_rows_prints_what_is_seen_and_what_no_test_reaches(
    typed: Typed, home: Path
) -> None:
    rules = home / "clinic"
    rules.mkdir()
    (rules / "rules.yaml").write_text(
        "format: gateway-policy/v0\nrules:\n"
        "  - {id: clinic.a, kind: allow, principals: [startup/*], scope: 'dataset:clinic/icu',\n"
        "     actions: [stream], columns: [age, born], masks: {born: truncate-to-year},\n"
        "     where: age > 17}\n"
        "  - {id: clinic.b, kind: allow, principals: [friend/*], scope: 'dataset:clinic/icu',\n"
        "     actions: [stream], columns: [age]}\n"
    )
    (rules / "rules_test.yaml").write_text(
        "format: gateway-policy-test/v0\nnow: 2026-12-01T12:00:00Z\n"
        "subjects: {one: {id: startup/one}}\n"
        "datasets:\n  icu:\n    ref: clinic/icu@1\n"
        "    columns: {age: {type: int64}, born: {type: 'date32[day]'}}\n"
        "    rows: [{age: 41, born: 1985-05-04}, {age: 9, born: 2017-01-01}]\n"
        "tests:\n  - {name: adults, subjects: [one], datasets: [icu], actions: [stream],\n"
        "     purpose: research, expected: [{subject: one, action: stream,\n"
        "     rows: [{age: 41, born: 1985-01-01}]}]}\n"
    )
    said = typed("policy", "test", rules)
    assert said.code == 0, said.out
    assert "adults: one stream icu: 1 rows" in said.out
    assert "    41   1985-01-01\n" in said.out
    assert "no test makes these count: clinic.b\ntests reach 50 % of the rules" in said.out
    found = typed("policy", "test", rules, "--json").json
    assert found["cases"][0]["visible"] == [{"age": "41", "born": "1985-01-01"}]
    assert found["coverage"]["cases"] == {"clinic.a": 1, "clinic.b": 0}


def test_rules_are_pulled_and_pushed_over_exactly_what_was_pulled(as_: Typed, home: Path) -> None:
    rules, other = home / "clinic", home / "elsewhere"
    new = ("policy", "new", "clinic/icu", "--to", "startup/role:trainer", "--columns", "age")
    as_(OWNER, *new, "--purpose", "health-research", "--push")
    for place in (rules, other):
        assert as_(OWNER, "policy", "pull", place, "--json").json["tenant"] == "clinic"
    (rules / "more.yaml").write_text("format: gateway-policy/v0\n")
    assert as_(OWNER, "policy", "pull", rules).code == 5
    assert as_(OWNER, "policy", "push", rules).code == 0
    assert as_(OWNER, "policy", "push", rules).code == 0  # over its own push
    stale = as_(OWNER, "policy", "push", other)
    assert stale.code == 5
    assert as_(OWNER, "policy", "pull", other).code == 0  # what it has is all in force
    (other / "mine.yaml").write_text("x")
    assert as_(OWNER, "policy", "pull", other, "--yes").code == 0
    assert not (other / "mine.yaml").exists()
    assert as_(OWNER, "policy", "push", other, "--if-match", "0" * 64).code == 5
    (other / ".gateway-pull.json").write_text("[]")
    assert as_(OWNER, "policy", "push", other).code == 2


def test_lint_says_where_and_why_and_needs_no_server(as_: Typed, typed: Typed, home: Path) -> None:
    rules = home / "clinic"
    new = ("policy", "new", "clinic/icu", "--to", "startup/role:trainer", "--columns", "age")
    as_(OWNER, *new, "--purpose", "health-research", "--dir", rules)
    said = typed("policy", "lint", rules)
    assert said.code == 1
    assert "warning: no-end: `clinic.icu.stream`: this rule never expires" in said.out
    found = typed("policy", "lint", rules, "--json").json["findings"]
    assert [finding["code"] for finding in found] == ["no-end"]
    (rules / "broken.yaml").write_text("format: gateway-policy/v0\nrules: [")
    assert typed("policy", "lint", rules).out.startswith("broken.yaml:3:1: this is not YAML")
    assert as_(OWNER, "policy", "lint").out == "nothing found\n"  # of nothing


def test_two_directories_are_compared_without_a_server(typed: Typed, home: Path) -> None:
    for name, columns in (("one", "[age]"), ("other", "[age, hr]")):
        (home / name).mkdir()
        (home / name / "icu.yaml").write_text(
            "format: gateway-policy/v0\nrules:\n- {id: clinic.icu, kind: allow, principals: "
            "[startup/role:trainer], scope: 'dataset:clinic/icu', actions: [stream], "
            f"purpose: [research], columns: {columns}}}\n"
        )
    said = typed("policy", "diff", home / "one", home / "other", "--tenant", "clinic")
    assert said.code == 0, said.err
    assert "plan-changed: startup/role:trainer stream clinic/icu for research" in said.out
    assert "after:  columns age, hr" in said.out
    same = typed("policy", "diff", home / "one", home / "one", "--tenant", "clinic")
    assert "no answer changes" in same.out
    wrong = typed("policy", "diff", home / "one", home / "other", "--tenant", "startup")
    assert wrong.code == 1
    assert "icu.yaml:3:" in wrong.out


def test_a_dry_run_says_who_newly_may_and_who_no_longer(as_: Typed, home: Path) -> None:
    rules = home / "clinic"
    rules.mkdir()
    (rules / "a.yaml").write_text("x")
    said = as_(OWNER, "policy", "push", rules, "--dry-run")
    assert "newly-denied: startup/role:trainer stream clinic/icu for research" in said.out
    assert "newly-denied: 7 people or jobs of startup on clinic/icu" in said.out
    assert "clinic/ana stream clinic/icu for research in run clinic:study: 3 requests" in said.out
    assert said.out.endswith("all hold\n")
    assert as_(OWNER, "policy", "diff", rules, "--json").json["tried"] == 9
    assert as_(OWNER, "policy", "replay", rules, "--json").json["judged"] == 12
    assert "tried every request" in as_(OWNER, "policy", "diff", rules).out
    assert "replayed 12 recorded requests" in as_(OWNER, "policy", "replay", rules).out
    (rules / "a.yaml").write_text("")
    for verb in ("diff", "replay"):
        assert as_(OWNER, "policy", verb, rules).code == 1


def test_an_access_review_is_a_table_or_a_csv_that_runs_nothing(as_: Typed) -> None:
    assert "for research" in as_(OWNER, "policy", "who", "clinic/icu", "--column", "age").out
    assert '"\'=cmd()"' in as_(OWNER, "policy", "who", "clinic/icu", "--csv").out


def test_a_decision_is_explained(as_: Typed) -> None:
    check = as_(TRAINER, "access", "check", "clinic/icu", "--json")
    said = as_(TRAINER, "policy", "explain", check.json["decision"])
    assert said.code == 0
    assert "deny" in said.out
    assert said.out.endswith(
        "clinic.icu (allow, icu.yaml:3): FALSE\n"
        "    FALSE    purpose within (research)\n"
        "nearest allow: clinic.icu\n"
        "    purpose must be within `research`\n"
    )
