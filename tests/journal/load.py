"""Load for the journal: events as streams make them, many producers, and a peer to compare with."""

from __future__ import annotations

import asyncio
import itertools
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from gateway.domain.events import EventDraft, EventKind
from gateway.domain.ids import new_id
from gateway.journal.journal import Journal
from gateway.journal.memory import Memory
from gateway.journal.reader import Reader
from gateway.lineage.follow import Follower
from gateway.lineage.projection import Projection
from gateway.lineage.recorded import tail_of
from tests.journal.places import LOG, opened

SEGMENTS = 30  # of a lease
SEAL_KEY = b"l" * 32


def drafts() -> Iterator[EventDraft]:
    """What open leases record: intents and confirmations, of many leases of five tenants."""
    number = 0
    while True:
        id_ = number.to_bytes(16, "big")
        lease, grant = new_id("lease_", id_), new_id("grant_", id_)
        for segment in range(SEGMENTS):
            facts: dict[str, Any] = {"lease": lease, "rows": 4096, "bytes": 1_000_000}
            intent = {**facts, "grant": grant, "first": segment, "last": segment}
            tenant = f"t{number % 5}"
            yield _draft(EventKind.SegmentIntent, tenant, intent)
            yield _draft(EventKind.SegmentsConfirmed, tenant, {**facts, "segments": [segment]})
        number += 1


def _draft(kind: EventKind, tenant: str, facts: dict[str, Any]) -> EventDraft:
    return EventDraft(kind=kind, owner_tenant="clinic", actor_tenant=tenant, facts=facts)


def write(base: Path, events: int) -> Memory:
    """A journal of so many events; what it remembers of them."""
    with opened(base) as journal:
        for number, draft in enumerate(drafts()):
            index = journal.append(draft)
            if number % 256 == 255:
                journal.wait_durable(index)
            if journal.size >= events:
                return journal.remember(lambda: None)[0]
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Load:
    """What producers saw that each wait for their event before the next."""

    rate: float  # events per second
    p99: float  # seconds


def produced(record: Callable[[EventDraft], Awaitable[None]], seconds: float, many: int) -> Load:
    """`many` producers on one event loop, for so long."""
    waits: list[float] = []

    async def one(source: Iterator[EventDraft], end: float) -> None:
        while (begin := time.perf_counter()) < end:
            await record(next(source))
            waits.append(time.perf_counter() - begin)

    async def all_of_them() -> float:
        source, begin = drafts(), time.perf_counter()
        await asyncio.gather(*(one(source, begin + seconds) for _ in range(many)))
        return time.perf_counter() - begin

    took = asyncio.run(all_of_them())
    return Load(len(waits) / took, sorted(waits)[int(0.99 * (len(waits) - 1))])


def journal_load(journal: Journal, seconds: float, many: int) -> Load:
    """Durable, signed, in the tree."""

    async def record(draft: EventDraft) -> None:
        await journal.durable(journal.append(draft))

    return produced(record, seconds, many)


# One row per event, a wide table of typed columns, so that auditors can ask it at once. Nothing
# is checked, no person becomes a tag, nothing is hashed or signed.
_PEER: dict[str, tuple[str, pa.DataType]] = {
    "node": ("VARCHAR", pa.string()),
    "idx": ("BIGINT", pa.int64()),
    "boot": ("VARCHAR", pa.string()),
    "time": ("TIMESTAMP", pa.timestamp("us")),
    "kind": ("VARCHAR", pa.string()),
    "owner": ("VARCHAR", pa.string()),
    "actor": ("VARCHAR", pa.string()),
    "who": ("VARCHAR", pa.string()),
    "details": ("BLOB", pa.binary()),
    "lease": ("VARCHAR", pa.string()),
    "grant_id": ("VARCHAR", pa.string()),
    "dataset": ("VARCHAR", pa.string()),  # of other kinds, like the next three
    "version": ("INTEGER", pa.int32()),
    "purpose": ("VARCHAR", pa.string()),
    "reason_code": ("VARCHAR", pa.string()),
    "first_segment": ("BIGINT", pa.int64()),
    "last_segment": ("BIGINT", pa.int64()),
    "segments": ("BIGINT[]", pa.list_(pa.int64())),
    "rows": ("BIGINT", pa.int64()),
    "bytes": ("BIGINT", pa.int64()),
}


