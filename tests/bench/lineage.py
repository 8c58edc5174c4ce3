"""How fast history is projected, how large it becomes, and how long each named question takes.

Three parts. A real journal of so many events: how fast it opens from a snapshot, is verified,
and is projected from its files. Producers that each wait for their event, with a lineage
process beside them, in turn with the same load on DuckDB's own commits. A generated history of
one owner, many readers and many runs, projected in batches as the lineage process does it; then
every question is asked on the owner's side, once to warm up and then several times. Last, an
auditor's SQL in a real sandbox process that has the owner's copy, in turn with the same SQL on
the same rows in tables of a DuckDB with the same settings; the slowest statement counts. All
times are wall-clock, medians over the runs; `--events 10000000` takes half an hour.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.catalog import snapshot
from gateway.catalog.state import State
from gateway.journal.journal import Journal
from gateway.journal.verification import verify
from gateway.lineage.asking import Asker, ask
from gateway.lineage.batch import EVENTS_MAX
from gateway.lineage.copies import Copies
from gateway.lineage.projection import Projection
from gateway.lineage.query import Query, SandboxPool
from gateway.lineage.questions import QUESTIONS
from gateway.lineage.rebuild import rebuild
from gateway.lineage.sandbox import open_database
from gateway.lineage.views import AUDITOR_VIEWS
from tests.journal import load
from tests.journal.places import LOG, opened, setup

EVENTS, EVENTS_QUICK = 1_000_000, 100_000
RUNS, LOADS, PRODUCERS = 5, 3, 256
KEY = b"k" * 32
ROOT = Path(__file__).resolve().parents[2]
Metric = tuple[str, float, str, str, bool, int]  # what, value, unit, goal, met, runs
BEGIN = 1_780_000_000
DATASETS, ACTORS, READS_OF_LEASE = 20, 40, 30
COLUMNS = ("age", "hr", "diagnosis", "label")
GIVEN: dict[str, dict[str, Any]] = {
    "runs-of-dataset": {"dataset": "clinic/d0"},
    "decisions-of-dataset": {"dataset": "clinic/d0"},
    "grants-of-dataset": {"dataset": "clinic/d0"},
    "tokens-of-grant": {"grant": "grant_7"},
    "runs-of-shard": {"dataset": "clinic/d0", "shard": 0},
    "column-unmasked": {"dataset": "clinic/d0", "column": "diagnosis"},
    "provenance-of-model": {"model": "model-7"},
    "downstream-of-dataset": {"dataset": "clinic/d0"},
    "decisions-of-bundle": {"bundle": "cd" * 32},
    "place-of-event": {"id": "grant_7"},
    "runs-of-person": {"dataset": "clinic/d0", "person": "ab" * 16, "purpose": "audit"},
    "consents-of-person": {"person": "ab" * 16, "purpose": "audit"},
}
HELD = [
    {"grant": f"grant_{n}", "outcome": "delivered", "because": "stream", "strength": 4}
    for n in range(1000)
]


STATEMENTS = (
    "SELECT purpose, sum(rows) AS n FROM read GROUP BY 1",
    "SELECT dataset, actor_tenant, count(*), sum(rows), max(time) FROM read GROUP BY ALL",
    "SELECT * FROM read ORDER BY time DESC LIMIT 100",
    "SELECT run, subject_tag, sum(bytes) FROM read WHERE dataset = 'clinic/d0' GROUP BY ALL",
    'SELECT d.effect, count(*) FROM decision d JOIN read r USING ("grant") GROUP BY 1',
)


@dataclass(slots=True)
class Happened:
    """An event as the projection reads it."""

    kind: str
    index: int
    time: float
    owner_tenant: str | None
    actor_tenant: str | None
    actor_tag: str | None
    facts: Mapping[str, Any]


def history(events: int) -> Iterator[Happened]:
    chance, index = random.Random(7), 0

    def event(kind: str, who: str | None, **facts: Any) -> Happened:
        nonlocal index
        tenant = who.partition("/")[0] if who else None
        tag = hashlib.blake2b(who.encode(), digest_size=16).hexdigest() if who else None
        made = Happened(kind, index, BEGIN + index * 10.0, "clinic", tenant, tag, facts)
        index += 1
        return made

    for number in range(DATASETS):
        name = {"dataset": f"clinic/d{number}", "dataset_id": f"d{number}"}
        columns = [{"field_id": n, "name": c, "type": "int64"} for n, c in enumerate(COLUMNS, 1)]
        yield event("VersionRegistered", "clinic/own", **name, version=1, profile="train",
                    columns=columns, rows=10**6, bytes=10**9, shards=8,
                    manifest_digest="ab" * 32)  # fmt: skip
        yield event("ColumnsClassified", "clinic/own", **name, tags={"3": ["health.special"]})
    for number in range(events):
        if index >= events:
            return
        yield from _use(event, chance, number)


def _use(event: Any, chance: random.Random, number: int) -> Iterator[Happened]:
    """One grant, its token, its lease, what was read, and how it ended."""
    actor, dataset = f"t{chance.randrange(ACTORS)}/ml", chance.randrange(DATASETS)
    same = {"dataset": f"clinic/d{dataset}", "dataset_id": f"d{dataset}", "version": 1}
    grant, lease, run = f"grant_{number}", f"lease_{number}", f"run-{number // 2}"
    if number % 50 == 0:
        yield event("PolicyPublished", "clinic/own", tenant="clinic", files=1, rules=9,
                    bundle=f"{number:064x}")  # fmt: skip
        yield event("ConsentWithdrawn", "clinic/own", purpose="research", dataset=None,
                    persons=[{"person": f"{number:032x}", "at": BEGIN}])  # fmt: skip
    yield event("AccessDecided", actor, **same, decision=f"dec_{number}", action="stream",
                effect="allow", split="train", purpose="health-research", reasons=[],
                rules=["r1"], bundle="cd" * 32, policy_epoch=1, grant=grant, run=run,
                columns=sorted(chance.sample(range(1, 5), 3)), masks={"1": "m"},
                expires_at=BEGIN + 10**9, region="eu")  # fmt: skip
    yield event("TokenIssued", actor, jti=f"j{number}", grant=grant, thumbprint="t",
                expires_at=BEGIN + 10**9)  # fmt: skip
    yield event("LeaseOpened", actor, lease=lease, grant=grant, run=run, segments=READS_OF_LEASE,
                view=False, order={"epoch": 0, "rank": 0, "world": 1})  # fmt: skip
    for segment in range(READS_OF_LEASE):
        yield event("SegmentIntent", None, lease=lease, first=segment, last=segment, rows=4096,
                    bytes=10**6)  # fmt: skip
        yield event("SegmentsConfirmed", None, lease=lease, segments=[segment], rows=4096,
                    bytes=10**6)  # fmt: skip
    yield event("TenantHeads", None, root="ab" * 32, tenants=1)
    if number % 2:
        yield event("RunFinished", actor, run=run, model=f"model-{number // 2}",
                    artifact_sha256="12" * 32)  # fmt: skip


def measure(events: int, seconds: float) -> Iterator[Metric]:
    yield from of_files(events)
    yield from under_load(seconds)
    yield from of_questions(events)


def of_questions(events: int) -> Iterator[Metric]:
    with tempfile.TemporaryDirectory() as place:
        warm = Projection(Path(place) / "warm", b"k" * 32)  # what is imported on first use
        warm.append([(e, "ab" * 32) for e in history(1000)])
        warm.close()
        made = Projection(Path(place), b"k" * 32)
        happened, spent = history(events), 0.0
        while batch := [(e, "ab" * 32) for e in islice(happened, EVENTS_MAX)]:
            begin = time.perf_counter()
            made.append(batch)
            spent += time.perf_counter() - begin
        begin = time.perf_counter()
        made.seal()
        spent += time.perf_counter() - begin
        rate, size = made.projected / spent, made.file_bytes / made.projected
        yield f"projection of {events:,} events", rate, "/s", ">= 150000", rate >= 150_000, 1
        yield "size in DuckDB", size, "B/event", "<= 120", size <= 120, 1
        if events <= EVENTS:
            yield of_sandbox(made)
        for name, took in sorted(asked(made).items(), key=lambda pair: -pair[1]):
            yield f"question {name}", took * 1000, "ms", "<= 500", took <= 0.5, RUNS
        made.close()


def of_sandbox(made: Projection) -> Metric:
    """What the sandbox costs an auditor of the owner's side, over the bare statement."""
    copies, pool, bare = Copies(made), SandboxPool(), open_database("512MB")
    copies.make("clinic")
    over: dict[str, list[float]] = {sql: [] for sql in STATEMENTS}
    with made.reading() as source:
        rows = sum(_table(bare, view, source) for view in AUDITOR_VIEWS)
        for sql in STATEMENTS * (2 * RUNS + 1):
            pool.prepare()
            begin = time.perf_counter()
            bare.sql(sql).to_arrow_reader(2048).read_all()
            middle = time.perf_counter()
            with copies.lent("clinic", source) as copy:
                assert copy is not None
                pool.run(Query(sql=sql, tenant="clinic", form="arrow"), source, copy)
            over[sql].append(time.perf_counter() - middle - (middle - begin))
    pool.close()
    copies.close()
    took = max(statistics.median(times[1:]) for times in over.values()) * 1000
    return f"SQL in the sandbox over bare, {rows:,} rows", took, "ms", "<= 50", took <= 50, 2 * RUNS


