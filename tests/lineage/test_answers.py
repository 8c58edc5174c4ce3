"""Every question answers a generated history as who made the history knows it."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UnknownName
from gateway.lineage import answers
from gateway.lineage.asking import Asker, ask
from gateway.lineage.projection import Projection
from gateway.lineage.questions import QUESTIONS, question
from tests.lineage.history import tag
from tests.lineage.known import (
    DAY,
    REGIONS,
    SHARDS,
    SPECIAL,
    TERMS,
    Known,
    Read,
    tags,
)  # fmt: skip

TENANTS = ("clinic", "rival", "startup", "lab")
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module")
def asked(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    made = Projection(tmp_path_factory.mktemp("known"), b"k" * 32)
    made.append(known.history.pairs())

    def of(name: str, tenant: str, *, held: Any = (), **given: Any) -> list[dict[str, Any]]:
        terms = TERMS if tenant == "clinic" else ()
        with made.reading() as cursor:
            table = ask(
                cursor, question(name), given,
                asker=Asker(tenant=tenant, terms=terms, held=held), now=known.now,
            )  # fmt: skip
        names = [column["name"] for column in table.columns]
        return [dict(zip(names, map(answers.plain, row), strict=True)) for row in table.rows]

    yield of
    made.close()


def rows_by(reads: list[Read], key: Callable[[Read], Any]) -> dict[Any, int]:
    found: dict[Any, int] = defaultdict(int)
    for read in reads:
        found[key(read)] += read.rows
    return dict(found)


def test_the_history_has_enough_of_everything(known: Known) -> None:
    assert len(known.reads) > 150
    assert {read.grant.actor for read in known.reads} == {"startup", "lab", "clinic"}
    assert len(known.publications) > 4


@pytest.mark.parametrize("tenant", TENANTS)
def test_who_read(asked: Ask, known: Known, tenant: str) -> None:
    found = {row["grant"]: row["rows"] for row in asked("who-read", tenant)}
    assert found == rows_by(known.seen(tenant), lambda r: r.grant.id)


@pytest.mark.parametrize("column", ["age", "diagnosis"])
def test_who_read_a_column_since(asked: Ask, known: Known, column: str) -> None:
    begin = known.now - 30 * DAY
    found = {r["grant"]: r["rows"] for r in asked("who-read", "clinic", column=column, since="30d")}
    reads = [r for r in known.seen("clinic") if column in r.grant.columns and r.at >= begin]
    assert found == rows_by(reads, lambda r: r.grant.id)


@pytest.mark.parametrize("name", ["run-d", "run:run-d"])
def test_who_read_in_a_run_by_the_name_that_people_give_it(asked: Ask, name: str) -> None:
    (whole,) = {r["run"] for r in asked("who-read", "clinic", run=name)}
    assert whole.rpartition(":")[2] == "run-d"
    with pytest.raises(UnknownName):
        asked("who-read", "clinic", run="d")


@pytest.mark.parametrize("tenant", TENANTS)
def test_denials(asked: Ask, known: Known, tenant: str) -> None:
    found = {(r["subject_tag"], r["dataset"]): r["times"] for r in asked("denials", tenant)}
    assert found == Counter(
        (tag(subject), dataset) for subject, dataset, _ in known.denials
        if tenant in (subject.partition("/")[0], dataset.partition("/")[0])
    )  # fmt: skip


@pytest.mark.parametrize("shard", range(SHARDS))
def test_runs_of_a_shard(asked: Ask, known: Known, shard: int) -> None:
    found = {
        (r["version"], r["actor_tenant"], r["run"], r["subject_tag"]): r["rows"]
        for r in asked("runs-of-shard", "clinic", dataset="clinic/icu", shard=shard)
    }
    reads = [r for r in known.reads if r.grant.dataset == "clinic/icu"]
    assert found == rows_by(
        reads, lambda r: (r.grant.version, r.grant.actor, r.grant.run, tag(r.grant.subject))
    )


def test_a_part_of_a_stream_says_how_much_of_it(asked: Ask, known: Known) -> None:
    rows = asked("runs-of-shard", "clinic", dataset="clinic/icu@1", shard=0)
    (row,) = [r for r in rows if r["run"] == "run-d"]
    assert (row["segments_received"], row["segments_in_stream"], row["through"]) == (
        1, 1, "stream",
    )  # fmt: skip
    assert any(r["segments_received"] < r["segments_in_stream"] for r in rows)


@pytest.mark.parametrize("column", ["age", "label"])
def test_where_a_column_went_unmasked(asked: Ask, known: Known, column: str) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for row in asked("column-unmasked", "clinic", dataset="clinic/icu", column=column):
        found[row["actor_tenant"], row["run"]] += row["rows"]
    reads = [
        r for r in known.reads
        if r.grant.dataset == "clinic/icu" and column in set(r.grant.columns) - set(r.grant.masked)
    ]  # fmt: skip
    assert found == rows_by(reads, lambda r: (r.grant.actor, r.grant.run))


def test_provenance_of_a_model(asked: Ask, known: Known) -> None:
    (row,) = asked("provenance-of-model", "clinic", model="model:model-d")
    assert (row["dataset"], row["version"], row["licence"]) == ("clinic/icu", 1, "DUA-7")
    assert row["tags"] == ["health.special", "pii.indirect"]
    actor, run, model = known.models[0]
    for made_of in asked("provenance-of-model", actor, model=model):
        if made_of["dataset"] != "clinic/icu":  # whose card nobody has filled in
            assert (made_of["licence"], made_of["legal_basis"]) == ("unknown", "unknown")
    found = asked("provenance-of-model", actor, model=model)
    streams = {
        (g.dataset, g.version) for g in known.grants
        if g.actor == actor and g.run == run and (g.leases or g is known.took_keys)
    }  # fmt: skip
    assert {(r["dataset"], r["version"]) for r in found if r["steps"] <= 2} == streams


def test_an_owner_learns_no_foreign_origin_of_a_model(asked: Ask, known: Known) -> None:
    for actor, _, model in known.models:
        if actor != "clinic":
            with contextlib.suppress(UnknownName):
                found = asked("provenance-of-model", "clinic", model=model)
                assert all(row["dataset"].startswith("clinic/") for row in found)


def test_what_came_of_a_dataset(asked: Ask, known: Known) -> None:
    rows = asked("downstream-of-dataset", "clinic", dataset="clinic/icu@1")
    found = {(r["kind"], r["name"].partition("@sha256")[0]) for r in rows}
    runs = {
        (g.actor, g.run) for g in known.grants
        if (g.dataset, g.version) == ("clinic/icu", 1) and g.leases
    }  # fmt: skip
    assert {name for kind, name in found if kind == "run"} == {f"{a}/{r}" for a, r in runs}
    assert {name for kind, name in found if kind == "model"} == {
        f"{actor}/{model}" for actor, run, model in known.models if (actor, run) in runs
    }
    assert ("version", "clinic/made@1") in found


@pytest.mark.parametrize("tenant", TENANTS)
def test_reads_by_others(asked: Ask, known: Known, tenant: str) -> None:
    found = {
        (r["actor_tenant"], r["dataset"], r["purpose"]): r["rows"]
        for r in asked("reads-by-others", tenant)
    }
    reads = [r for r in known.seen(tenant) if r.grant.actor != r.grant.owner]
    assert found == rows_by(reads, lambda r: (r.grant.actor, r.grant.dataset, r.grant.purpose))


@pytest.mark.parametrize("tenant", TENANTS)
def test_usage_per_month(asked: Ask, known: Known, tenant: str) -> None:
    rows = asked("usage", tenant)
    found = {(r["month"], r["actor_tenant"], r["dataset"]): r["rows"] for r in rows}
    assert found == rows_by(
        known.seen(tenant), lambda r: (r.day[:7], r.grant.actor, r.grant.dataset)
    )
    assert sum(r["bytes"] for r in rows) == 8 * sum(r.rows for r in known.seen(tenant))


def test_periods_of_use(asked: Ask, known: Known) -> None:
    for row in asked("periods-of-use", "clinic"):
        reads = [
            r for r in known.seen("clinic")
            if (r.grant.actor, r.grant.run) == (row["actor_tenant"], row["run"])
        ]  # fmt: skip
        assert row["rows"] == sum(r.rows for r in reads)
        assert row["subject_tags"] == tags({r.grant.subject for r in reads})
        assert row["versions"] == sorted({f"{r.grant.dataset}@{r.grant.version}" for r in reads})


def test_the_record_of_processing(asked: Ask, known: Known) -> None:
    rows = {
        r["purpose"]: r for r in asked("processing-record", "clinic") if r["tenant"] == "clinic"
    }
    reads = [r for r in known.reads if r.grant.owner == "clinic"]
    assert {p: r["rows"] for p, r in rows.items()} == rows_by(reads, lambda r: r.grant.purpose)
    for purpose, row in rows.items():
        mine = [r for r in reads if r.grant.purpose == purpose]
        assert row["recipients"] == sorted({r.grant.actor for r in mine})
        assert row["recipient_regions"] == sorted(
            {REGIONS.get(r.grant.actor, "unknown") for r in mine}
        )
        assert row["categories"] == ["health.special", "pii.indirect"]
        assert row["legal_bases"] == ["Art. 9(2)(a) explicit consent", "unknown"]  # wards: no card


def test_special_categories(asked: Ask, known: Known) -> None:
    rows = asked("special-categories", "clinic")
    found = {(r["version"], r["actor_tenant"], r["purpose"]): r["rows"] for r in rows}
    reads = [r for r in known.reads if SPECIAL.get(r.grant.dataset) in r.grant.columns]
    assert found == rows_by(reads, lambda r: (r.grant.version, r.grant.actor, r.grant.purpose))
    assert {r["basis"] for r in rows} == {"explicit"}
    assert asked("special-categories", "startup") == []  # tags are their owner's to know


def test_transfers(asked: Ask, known: Known) -> None:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in asked("transfers", "clinic"):
        found[row["dataset"], row["actor_tenant"], row["leaves_region"]] += row["rows"]
    truth: Counter[tuple[str, str, str]] = Counter()
    for read in known.seen("clinic"):
        region = REGIONS.get(read.grant.actor)
        if read.grant.dataset != "clinic/icu" or region is None:
            truth[read.grant.dataset, read.grant.actor, "unknown"] += read.rows
        elif region != "eu":
            truth[read.grant.dataset, read.grant.actor, "yes"] += read.rows
    assert found == truth


def test_reads_after_retention(asked: Ask, known: Known) -> None:
    found = {
        (r["dataset"], r["version"], r["state"]): r["rows"]
        for r in asked("reads-after-retention", "clinic")
    }
    truth: Counter[tuple[str, int, str]] = Counter()
    for read in known.seen("clinic"):
        name = (read.grant.dataset, read.grant.version)
        if read.grant.owner != "clinic":
            continue  # a reader does not see another tenant's registrations
        if read.grant.dataset != "clinic/icu":
            truth[*name, "unknown"] += read.rows
        elif read.at >= known.registered[name] + 20 * DAY:
            truth[*name, "after-end"] += read.rows
    assert found == truth


@pytest.mark.parametrize("tenant", TENANTS)
def test_keys_released(asked: Ask, known: Known, tenant: str) -> None:
    rows = asked("keys-released", tenant)
    taken = known.took_keys
    assert [(r["grant"], r["keys"]) for r in rows] == [(taken.id, 9)] * taken.is_seen_by(tenant)
    through = []
    if any(g.dataset == "clinic/wards" and g.is_seen_by(tenant) for g in known.grants):
        through = asked("runs-of-shard", tenant, dataset="clinic/wards", shard=1)
    assert [r["run"] for r in through if r["through"] == "keys"] == [taken.run] * (
        tenant == "clinic"
    )


def test_keys_that_left_are_reads_of_every_row_without_a_mask(asked: Ask, known: Known) -> None:
    taken = known.took_keys
    (row,) = [r for r in asked("who-read", "clinic") if r["through"] == "keys"]
    assert (row["grant"], row["rows"], row["leases"], row["masks"]) == (taken.id, 1000, 0, [])
    for column in taken.columns:
        found = asked("column-unmasked", "clinic", dataset="clinic/wards", column=column)
        assert [r["run"] for r in found if r["through"] == "keys"] == [taken.run]


def test_a_log_without_a_gap(asked: Ask, known: Known) -> None:
    (row,) = asked("log-complete", "clinic")
    last = len(known.history.events) - 1
    assert (row["first_index"], row["last_index"], row["is_gap_free"]) == (0, last, True)
    assert (row["checkpoint_before"], row["checkpoint_after"]) == (None, last + 1)
    (part,) = asked("log-complete", "clinic", since="20d", until="10d")
    inside = [
        e.index for e in known.history.events if -20 <= (e.time - known.now) / DAY < -10
    ]  # fmt: skip
    assert (part["first_index"], part["last_index"]) == (min(inside), max(inside))
    assert part["checkpoint_before"] == max(h for h in known.heads if h < min(inside)) + 1
    assert part["checkpoint_after"] == min(h for h in known.heads if h >= max(inside)) + 1


@pytest.mark.parametrize(
    ("change", "events"),
    [
        ("DELETE FROM event WHERE idx = 20", 49),
        ("UPDATE event SET idx = 21 WHERE idx = 20", 50),  # one missing, another twice
    ],
)
def test_a_log_with_a_gap_says_so(known: Known, tmp_path: Path, change: str, events: int) -> None:
    made = Projection(tmp_path, b"k" * 32)
    made.append(known.history.pairs(0, 50))
    made._connection.execute(change)
    with made.reading() as cursor:
        table = ask(
            cursor, question("log-complete"), {}, asker=Asker(tenant="clinic"), now=known.now
        )
    assert table.rows[0][2:4] == (events, False)
    made.close()


def test_the_place_of_an_event(asked: Ask, known: Known) -> None:
    grant = next(g for g in known.grants if g.owner == "clinic" and g.tokens)
    rows = asked("place-of-event", "clinic", id=grant.id)
    assert {grant.index, *grant.tokens} <= {row["index"] for row in rows}
    for row in rows:
        assert row["checkpoint_size"] == min(h for h in known.heads if h >= row["index"]) + 1
    stranger = next(t for t in TENANTS if not grant.is_seen_by(t))
    with pytest.raises(UnknownName):
        asked("place-of-event", stranger, id=grant.id)


def test_versions_at_a_time(asked: Ask, known: Known) -> None:
    now = {(r["dataset"], r["version"]): r["state"] for r in asked("versions-at", "clinic")}
    assert now == {
        ("clinic/icu", 1): "active", ("clinic/icu", 2): "active", ("clinic/made", 1): "active",
        ("clinic/wards", 1): "erased",
    }  # fmt: skip
    then = asked("versions-at", "clinic", as_of="30d")
    assert {(r["dataset"], r["state"]) for r in then} == {
        ("clinic/icu", "active"), ("clinic/wards", "active"),
    }  # fmt: skip


def test_every_question_has_an_answer_known_here() -> None:
    """The others are told in test_questions.py."""
    rooms = Path(__file__).parent
    told = "".join(path.read_text() for path in rooms.glob("test_answers*.py"))
    told += (rooms / "test_questions.py").read_text()
    assert not [name for name in QUESTIONS if f'"{name}", ' not in told]
