"""Load for the journal: events as streams make them, many producers, and a peer to compare with."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from gateway.domain.events import EventDraft, EventKind, canonical
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


def duckdb_load(path: Path, seconds: float, many: int) -> Load:
    """The same events to DuckDB: one thread that commits what has gathered, as Arrow."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    connection = duckdb.connect(str(path))
    connection.execute(
        "CREATE TABLE event (kind VARCHAR, owner VARCHAR, actor VARCHAR, facts VARCHAR)"
    )

    def commit() -> None:
        while True:
            batch = [waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get())
            rows = [item for item in batch if item is not None]
            if rows:
                _insert(connection, [row for row, _, _ in rows])
                for _, loop, future in rows:
                    loop.call_soon_threadsafe(future.set_result, None)
            if len(rows) < len(batch):
                return

    async def record(draft: EventDraft) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        row = (str(draft.kind), draft.owner_tenant, draft.actor_tenant, canonical(draft.facts))
        waiting.put((row, loop, future))
        await future

    thread = threading.Thread(target=commit)
    thread.start()
    found = produced(record, seconds, many)
    waiting.put(None)
    thread.join()
    connection.close()
    return found


def _insert(connection: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]]) -> None:
    kinds, owners, actors, facts = zip(*rows, strict=True)
    texts = [text.decode() for text in facts]
    names = ["kind", "owner", "actor", "facts"]
    connection.register("incoming", pa.table([kinds, owners, actors, texts], names=names))
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
