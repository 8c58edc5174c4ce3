"""Questions about people: consents, reads of their rows, what came after a withdrawal."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.errors import InvalidInput, UnknownName
from gateway.lineage import answers
from tests.lineage.history import tag
from tests.lineage.known import Grant, Known
from tests.lineage.test_answers import Ask, asked, known

__all__ = ["asked", "known"]


def test_consents(asked: Ask, known: Known) -> None:
    newest: dict[Any, tuple[int, str]] = {}
    for at, _, person, state, purpose, dataset in sorted(known.consents):
        newest[tag(person), purpose, dataset] = (at, state)
    rows = asked("consents", "clinic")
    assert {(r["person_tag"], r["purpose"], r["dataset"]): r["state"] for r in rows} == {
        key: state for key, (_, state) in newest.items()
    }
    assert asked("consents", "startup") == []


WORDS = ("not-read", "filtered", "unknown", "possibly-delivered", "delivered")


def key_of(g: Grant) -> tuple[Any, ...]:
    return g.dataset, g.version, g.actor, tag(g.subject), g.run


def test_runs_of_a_person(asked: Ask, known: Known) -> None:
    """What each Grant had of the person is given; lineage says which runs and models that is."""
    draw = random.Random(3)
    grants = [g for g in known.grants if g.owner == "clinic"]
    had = {g.id: draw.randrange(5) for g in grants}
    held = [
        {"grant": g, "outcome": WORDS[n], "because": f"why-{n}", "strength": n}
        for g, n in had.items()
    ]
    given = {"dataset": "clinic/icu", "person": tag("p"), "purpose": "audit", "held": held}
    rows = asked("runs-of-person", "clinic", **given)
    truth: dict[Any, int] = {}
    for g in grants:
        truth[key_of(g)] = max(truth.get(key_of(g), 0), had[g.id])
    names = ("dataset", "version", "actor_tenant", "subject_tag", "run")
    assert {tuple(r[n] for n in names): (r["outcome"], r["because"]) for r in rows} == {
        key: (WORDS[n], f"why-{n}") for key, n in truth.items()
    }
    assert len(rows) == len(truth)
    for row in rows:
        reader = (row["actor_tenant"], row["run"])
        assert set(row["models"] or ()) == {m for *who, m in known.models if tuple(who) == reader}
        reads = [r for r in known.reads if key_of(r.grant) == tuple(row[n] for n in names)]
        assert (row["first_read"] is None) == (not reads)
    with pytest.raises(UnknownName):
        asked("runs-of-person", "rival", **given)
    assert asked("runs-of-person", "clinic", **{**given, "held": []}) == []


def test_consents_of_a_person(asked: Ask, known: Known) -> None:
    for person in (f"person-{n}" for n in range(5)):
        newest: dict[Any, str] = {}
        for _, _, who, state, purpose, dataset in sorted(known.consents):
            if who == person:
                newest[purpose, dataset] = state
        given = {"person": tag(person), "purpose": "audit"}
        rows = asked("consents-of-person", "clinic", **given)
        assert {(r["purpose"], r["dataset"]): r["state"] for r in rows} == newest
        assert asked("consents-of-person", "startup", **given) == []


def test_lineage_takes_the_tag_of_a_person_and_never_an_id(asked: Ask) -> None:
    for wrong in ("4711", "AB" * 16, None):
        with pytest.raises(InvalidInput, match="person"):
            asked("consents-of-person", "clinic", person=wrong, purpose="audit")


def test_reads_after_withdrawal(asked: Ask, known: Known) -> None:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in asked("reads-after-withdrawal", "clinic"):
        found[row["state"], row["dataset"], row["run"]] += row["rows"]
    truth: Counter[tuple[str, str, str]] = Counter()
    for read in known.seen("clinic"):
        purpose, dataset = read.grant.purpose, read.grant.dataset
        mine = [
            word for word in sorted(known.consents)
            if read.grant.owner == "clinic" and word[5] in (None, dataset)
            and (word[4] == purpose or (word[4], purpose) == ("research", "health-research"))
        ]  # fmt: skip
        if not mine:
            truth["unknown", dataset, read.grant.run] += read.rows
            continue
        now = {(w[2], w[4], w[5]): w[3] for w in mine if w[0] <= read.at}
        if "withdrawn" in now.values():
            truth["after-withdrawal", dataset, read.grant.run] += read.rows
    assert {state for state, *_ in truth} == {"unknown", "after-withdrawal"}
    withdrawn = {
        answers.plain(datetime.fromtimestamp(at, UTC))
        for at, _, _, state, *_ in known.consents if state == "withdrawn"
    }  # fmt: skip
    for row in asked("reads-after-withdrawal", "clinic"):
        if row["state"] == "after-withdrawal":
            assert row["first_withdrawal"] in withdrawn
            assert row["persons_at_most"] >= 1


def test_without_consent_events_the_answer_is_unknown_and_not_none(
    asked: Ask, known: Known
) -> None:
    rows = asked("reads-after-withdrawal", "startup")  # consents are the owner's to know
    assert {row["state"] for row in rows} == {"unknown"}
    assert sum(row["rows"] for row in rows) == sum(r.rows for r in known.seen("startup"))


def test_reads_after_erasure(asked: Ask, known: Known) -> None:
    (row,) = asked("reads-after-erasure", "clinic")
    before = [r for r in known.reads if r.grant.dataset == "clinic/wards"]
    assert (row["rows_before"], row["rows_after"], row["certificate"]) == (
        sum(r.rows for r in before), 0, "ab" * 32,
    )  # fmt: skip
