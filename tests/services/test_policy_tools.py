"""Rules are tried aside before they count, and a trial tells nobody more than he may know."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.config import Settings
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, InvalidInput, LimitExceeded, NotFound, PolicyError
from gateway.policy.bench import examine
from gateway.policy.bench_job import BenchJob
from gateway.services import bench, publish, recorded, request_access, trial, who
from gateway.services.house import House
from gateway.services.quota import Quota
from gateway.services.request_access import Ask, Caller

from .conftest import open_house
from .simulator import add_rules, add_tenant, add_version, caller

OWNER = caller("clinic", "owner", "owner")
RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.research
    kind: allow
    principals: [startup/*, friend/*, clinic/role:owner]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [health-research]
    columns: [age, hr]
"""
SUITE = """
format: gateway-policy-test/v0
now: 2026-12-01T12:00:00Z
subjects: {one: {id: startup/one}}
datasets: {icu: {ref: clinic/icu@1, columns: {age: {type: int64}, hr: {type: int64}}}}
tests:
  - name: nobody reads
    subjects: [one]
    datasets: [icu]
    actions: [stream]
    purpose: health-research
    expected: []
"""


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    settings = Settings(state_dir=root / "state", config_dir=root / "config", runtime_dir=root)
    bootstrap.init(settings)
    house = open_house(settings)

    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"))
        await add_tenant(house, "friend", ("helper", "trainer"))
        add_version(house, "clinic", "icu", ["age", "hr", "name"])
        await add_rules(house, "clinic", RULES)

    run(arrange())
    yield house
    house.journal.close()


def changed(house: House, old: str, new: str) -> dict[str, str]:
    """The rules in force with one word changed."""
    files = dict(house.bundles["clinic"].files)
    assert old in files["test.yaml"]
    return {**files, "test.yaml": files["test.yaml"].replace(old, new)}


def tried(house: House, files: dict[str, str], *parts: str) -> W.Trial:
    wanted = W.TrialRequest(files=files, parts=parts)
    return run(trial.trial(house, OWNER, "clinic", wanted))  # type: ignore[no-any-return]


def ask(house: House, who: Caller, **fields: Any) -> None:
    wanted = Ask(**{"dataset": "clinic/icu", "purpose": "health-research", **fields})
    run(request_access.check(house, who, wanted))


def with_clearance(who: Caller, clearance: int) -> Caller:
    return replace(who, subject=replace(who.subject, attributes={"clearance": clearance}))


def test_nobody_tries_another_tenants_rules(shared: House) -> None:
    wanted = W.TrialRequest(parts=("lint",))
    with pytest.raises((AccessDenied, NotFound)):
        run(trial.trial(shared, caller("startup", "ml", "trainer"), "clinic", wanted))
    with pytest.raises(InvalidInput, match="no part of a trial"):
        run(trial.trial(shared, OWNER, "clinic", W.TrialRequest(parts=("everything",))))


def test_a_failing_test_refuses_the_push_and_the_old_rules_stay(shared: House) -> None:
    before = shared.catalog.bundle("clinic")
    files = {**shared.bundles["clinic"].files, "icu_test.yaml": SUITE}
    with pytest.raises(PolicyError, match=r"the test at icu_test.yaml:\d+: expected deny"):
        run(publish.publish(shared, OWNER, "clinic", files, None))
    crowd = "".join(
        RULES.partition("rules:\n")[2].replace("clinic.icu.research", f"clinic.icu.r{n}")
        for n in range(501)
    )
    files = {
        **shared.bundles["clinic"].files,
        "crowd.yaml": f"format: gateway-policy/v0\nrules:\n{crowd}",
    }
    with pytest.raises(PolicyError, match="slow to judge"):
        run(publish.publish(shared, OWNER, "clinic", files, None))
    assert shared.catalog.bundle("clinic") == before


