"""Questions about rules, and about tokens and reads that are out of the ordinary."""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter

import pytest

from gateway.errors import UnknownName
from tests.lineage.history import tag
from tests.lineage.known import BUNDLES, Known
from tests.lineage.test_answers import TENANTS, Ask, asked, known, rows_by

__all__ = ["asked", "known"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_decisions_of_a_bundle(asked: Ask, known: Known, bundle: str) -> None:
    found: Counter[tuple[str, str]] = Counter()
    with contextlib.suppress(UnknownName):
        for row in asked("decisions-of-bundle", "clinic", bundle=bundle):
            found[row["tenant"], row["effect"]] += row["decisions"]
    truth = Counter((g.owner, "allow") for g in known.grants
                    if g.bundle == bundle and g.is_seen_by("clinic"))  # fmt: skip
    truth.update(
        (dataset.partition("/")[0], "deny") for subject, dataset, b in known.denials
        if b == bundle and "clinic" in (subject.partition("/")[0], dataset.partition("/")[0])
    )  # fmt: skip
    assert found == truth


def test_reads_under_replaced_rules(asked: Ask, known: Known) -> None:
    found = {r["grant"]: r["rows"] for r in asked("reads-under-replaced-rules", "clinic")}
    truth: Counter[str] = Counter()
    for read in known.reads:
        grant = read.grant
        replaced = [
            index for index, tenant, bundle, _ in known.publications
            if tenant == grant.owner == "clinic" and index > grant.index and bundle != grant.bundle
        ]  # fmt: skip
        if replaced and read.index > min(replaced):
            truth[grant.id] += read.rows
    assert truth
    assert found == truth


def test_rules_without_a_second_person(asked: Ask, known: Known) -> None:
    for tenant in TENANTS:
        found = {row["index"] for row in asked("rules-without-second-person", tenant)}
        assert found == {
            i for i, owner, _, alone in known.publications if alone and owner == tenant
        }


def test_misused_tokens(asked: Ask, known: Known) -> None:
    rows = asked("tokens-misused", "clinic")
    assert {(r["sign"], r["detail"]) for r in rows if r["sign"] != "several-keys"} == set(
        known.strange_leases
    )
    assert [r["grant"] for r in rows if r["sign"] == "several-keys"] == [known.two_keys.id]


@pytest.mark.parametrize("factor", [3, 10])
def test_unusual_volumes(asked: Ask, known: Known, factor: int) -> None:
    found = {
        (r["day"], r["subject_tag"]) for r in asked("unusual-volumes", "clinic", factor=factor)
    }
    days = rows_by(known.seen("clinic"), lambda r: (r.grant.subject, r.day))
    truth = set()
    for (subject, day), rows in days.items():
        before = sorted((d, n) for (s, d), n in days.items() if s == subject and d < day)[-30:]
        if before and rows > factor * statistics.median(n for _, n in before):
            truth.add((day, tag(subject)))
    assert truth
    assert found == truth


def test_repeated_reads(asked: Ask, known: Known) -> None:
    found = {(r["grant"], r["epoch"]): r["segments"] for r in asked("repeated-reads", "clinic")}
    times = Counter(
        (r.grant.id, r.epoch, segment) for r in known.seen("clinic") for segment in r.segments
    )
    assert found == Counter((g, e) for (g, e, _), n in times.items() if n > 1)
    assert found


@pytest.mark.parametrize("tenant", TENANTS)
def test_unused_tokens(asked: Ask, known: Known, tenant: str) -> None:
    assert {row["index"] for row in asked("unused-tokens", tenant)} == {
        token for g in known.grants
        if g.is_seen_by(tenant) and not g.leases and g is not known.took_keys
        for token in g.tokens
    }  # fmt: skip
