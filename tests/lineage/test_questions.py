"""What the named questions answer, and to whom they answer nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidInput, UnknownName
from gateway.lineage import answers
from gateway.lineage.asking import Asker, Table, ask
from gateway.lineage.names import KINDS
from gateway.lineage.projection import Projection
from gateway.lineage.questions import QUESTIONS, question
from gateway.lineage.trace import Walk, trace
from tests.lineage.history import BEGIN, History, clinic_and_startup, tag

KEY = b"k" * 32
LATER = BEGIN + 100_000
GRANT = clinic_and_startup().grants[0]
REQUIRED = {
    "runs-of-dataset": {"dataset": "clinic/icu"},
    "decisions-of-dataset": {"dataset": "clinic/icu"},
    "grants-of-dataset": {"dataset": "clinic/icu"},
    "tokens-of-grant": {"grant": GRANT},
    "runs-of-shard": {"dataset": "clinic/icu", "shard": 0},
    "column-unmasked": {"dataset": "clinic/icu", "column": "hr"},
    "provenance-of-model": {"model": "sepsis-v2"},
    "downstream-of-dataset": {"dataset": "clinic/icu"},
    "decisions-of-bundle": {"bundle": "cd" * 32},
    "place-of-event": {"id": "run-1"},
    "runs-of-person": {"dataset": "clinic/icu", "person": tag("p"), "purpose": "audit"},
    "consents-of-person": {"person": tag("p"), "purpose": "audit"},
}


@pytest.fixture
def projection(tmp_path: Path) -> Iterator[Projection]:
    made = Projection(tmp_path, KEY)
    yield made
    made.close()


@pytest.fixture
def story(projection: Projection) -> Projection:
    projection.append(clinic_and_startup().pairs())
    return projection


def asked(
    projection: Projection, name: str, tenant: str | None, *, operator: bool = False, **given: Any
) -> list[dict[str, Any]]:
    table = table_of(projection, name, tenant, operator=operator, **given)
    names = [column["name"] for column in table.columns]
    return [dict(zip(names, map(answers.plain, row), strict=True)) for row in table.rows]


def table_of(
    projection: Projection, name: str, tenant: str | None, *, operator: bool = False, **given: Any
) -> Table:
    with projection.reading() as cursor:
        return ask(
            cursor,
            question(name),
            given,
            asker=Asker(tenant=tenant, is_operator=operator),
            now=float(LATER),
        )


def test_an_unknown_question_is_not_found() -> None:
    with pytest.raises(UnknownName, match="no question is called `who-wrote`"):
        question("who-wrote")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"datset": "clinic/icu"}, "not a parameter"),
        ({"dataset": "icu'; DROP TABLE read; --"}, "not a dataset"),
        ({"dataset": 3}, "reference is text"),
        ({"since": "yesterday"}, "not a time"),
        ({"since": "99999999999999d"}, "not a time"),
        ({"since": "999999w"}, "too long ago"),
        ({"since": "9999-12-31T23:59:59-12:00"}, "not a time"),
        ({"column": ""}, "1 to 1024"),
        ({"column": "x" * 1025}, "1 to 1024"),
        ({"column": "\ud800"}, "Unicode"),
        ({"subject": "a' OR 1=1"}, "tag"),
        ({"limit": 0}, "between"),
        ({"limit": 10_001}, "between"),
        ({"limit": "all"}, "whole number"),
        ({"run": ["r"]}, "text"),
        ({"purpose": ["x"]}, "not a purpose"),
        ({"since": "2026-02-01", "until": "2026-01-31"}, "`until` is before `since`"),
        ({"since": "1d", "as_of": "2d"}, "`as_of` is before `since`"),
    ],
)
def test_a_parameter_that_is_not_of_its_type_is_refused(
    projection: Projection, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        asked(projection, "who-read", "clinic", **given)


def test_a_required_parameter_must_be_given(projection: Projection) -> None:
    with pytest.raises(InvalidInput, match="`dataset` is missing"):
        asked(projection, "runs-of-dataset", "clinic")


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_tenant_that_was_not_there_gets_nothing(story: Projection, name: str) -> None:
    given = REQUIRED.get(name, {})
    if any(p.required and p.type in KINDS for p in question(name).parameters):
        with pytest.raises(UnknownName):
            asked(story, name, "stranger", **given)
    else:
        assert asked(story, name, "stranger", **given) == []


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_a_tenant_sees_does_not_depend_on_others(tmp_path: Path, name: str) -> None:
    with_others, alone = History(), History()
    for history, others in ((with_others, True), (alone, False)):
        for turn in range(3):
            grant = history.decide("startup/ml", "clinic/icu", run=f"run-{turn}")
            history.read(history.lease(grant), [0], 10)
            if others:
                foreign = history.decide("startup/ml", "rival/xray", run=f"run-{turn}")
                history.read(history.lease(foreign), [0], 77)
                history.decide("lab/bob", "rival/xray", allow=False)
                history.policy("rival")
                history.asked("rival")
            history.finish("startup", f"run-{turn}")
    seen = []
    for place, history in enumerate((with_others, alone)):
        projection = Projection(tmp_path / str(place), KEY)
        projection.append(history.pairs())
        try:
            found = asked(projection, name, "clinic", **REQUIRED.get(name, {}))
            seen.append([_without_places(row) for row in found])
        except UnknownName as unknown:
            seen.append((unknown.message, unknown.advice))
        projection.close()
    assert seen[0] == seen[1]


def _without_places(row: dict[str, Any]) -> dict[str, Any]:
    """A row without ids and times, which differ between two histories."""
    drop = {"index", "grant", "decision", "last_decision"}
    drop |= {"first_index", "last_index", "events"}  # the log is everybody's; its size is public
    return {
        k: v for k, v in row.items()
        if k not in drop and not (isinstance(v, str) and v.endswith("Z"))
    }  # fmt: skip


def test_an_actor_does_not_learn_which_of_the_owners_rules_spoke(story: Projection) -> None:
    owner = asked(story, "denials", "clinic", dataset="clinic/icu")
    actor = asked(story, "denials", "startup", dataset="clinic/icu")
    assert [row["rules"] for row in owner if row["what"] == "access"] == [["secret-rule"]]
    assert [row["rules"] for row in actor if row["what"] == "access"] == [None]
    assert all(row["rules"] is None for row in asked(story, "who-read", "startup"))


def test_who_asks_for_an_unseen_dataset_finds_only_that_a_name_was_not_found(
    projection: Projection,
) -> None:
    history = History()
    hidden = ("no-rule", "not-visible")
    history.decide("rival/spy", "clinic/icu", allow=False, reasons=hidden)
    history.add(
        "RequestRefused", "rival", "rival", "rival/spy", route="/v1/datasets", error="not-found"
    )
    projection.append(history.pairs())
    [row] = asked(projection, "denials", "rival")
    assert row["times"] == 2
    assert (row["what"], row["dataset"], row["version"], row["last_decision"]) == (
        "request",
        None,
        None,
        None,
    )
    with pytest.raises(UnknownName, match="no dataset `clinic/icu` in the history of `rival`"):
        asked(projection, "decisions-of-dataset", "rival", dataset="clinic/icu")
    [seen] = asked(projection, "denials", "clinic")
    assert (seen["dataset"], seen["reasons"]) == ("clinic/icu", list(hidden))


def test_a_hidden_denial_is_not_even_counted_for_its_asker(projection: Projection) -> None:
    history = History()
    history.decide("rival/spy", "clinic/icu", allow=False, reasons=("not-visible",))
    projection.append(history.pairs())
    assert asked(projection, "log-complete", "rival") == []
    assert asked(projection, "log-complete", "clinic")[0]["your_events"] == 1


@pytest.mark.parametrize(
    ("words", "persons"),
    [
        ([("given", "research", None)], None),
        ([("withdrawn", "research", None)], 1),
        ([("withdrawn", "research", None), ("given", "research", None)], None),
        ([("withdrawn", "research", None), ("withdrawn", "research", None)], 1),
        ([("withdrawn", "health-research", "clinic/icu")], 1),
        ([("given", "research", None), ("withdrawn", "research", "clinic/icu")], 1),
        ([("given", "research", None), ("withdrawn", "research", "clinic/other")], None),
        ([("given", "research", None), ("withdrawn", "disease-research", None)], None),
    ],
)
def test_the_newest_word_on_what_covers_a_read_counts(
    projection: Projection, words: list[tuple[str, str, str | None]], persons: int | None
) -> None:
    history = History()
    for state, purpose, dataset in words:
        kind = {"given": "ConsentGiven", "withdrawn": "ConsentWithdrawn"}[state]
        at = [{"person": tag("smith"), "at": history.clock}]
        history.add(kind, "clinic", purpose=purpose, dataset=dataset, persons=at)
    history.read(history.lease(history.decide("startup/ml", "clinic/icu")), [0], 10)
    projection.append(history.pairs())
    found = asked(projection, "reads-after-withdrawal", "clinic")
    assert [(row["state"], row["persons_at_most"]) for row in found] == [
        ("after-withdrawal", persons)
    ] * (persons is not None)


def test_an_operator_sees_all_and_no_private_attribute(story: Projection) -> None:
    rows = asked(story, "who-read", None, operator=True)
    assert {row["actor_tenant"] for row in rows} == {"startup", "lab"}
    assert all(row["rules"] is None for row in rows)


def test_who_read_counts_confirmed_rows_and_bounds_the_rest(story: Projection) -> None:
    (row,) = asked(story, "who-read", "clinic", dataset="clinic/icu@1")
    assert (row["rows"], row["rows_at_most"], row["bytes"], row["leases"]) == (300, 500, 2400, 1)
    assert row["columns"] == ["age", "hr", "label"]
    assert row["masks"] == ["age=x-bucket:10"]
    assert row["subject_tag"] == tag("startup/ml")
    assert (row["purpose"], row["run"], row["rules"]) == (
        "health-research", "run-1", ["secret-rule"],
    )  # fmt: skip


def test_who_read_finds_readers_of_a_column(story: Projection) -> None:
    assert [r["actor_tenant"] for r in asked(story, "who-read", "clinic", column="diagnosis")] == [
        "lab"
    ]
    with pytest.raises(UnknownName, match="no column `DIAGNOSIS`"):
        asked(story, "who-read", "clinic", column="DIAGNOSIS")


def test_who_read_before_and_after(story: Projection) -> None:
    everything = asked(story, "who-read", "clinic")
    assert asked(story, "who-read", "clinic", since="1d") == []  # the story ended a day ago
    assert asked(story, "who-read", "clinic", until="2020-01-01") == []
    assert asked(story, "who-read", "clinic", since="2020-01-01T00:00Z") == everything


def test_denials_name_reasons_and_times(story: Projection) -> None:
    rows = asked(story, "denials", "clinic")
    assert {(r["what"], tuple(r["reasons"]), r["times"]) for r in rows} == {
        ("access", ("no-rule",), 1),
        ("stream", ("lease-revoked",), 1),
    }


def test_runs_of_the_same_name_in_two_tenants_stay_two_runs(story: Projection) -> None:
    rows = asked(story, "runs-of-dataset", "clinic", dataset="clinic/icu")
    assert {(r["actor_tenant"], r["run"], tuple(r["models"])) for r in rows} == {
        ("startup", "run-1", ("sepsis-v2@sha256:" + "12" * 32,)),
        ("lab", "run-1", ("lab-model@sha256:" + "12" * 32,)),
    }
    assert {r["actor_tenant"]: tuple(r["columns"]) for r in rows}["startup"] == (
        "age", "hr", "label",
    )  # fmt: skip


def test_a_trainer_sees_its_own_run_only(story: Projection) -> None:
    rows = asked(story, "runs-of-dataset", "startup", dataset="clinic/icu")
    assert [r["actor_tenant"] for r in rows] == ["startup"]


def test_grants_have_the_state_of_their_time(story: Projection) -> None:
    now = {r["actor_tenant"]: r["state"] for r in asked(story, "grants-of-dataset", "clinic",
                                                        dataset="clinic/icu")}  # fmt: skip
    assert now == {"startup": "revoked", "lab": "expired"}
    then = asked(story, "grants-of-dataset", "clinic", dataset="clinic/icu",
                 as_of=f"{LATER - BEGIN - 8}s")  # fmt: skip
    assert [(r["actor_tenant"], r["state"]) for r in then] == [("startup", "active")]


def test_policy_in_force_is_the_newest_of_its_time(projection: Projection) -> None:
    history = History()
    history.policy("clinic", "aa" * 32)
    history.decide("startup/ml", "clinic/icu")
    history.policy("clinic", "bb" * 32, rules=9)
    history.decide("startup/ml", "clinic/icu")
    history.decide("startup/ml", "clinic/icu", allow=False)
    projection.append(history.pairs())
    (row,) = asked(projection, "policy-in-force", "clinic")
    assert (row["bundle"], row["rules"], row["decisions"], row["bundles_so_far"]) == (
        "bb" * 32, 9, 2, 2,
    )  # fmt: skip
    (row,) = asked(projection, "policy-in-force", "clinic", as_of=f"{LATER - BEGIN - 2}s")
    assert (row["bundle"], row["decisions"]) == ("aa" * 32, 1)
    assert asked(projection, "policy-in-force", "startup") == []


def test_tokens_of_a_grant_show_their_key_to_their_holder_only(projection: Projection) -> None:
    history = History()
    grant = history.decide("startup/ml", "clinic/icu")
    history.token(grant)
    projection.append(history.pairs())
    (mine,) = asked(projection, "tokens-of-grant", "startup", grant=grant)
    (theirs,) = asked(projection, "tokens-of-grant", "clinic", grant=grant)
    assert (mine["thumbprint"], theirs["thumbprint"], theirs["jti"]) == ("thumb-secret", None, None)


def test_tokens_of_a_grant_are_those_of_all_that_was_cut_from_it(projection: Projection) -> None:
    history = History()
    grant = history.decide("startup/ml", "clinic/icu", columns=(1, 2))
    child = history.decide("startup/ml", "clinic/icu", columns=(1,), parent=grant)
    grandchild = history.decide("startup/rank", "clinic/icu", columns=(1,), parent=child)
    other = history.decide("startup/ml", "clinic/icu")
    for each in (grant, child, grandchild, other):
        history.token(each)
    projection.append(history.pairs())
    for tenant in ("startup", "clinic"):
        rows = asked(projection, "tokens-of-grant", tenant, grant=grant)
        assert [(r["grant"], r["parent"]) for r in rows] == [
            (grant, None), (child, grant), (grandchild, child),
        ]  # fmt: skip
    assert len(asked(projection, "tokens-of-grant", "clinic", grant=child)) == 2
    with projection.reading() as cursor:
        found = trace(cursor, grandchild, tenant="clinic", walk=Walk(direction="up"))
    assert {(e["source"], e["kind"]) for e in found["edges"]} >= {
        (f"grant:{child}", "cut"), (f"grant:{grant}", "cut"),
    }  # fmt: skip


def test_questions_asked_are_recorded_for_their_tenant(story: Projection) -> None:
    (row,) = asked(story, "questions-asked", "clinic")
    assert (row["question"], row["subject_tag"]) == ("who-read", tag("clinic/audit"))


def test_an_answer_says_when_it_is_cut(story: Projection) -> None:
    assert table_of(story, "who-read", "clinic", limit=1).is_truncated
    assert not table_of(story, "who-read", "clinic", limit=2).is_truncated


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_questions_columns_are_the_documented_ones(story: Projection, name: str) -> None:
    table = table_of(story, name, "clinic", **REQUIRED.get(name, {}))
    assert tuple(column["name"] for column in table.columns) == QUESTIONS[name].columns


_STEP = st.tuples(
    st.sampled_from(["startup/ml", "lab/bob", "clinic/own"]),
    st.sampled_from(["clinic/icu", "rival/xray"]),
    st.sampled_from(["deny", "intend", "read", "revoke"]),
    st.integers(1, 500),
)


@settings(max_examples=settings.default.max_examples // 10)
@given(steps=st.lists(_STEP, min_size=1, max_size=25))
def test_generated_histories_have_the_known_answers(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str, int]]
) -> None:
    history = History()
    read: dict[tuple[str, str], int] = {}
    at_most: dict[tuple[str, str], int] = {}
    denied: dict[tuple[str, str], int] = {}
    for subject, dataset, what, rows in steps:
        if what == "deny":
            history.decide(subject, dataset, allow=False)
            denied[subject, dataset] = denied.get((subject, dataset), 0) + 1
            continue
        grant = history.decide(subject, dataset, run=None)
        lease = history.lease(grant)
        history.intend(lease, 0, 3, rows)
        at_most[subject, dataset] = at_most.get((subject, dataset), 0) + rows
        if what == "read":
            history.confirm(lease, [0, 1, 2, 3], rows)
            read[subject, dataset] = read.get((subject, dataset), 0) + rows
        if what == "revoke":
            history.revoke(grant)
    projection = Projection(tmp_path_factory.mktemp("generated"), KEY)
    projection.append(history.pairs())
    for tenant in ("clinic", "rival", "startup", "lab"):
        mine = {k for k in at_most if tenant in (k[0].partition("/")[0], k[1].partition("/")[0])}
        found = asked(projection, "who-read", tenant)
        for column, known in (("rows", read), ("rows_at_most", at_most)):
            totals: dict[tuple[str, str], int] = {}
            for row in found:
                key = (row["subject_tag"], row["dataset"])
                totals[key] = totals.get(key, 0) + row[column]
            assert totals == {(tag(s), d): known.get((s, d), 0) for s, d in mine}
        refused = asked(projection, "denials", tenant)
        assert {(r["subject_tag"], r["dataset"]): r["times"] for r in refused} == {
            (tag(s), d): n for (s, d), n in denied.items()
            if tenant in (s.partition("/")[0], d.partition("/")[0])
        }  # fmt: skip
    projection.close()