def test_a_child_that_dies_or_hangs_refuses_the_push(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shared.catalog.bundle("clinic")
    files = changed(shared, "age, hr", "age")
    for name, value in (("MODULE", "gateway.policy.absent"), ("SECONDS_MAX", 0.01),
                        ("ANSWER_BYTES_MAX", 10)):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(bench, name, value)
            with pytest.raises(PolicyError, match="could not be built"):
                run(publish.publish(shared, OWNER, "clinic", files, None))
    assert shared.catalog.bundle("clinic") == before


def test_a_trial_knows_the_tenants_datasets_and_people(shared: House) -> None:
    odd = changed(shared, "dataset:clinic/icu", "dataset:clinic/icuu")
    found = tried(shared, changed(shared, "clinic/role:owner", "clinic/role:onwer"), "lint")
    assert "unknown-principal" in {finding.code for finding in found.findings}
    found = tried(shared, odd, "lint", "diff")
    assert "unknown-dataset" in {finding.code for finding in found.findings}
    assert found.diff is not None
    assert {(e.kind, e.dataset) for e in found.diff.effects} == {("newly-denied", "clinic/icu")}


def test_rows_of_a_suite_are_seen_through_the_plan_in_the_child_too(shared: House) -> None:
    rows = "rows: [{age: 41, hr: 60}, {age: 17}], columns"
    expected = "[{subject: one, action: stream, rows: [{age: 41, hr: 60}, {age: 17}]}]"
    suite = SUITE.replace("columns", rows).replace("expected: []", f"expected: {expected}")
    files = {**shared.bundles["clinic"].files, "icu_test.yaml": suite}
    found = tried(shared, files, "test")
    counts = {suite.name: (suite.passed, suite.failed) for suite in found.suites}
    assert counts["icu_test.yaml"] == (1, 0)
    assert (found.coverage, found.uncovered) == (100, ())
    assert found.decisive["clinic.icu.research"] == 1
    (shown,) = [one for suite in found.suites for one in suite.shown]
    assert (shown.subject, shown.visible[1]) == ("one", {"age": "17", "hr": None})
    wrong = suite.replace("{age: 17}]}", "{age: 18}]}")
    with pytest.raises(PolicyError, match="rows: expected age=18, hr=NULL as row 2, got age=17"):
        run(publish.publish(shared, OWNER, "clinic", {**files, "icu_test.yaml": wrong}, None))


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench's own work on the bytes that a child would get, without starting one."""
    monkeypatch.setattr(bench, "_run", lambda job: examine(BenchJob.of_bytes(job.to_bytes())))


def test_a_replay_tells_all_of_ones_own_requests_and_is_recorded_first(shared: House) -> None:
    ask(shared, OWNER, run="study-1", columns=("age",))
    ask(shared, OWNER, run="study-1", columns=("age",))
    ask(shared, OWNER, run="study-2", columns=("hr",))
    start = shared.journal.durable_size
    found = tried(shared, changed(shared, "age, hr", "age"), "replay").replay
    assert found is not None
    (change,) = [c for c in found.changes if c.run == "clinic:study-2"]
    assert (change.kind, change.requests, change.subject) == ("newly-denied", 1, "clinic/owner")
    assert not [c for c in found.changes if c.run == "clinic:study-1"]
    (asked,) = [e for e in shared.journal.read(start) if e.kind is EventKind.QuestionAsked]
    assert asked.facts["question"] == "policy-replay"
    masked = changed(
        shared, "columns: [age, hr]", "columns: [age, hr]\n    masks: {age: 'x-bucket:5'}"
    )
    found = tried(shared, masked, "replay").replay
    assert found is not None
    (change,) = [c for c in found.changes if c.run == "clinic:study-1"]
    assert (change.kind, change.requests) == ("plan-changed", 2)
    assert "age (x-bucket:5)" in change.after


@pytest.mark.usefixtures("no_child")
def test_of_other_tenants_a_replay_counts_five_or_nobody(shared: House) -> None:
    for n in range(4):
        ask(shared, caller("friend", f"f{n}", "trainer"))
    files = changed(shared, "friend/*, ", "")
    found = tried(shared, files, "replay").replay
    assert found is not None
    assert found.foreign == ()
    ask(shared, caller("friend", "f4", "trainer"))
    found = tried(shared, files, "replay").replay
    assert found is not None
    assert [(g.kind, g.tenant, g.subjects) for g in found.foreign] == [
        ("newly-denied", "friend", 5)
    ]
    assert not [c for c in found.changes if c.subject.startswith("friend/")]


@pytest.mark.usefixtures("no_child")
def test_a_binary_search_over_anothers_attribute_recovers_no_bit(shared: House) -> None:
    """Neither alone, nor beside four whose answer is known, nor with a friend's help."""
    for n in range(6):
        ask(shared, with_clearance(caller("startup", f"s{n}", "trainer"), 10))
        ask(shared, with_clearance(caller("friend", f"h{n}", "trainer"), n))
    answers = []
    for victim, secret in (("low", 3), ("high", 12)):
        ask(shared, with_clearance(caller("startup", victim, "trainer"), secret))
        answers.append([_searched(shared, victim, bound) for bound in (1, 7, 11)])
    assert answers[0] == answers[1]


def _searched(house: House, victim: str, bound: int) -> tuple[W.ForeignChange, ...]:
    known = ", ".join(
        f"'{who}'" for who in ("startup/s0", "startup/s1", "startup/s2", "startup/s3")
    )
    when = (
        f"(subject.id != 'startup/{victim}' or subject.clearance >= {bound}) "
        f"and subject.id not in ({known}, 'friend/h0', 'friend/h1', 'friend/h2', 'friend/h3')"
    )
    text = changed(house, "columns:", f"accepts: [recipient]\n    when: {when}\n    columns:")
    found = tried(house, text, "replay").replay
    assert found is not None
    assert found.foreign
    return found.foreign


def test_a_tenant_replays_so_often_and_no_more() -> None:
    quota = Quota(what="replays of rules", most=2)
    quota.take("clinic", 0.0)
    quota.take("clinic", 10.0)
    quota.take("startup", 10.0)
    with pytest.raises(LimitExceeded) as over:
        quota.take("clinic", 20.0)
    assert over.value.facts["retry_after_seconds"] == 3581
    quota.take("clinic", 3601.0)


def test_a_review_says_who_could_and_when_it_was_used(shared: House) -> None:
    wanted = Ask(dataset="clinic/icu", purpose="health-research", columns=("age",))
    run(request_access.request_grant(shared, caller("startup", "ml", "trainer"), wanted))
    asked = W.WhoRequest(dataset="clinic/icu", column="age")
    found = run(who.who(shared, OWNER, "clinic", asked))
    assert {entry.subject for entry in found} == {"startup/*", "friend/*", "clinic/role:owner"}
    assert {(e.access, e.condition, e.rule) for e in found} == {
        ("raw", "for health-research", "clinic.icu.research")
    }
    assert all(entry.last_used for entry in found)
    assert run(who.who(shared, OWNER, "clinic", replace(asked, column="name"))) == []
    for person, dataset in (
        (OWNER, "clinic/none"),
        (caller("startup", "ml", "trainer"), "clinic/icu"),
    ):
        with pytest.raises((NotFound, AccessDenied)):
            run(who.who(shared, person, "clinic", W.WhoRequest(dataset=dataset)))


def test_a_review_shows_the_rules_and_tags_of_an_earlier_time(shared: House) -> None:
    asked = W.WhoRequest(dataset="clinic/icu", column="name")
    before = shared.journal.durable_size
    assert run(who.who(shared, OWNER, "clinic", asked)) == []
    files = changed(shared, "columns: [age, hr]", "columns: [age, hr, name]")
    present = dict(shared.bundles["clinic"].files)
    run(publish.publish(shared, OWNER, "clinic", files, None))
    after = shared.journal.durable_size
    run(publish.publish(shared, OWNER, "clinic", present, None))
    assert run(who.who(shared, OWNER, "clinic", asked)) == []
    then = replace(asked, as_of=str(after))
    found = run(who.who(shared, OWNER, "clinic", then))
    assert {entry.rule for entry in found} == {"clinic.icu.research"}
    assert {entry.last_used for entry in found} <= {None, found[0].last_used}
    assert run(who.who(shared, OWNER, "clinic", replace(asked, as_of=str(before)))) == []
    for as_of, error in (
        ("0", NotFound),
        ("2001-01-01", NotFound),
        (str(10**14), NotFound),
        ("yesterday", InvalidInput),
    ):
        with pytest.raises(error):
            run(who.who(shared, OWNER, "clinic", replace(asked, as_of=as_of)))


@pytest.mark.usefixtures("no_child")
def test_reviews_and_replays_look_further_back_than_the_catalogue_remembers(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(shared, OWNER, run="study-9", columns=("hr",))
    wanted = Ask(dataset="clinic/icu", purpose="health-research", columns=("age",))
    run(request_access.request_grant(shared, caller("friend", "helper", "trainer"), wanted))
    decisions = dict(shared.catalog.state.decisions)
    monkeypatch.setattr(shared.catalog.state, "decisions", {})  # as after 10,000 newer ones
    monkeypatch.setattr(recorded, "_EVENTS_AT_ONCE", 3)
    found = tried(shared, changed(shared, "age, hr", "age"), "replay").replay
    assert found is not None
    assert [c.requests for c in found.changes if c.run == "clinic:study-9"] == [1]
    assert not found.is_cut
    review = W.WhoRequest(dataset="clinic/icu", column="age")
    entries = run(who.who(shared, OWNER, "clinic", review))
    assert all(entry.last_used and entry.looked_back_to is None for entry in entries)
    monkeypatch.setattr(recorded, "SECONDS_MAX", -1.0)
    found = tried(shared, changed(shared, "age, hr", "age"), "replay").replay
    assert found is not None
    assert found.is_cut
    assert found.judged < len(decisions)
    for entry in run(who.who(shared, OWNER, "clinic", review)):
        assert (entry.last_used is None) == (entry.looked_back_to is not None)
    with pytest.raises(LimitExceeded, match="too much happened"):
        run(who.who(shared, OWNER, "clinic", replace(review, as_of="1s")))


@pytest.mark.usefixtures("no_child")
def test_the_same_request_asked_often_is_judged_once_and_counted(shared: House) -> None:
    for _ in range(3):
        ask(shared, OWNER, run="study-7", columns=("hr",))
    found = tried(shared, changed(shared, "age, hr", "age"), "replay").replay
    assert found is not None
    assert [c.requests for c in found.changes if c.run == "clinic:study-7"] == [3]


def test_every_question_about_others_is_recorded_before_it_is_answered(shared: House) -> None:
    start = shared.journal.durable_size
    files = dict(shared.bundles["clinic"].files)
    run(trial.trial(shared, OWNER, "clinic", W.TrialRequest(files=files, parts=("diff",))))
    with pytest.raises(NotFound):
        run(who.who(shared, OWNER, "clinic", W.WhoRequest(dataset="clinic/icu", column="absent")))
    asked = [e.facts["question"] for e in shared.journal.read(start)
             if e.kind is EventKind.QuestionAsked]  # fmt: skip
    assert asked == ["policy-diff", "access-review"]


def test_one_reads_the_journal_at_a_time(shared: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_PATIENCE_SECONDS", 0.01)
    with recorded._alone(), pytest.raises(LimitExceeded, match="for somebody else"):
        next(recorded.decisions(shared, "clinic", recorded.Reach()))