def _peer_row(index: int, draft: EventDraft) -> tuple[Any, ...]:
    facts, now = draft.facts, int(time.time() * 1_000_000)
    return (
        "n1", index, "ab" * 16, now, draft.kind.value, draft.owner_tenant, draft.actor_tenant, None,
        None, facts["lease"], facts.get("grant"), None, None, None, None, facts.get("first"),
        facts.get("last"), facts.get("segments"), facts["rows"], facts["bytes"],
    )  # fmt: skip


def wide_load(path: Path, seconds: float, many: int) -> Load:
    """The same events to DuckDB alone, each as one wide row."""
    connection = duckdb.connect(str(path))
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in _PEER.items())
    connection.execute(f"CREATE TABLE event ({columns})")
    found = _committed(_peer_row, partial(_insert, connection), seconds, many)
    connection.close()
    return found


@dataclass(slots=True)
class _Happened:
    """An event as the projection reads it."""

    kind: EventKind
    index: int
    time: float
    owner_tenant: str | None
    actor_tenant: str | None
    actor_tag: str | None
    facts: Mapping[str, Any]


def same_rows_load(directory: Path, seconds: float, many: int) -> Load:
    """The same events to DuckDB alone, each as the rows that lineage keeps of it."""
    projection = Projection(directory, SEAL_KEY)

    def row(index: int, draft: EventDraft) -> tuple[_Happened, str]:
        owner, actor = draft.owner_tenant, draft.actor_tenant
        return _Happened(draft.kind, index, time.time(), owner, actor, None, draft.facts), ""

    found = _committed(row, projection.append, seconds, many)
    projection.close()
    return found


def _committed(
    row: Callable[[int, EventDraft], Any],
    commit: Callable[[list[Any]], None],
    seconds: float,
    many: int,
) -> Load:
    """One thread makes what has gathered durable, all in one commit."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        while True:
            batch = [waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get())
            rows = [item for item in batch if item is not None]
            if rows:
                commit([row for row, _ in rows])
                _release(rows[0][1].get_loop(), [future for _, future in rows])
            if len(rows) < len(batch):
                return

    index = itertools.count()

    async def record(draft: EventDraft) -> None:
        future = asyncio.get_running_loop().create_future()
        waiting.put((row(next(index), draft), future))
        await future

    thread = threading.Thread(target=run)
    thread.start()
    found = produced(record, seconds, many)
    waiting.put(None)
    thread.join()
    return found


def _release(loop: asyncio.AbstractEventLoop, futures: list[asyncio.Future[None]]) -> None:
    """All that became durable together in one call, as the journal does it."""

    def resolve() -> None:
        for future in futures:
            future.set_result(None)

    loop.call_soon_threadsafe(resolve)


def _insert(connection: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]]) -> None:
    arrays = [
        pa.array(values, kind)
        for values, (_, kind) in zip(zip(*rows, strict=True), _PEER.values(), strict=True)
    ]
    connection.register("incoming", pa.Table.from_arrays(arrays, names=list(_PEER)))
    connection.execute("INSERT INTO event SELECT * FROM incoming")  # commits
    connection.unregister("incoming")


def follow(journal: Path, directory: Path) -> None:
    """Project until the standard input ends; then print the 99th percentile of the lag."""
    reader = Reader(journal, LOG.public_key)
    follower = Follower(Projection(directory, SEAL_KEY), lambda: tail_of(reader), time.time)
    follower.start()
    follower.wait_for(1, 60.0)  # what is imported with the first event is no lag
    follower._lags.clear()
    print("ready", flush=True)
    sys.stdin.read()
    if follower.fault or not follower._lags:
        sys.exit(f"nothing was projected: {follower.fault}")
    print(follower.lag_seconds_p99, flush=True)
    follower.stop()


if __name__ == "__main__":
    follow(Path(sys.argv[1]), Path(sys.argv[2]))