def _table(bare: duckdb.DuckDBPyConnection, view: str, source: duckdb.DuckDBPyConnection) -> int:
    side = {"tenant": "clinic", "operator": False}
    table = source.sql(AUDITOR_VIEWS[view], params=side).to_arrow_table()
    bare.register("incoming", table)
    bare.execute(f'CREATE TABLE "{view}" AS SELECT * FROM incoming')  # noqa: S608 - ours
    bare.unregister("incoming")
    return int(table.num_rows)


def of_files(events: int) -> Iterator[Metric]:
    """Start-up, verification and rebuild over a journal on disk."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        memory = load.write(base, events)
        snapshot.save(State(index=memory.size), memory, base / "snapshots", KEY, LOG)
        took = statistics.median(_started(base) for _ in range(RUNS))
        yield f"start-up from a snapshot, {events:,} events", took, "s", "<= 2", took <= 2, RUNS
        begin = time.perf_counter()
        verify(base / "journal", LOG.public_key, base / "anchor")
        rate = memory.size / (time.perf_counter() - begin)
        yield f"verification of {events:,} events", rate, "/s", ">= 200000", rate >= 200_000, 1
        begin = time.perf_counter()
        rebuild(base / "lineage", KEY, base / "journal", LOG.public_key, lambda *_: None)
        rate = memory.size / (time.perf_counter() - begin)
        yield f"rebuild from {events:,} events", rate, "/s", ">= 150000", rate >= 150_000, 1


def _started(base: Path) -> float:
    begin = time.perf_counter()
    found = snapshot.load(base / "snapshots", KEY, LOG.public_key)
    assert found is not None
    places = setup(base, now=time.time)
    Journal.open(places, lambda _: None, found.memory.size, memory=found.memory).close()
    return time.perf_counter() - begin


def under_load(seconds: float) -> Iterator[Metric]:
    """Producers on the journal while it is projected, in turn with DuckDB alone."""
    ours, wide, same, lags = [], [], [], list[float]()
    for _ in range(LOADS):
        with tempfile.TemporaryDirectory() as place:
            base = Path(place)
            with opened(base, now=time.time) as journal, _following(base, lags):
                ours.append(load.journal_load(journal, seconds, PRODUCERS))
            wide.append(load.wide_load(base / "wide.duckdb", seconds, PRODUCERS))
            same.append(load.same_rows_load(base / "same", seconds, PRODUCERS))
    rate = statistics.median(one.rate for one in ours)
    p99 = 1000 * statistics.median(one.p99 for one in ours)
    lag, peer = statistics.median(lags), f"group commits of DuckDB {duckdb.__version__}"
    who = f"{PRODUCERS} producers, while projecting"
    yield f"events durable, {who}", rate, "/s", ">= 40000", rate >= 40_000, LOADS
    yield f"wait for one, p99, {who}", p99, "ms", "<= 15", p99 <= 15, LOADS
    for rows, peers in (("one wide row each", wide), ("the rows of lineage", same)):
        ratio = statistics.median(a.rate / b.rate for a, b in zip(ours, peers, strict=True))
        yield f"against {peer}, {rows}", ratio, "x", ">= 2.5", ratio >= 2.5, LOADS
    yield "projection behind the journal, p99", lag, "s", "<= 1", lag <= 1, LOADS


@contextmanager
def _following(base: Path, lags: list[float]) -> Iterator[None]:
    """A lineage process beside the journal, as in service."""
    command = [sys.executable, "-m", "tests.journal.load", str(base / "journal"), str(base / "l")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        yield
        told, _ = process.communicate()
        lags.append(float(told))


def asked(made: Projection) -> dict[str, float]:
    terms = [
        dict.fromkeys(("legal_basis", "licence", "region", "retention", "retention_days",
                       "retention_months", "retention_until"))
        | {"dataset": f"clinic/d{n}"}
        for n in range(DATASETS)
    ]  # fmt: skip
    asker = Asker(tenant="clinic", terms=terms, held=HELD)
    now, found = BEGIN + 10.0**8, {}
    for name, question in QUESTIONS.items():
        times = []
        for _ in range(RUNS + 1):
            with made.reading() as cursor:
                begin = time.perf_counter()
                ask(cursor, question, GIVEN.get(name, {}), asker=asker, now=now)
                times.append(time.perf_counter() - begin)
        found[name] = statistics.median(times[1:])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{EVENTS_QUICK:,} events")
    parser.add_argument("--events", type=int, help=f"instead of {EVENTS:,}")
    args = parser.parse_args()
    missed, events = 0, args.events or (EVENTS_QUICK if args.quick else EVENTS)
    for metric, value, unit, goal, ok, runs in measure(events, 1.0 if args.quick else 5.0):
        missed += not ok
        fact = {"bench": "lineage", "metric": metric, "value": round(value, 2), "unit": unit,
                "goal": goal, "ok": ok, "runs": runs}  # fmt: skip
        print(json.dumps(fact) if args.json else fact, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
