"""Kill a process that writes journal, snapshots and projection, at random and at named steps.

    python -m tests.crashes.journal_campaign --kills 1000 --seed 1

A life: control's rooms (journal, catalogue, snapshots) and the lineage projection of one home,
eight threads that append and wait, then SIGKILL. The projection is sealed as often as can be:
what is not sealed, the next start throws away, and nothing would be left that could be wrong.

After each death: every event that was acknowledged is there as it was; every LogCheckpoint that
was seen is a prefix of the log; and at times, and at the end: a full verification holds, and the
projection's rows are those of one that was never killed (at the end: of a fresh one). Prints
one JSON line; exits 1 at the first broken promise.

Lives are forked from one process that has imported everything and started no thread, which is
what makes a kill cheap. Nothing of the gateway forks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from gateway import failpoints
from gateway.catalog import snapshot
from gateway.catalog.catalog import Catalog
from gateway.catalog.keeper import SnapshotKeeper
from gateway.catalog.restore import restore
from gateway.domain.events import EventKind
from gateway.errors import IntegrityError, Unavailable
from gateway.journal.anchor import read_anchor
from gateway.journal.checkpoint import origin_of, parse_checkpoint
from gateway.journal.composer import read_event
from gateway.journal.journal import Journal
from gateway.journal.reader import Reader
from gateway.journal.verification import verify
from gateway.lineage import follow, schema, seal
from gateway.lineage.follow import Follower
from gateway.lineage.projection import Projection
from gateway.lineage.recorded import tail_of
from tests.journal.places import LOG, NODE, refused_request, setup

KILLS = (
    "disk.journal", "disk.journal-sync", "disk.anchor", "disk.snapshot", "lineage.checkpoint",
    "journal.file",
)  # fmt: skip
SELDOM = {"disk.snapshot", "journal.file", "lineage.checkpoint"}
SNAPSHOT_KEY, SEAL_KEY = b"s" * 32, b"l" * 32
THREADS = 8
SEGMENT_BYTES = 60_000
LIFE_SECONDS = 0.25  # at most, after the first acknowledgement
PROJECTION_EVERY = 2  # lives
SEAL_SECONDS_MAX = 20.0  # that every second of them that is killed at any moment gets to seal
WHOLE_EVERY, WHOLE_EVERY_LATER = 25, 100  # deaths: all there is is read, each time more of it


# One life


def live(base: Path, out: int, *, step: str | None, hit: int, projects: bool) -> None:
    """Record until killed; one line per acknowledgement and per LogCheckpoint goes to `out`."""
    made = setup(base, segment_bytes=SEGMENT_BYTES, now=time.time)
    catalog, journal = restore(made, base / "snapshots", SNAPSHOT_KEY)
    if step is not None:
        failpoints.arm(_Killer(step, hit))
    keep = partial(_save, base / "snapshots")
    SnapshotKeeper(catalog, journal, keep, events=100, seconds=0.02).start()
    if projects:
        _follow(base).start()
    for number in range(THREADS):
        threading.Thread(target=_produce, args=(journal, out, number), daemon=True).start()
    threading.Event().wait()


class _Killer:
    def __init__(self, step: str, hit: int) -> None:
        self._step, self._left = step, hit

    def __call__(self, name: str) -> None:
        if name == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _save(directory: Path, state: object, memory: object) -> None:
    snapshot.save(state, memory, directory, SNAPSHOT_KEY, LOG)  # type: ignore[arg-type]


def _produce(journal: Journal, out: int, start: int) -> None:
    number = start
    while True:
        try:
            index = journal.append(refused_request(number, tenant=f"t{number % 5}"))
            journal.wait_durable(index)
            os.write(out, b"a %d %d\n" % (index, number))
            if number % 5 == 0:
                size, root = parse_checkpoint(journal.checkpoint())
                os.write(out, b"c %d %s\n" % (size, root.hex().encode()))
        except Unavailable:
            os._exit(9)
        number += THREADS


def _follow(base: Path) -> Follower:
    follow.SEAL_BYTES_MIN, follow.SEAL_SECONDS_MIN, follow._SEAL_SHARE = -1, 0.0, 0
    follow.GATHER_SECONDS = 0.005

    def anew() -> Callable[..., object]:
        return tail_of(Reader(base / "journal", LOG.public_key))

    return Follower(Projection(base / "lineage", SEAL_KEY), anew, time.time)  # type: ignore[arg-type]


# Deaths, and what must hold after them


@dataclass(slots=True)
class Campaign:
    """One home over many lives."""

    base: Path
    rng: random.Random
    deaths: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    checkpoints: int = 0
    projections: int = 0
    sealed: int = 0  # lives that left more rows in the sealed projection than they found
    _routes: dict[int, str] = field(default_factory=dict)
    _roots: dict[int, str] = field(default_factory=dict)
    _reader: Reader | None = None

    def play(self, kills: int) -> None:
        """Each step at least once in a hundred, else at any moment."""
        steps = [*KILLS, *(None for _ in range(4))]
        while sum(self.deaths.values()) < kills:
            number = sum(self.deaths.values())
            step = steps[number % len(steps)]
            self._die(step, projects=number % PROJECTION_EVERY == 0)
            if (number + 1) % (WHOLE_EVERY if number < 100 else WHOLE_EVERY_LATER) == 0:
                self.check_whole()
        shutil.rmtree(self.base / "steady", ignore_errors=True)
        self.check_whole()

    def _die(self, step: str | None, *, projects: bool) -> None:
        near, far = os.pipe()
        hit = self.rng.randint(1, 3 if step in SELDOM else 12)
        before = self._sealed_rows()
        child = _forked(partial(live, self.base, far, step=step, hit=hit, projects=projects), near)
        os.close(far)
        said = b""
        if step is None:
            said = os.read(near, 65536)  # it is up, and has acknowledged something
            if projects and self.deaths["any moment"] % 4 == 0:
                self._wait_for_seal(before)
            time.sleep(self.rng.uniform(0, LIFE_SECONDS))
            os.kill(child, signal.SIGKILL)
        while more := os.read(near, 65536):
            said += more
        os.close(near)
        _, status = os.waitpid(child, 0)
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise IntegrityError(f"a life ended by itself, status {status}")
        self.deaths[step or "any moment"] += 1
        self.sealed += self._sealed_rows() > before
        self._check(said)

    def _sealed_rows(self) -> int:
        try:
            return seal.read(self.base / "lineage" / "lineage.seal", SEAL_KEY).projected
        except IntegrityError:
            return 0  # none yet, or killed before it began anew

    def _wait_for_seal(self, before: int) -> None:
        over = time.monotonic() + SEAL_SECONDS_MAX
        while self._sealed_rows() <= before and time.monotonic() < over:
            time.sleep(0.01)

    def _check(self, said: bytes) -> None:
        """What was acknowledged and signed is in the log, and what was there before still is."""
        self._reader = self._reader or Reader(self.base / "journal", LOG.public_key)
        for commit in self._reader.commits():
            for index, payload in enumerate(commit.payloads, commit.first):
                event = read_event(payload, index, NODE)
                if event.kind is EventKind.RequestRefused:
                    self._routes[index] = event.facts["route"]
            size, root = parse_checkpoint(commit.note)
            self._roots[size] = root.hex()
        for line in said[: said.rfind(b"\n") + 1].decode().splitlines():
            what, first, second = line.split()
            if what == "a":
                self.acknowledged += 1
                if self._routes.get(int(first)) != f"/v1/grants/{second}":
                    raise IntegrityError(f"event {first} was acknowledged and is lost")
            else:
                self._need_prefix(int(first), second)
        anchored = read_anchor(self.base / "anchor", LOG.public_key, origin_of(NODE))
        if anchored is None:
            raise IntegrityError("the anchor is lost")
        self._need_prefix(anchored[0].size, anchored[0].root.hex())

    def _need_prefix(self, size: int, root: str) -> None:
        self.checkpoints += 1
        if size and self._roots.get(size) != root:
            raise IntegrityError(f"the log does not extend the LogCheckpoint of {size} events")

    def check_whole(self) -> None:
        """Verify everything, open it in both ways, and compare the projection with a steady one."""
        child = _forked(partial(_whole, self.base), -1)
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise IntegrityError("the home as a whole does not hold (see above)")
        self.projections += 1


def _whole(base: Path) -> None:
    made = setup(base, segment_bytes=SEGMENT_BYTES, now=time.time)
    catalog, journal = restore(made, base / "snapshots", SNAPSHOT_KEY)
    journal.close()
    replayed = Catalog()
    Journal.open(made, replayed.apply, 0).close()
    if catalog.tenants() != replayed.tenants() or catalog.index + 2 != replayed.index:
        raise IntegrityError("the snapshot led to another catalogue than the journal")
    found = verify(base / "journal", LOG.public_key, base / "anchor")
    tables = [_digest_of(base, base / name) for name in ("lineage", "steady")]
    if tables[0] != tables[1] or tables[0]["event"][0] != found.size:
        raise IntegrityError(f"the projection holds other rows: {tables}")


def _digest_of(base: Path, directory: Path) -> dict[str, tuple[int, int]]:
    projection = Projection(directory, SEAL_KEY)
    events = Reader(base / "journal", LOG.public_key).tail(projection.projected)
    while batch := [(event, leaf.hex()) for event, leaf in islice(events, 4096)]:
        projection.append(batch)
    found = _digest(projection)
    projection.close()
    return found


def _digest(projection: Projection) -> dict[str, tuple[int, int]]:
    """Of every table: how many rows, and a sum over all of them."""
    found = {}
    with projection.reading() as cursor:
        for table in schema.TABLES:
            sql = f"SELECT count(*), sum(hash(t)) FROM {table} AS t"  # noqa: S608 - our own names
            ((rows, total),) = cursor.execute(sql).fetchall()
            found[table] = rows, total or 0
    return found


def _forked(act: Callable[[], None], close: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        if close >= 0:
            os.close(close)
        act()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a child must never come back into the caller's frames
        traceback.print_exc()
    finally:
        os._exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-journal-") as place:
        campaign = Campaign(Path(place), random.Random(asked.seed))
        begin, broken = time.monotonic(), ""
        try:
            campaign.play(asked.kills)
        except IntegrityError as error:
            broken = error.message
        fact = {"kills": sum(campaign.deaths.values()), "at": campaign.deaths,
                "acknowledged": campaign.acknowledged, "checkpoints": campaign.checkpoints,
                "projections": campaign.projections, "sealed": campaign.sealed,
                "broken": broken,
                "seconds": round(time.monotonic() - begin)}  # fmt: skip
        print(json.dumps(fact))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
