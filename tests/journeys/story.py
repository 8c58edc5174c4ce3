"""What people do with a gateway, step by step, and a ledger of what it acknowledged.

A step that fails must fail with a typed error; it is then tried again, as its user would. The
ledger holds only what a call returned with: that is what a killed process must not lose.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.client import GatewayClient, delivery
from gateway.client.arriving import Came
from gateway.client.ring import RingReader
from gateway.client.segments import Cut, Segment, SegmentReader
from gateway.domain.dataset import DatasetRef
from gateway.errors import AccessDenied, GatewayError, NotFound, StreamStopped
from gateway.policy.write import RuleWish, write_rule
from gateway.wire.segments import SegmentHead
from tests.journeys.home import Home

ROWS = 24_000
PURPOSE = "health-research"
DIRECT, VIEW = ["id", "x"], ["id", "s"]  # fixed width: pages serve it; text: a view is built
# Many small segments, so that a kill finds a stream between two of them.
HOW: Any = {
    "batch_size": 1000, "prefetch_segments": 1, "shuffle": True, "seed": 5,
    "lanes": 2, "window_blocks": 2,
}  # fmt: skip
STEP_SECONDS_MAX = 150.0


@dataclass(frozen=True, slots=True)
class Received:
    """A segment (or a part of one) that reached a client."""

    lease: str
    segment: int
    rows: int
    receipt: str  # "" when only a part of it came


@dataclass(slots=True)
class Ledger:
    """What was acknowledged."""

    versions: list[tuple[str, str]] = field(default_factory=list)  # `home/a@1` → source name
    tags: dict[str, list[str]] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)
    grants: dict[str, str] = field(default_factory=dict)  # grant → dataset
    revoked: list[str] = field(default_factory=list)  # datasets whose grants were revoked
    received: list[Received] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # typed errors on the way
    resumed: int = 0


class Story:
    """The steps over one home."""

    STEPS = ("register", "classify", "publish", "token", "direct", "view", "revoke")

    def __init__(self, home: Home, *, pace: float = 0.0) -> None:
        """Play on `home`; `pace`: seconds a trainer takes for one batch."""
        self.home, self.pace = home, pace
        self.ledger = Ledger()
        self.gateway: GatewayClient = home.client()
        self._hasty: GatewayClient = home.client(patience_seconds=1)

    def do(self, step: str, name: str) -> None:
        """Do one step for dataset `home/NAME`, again and again until it is acknowledged."""
        act: Callable[[str], None] = getattr(self, step)
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while True:
            try:
                return act(name)
            except GatewayError as error:
                self.ledger.troubles.append(f"{step}: {error.code}: {error.message}")
                if time.monotonic() > deadline:
                    raise
            self.home.revive()

    def source(self, name: str) -> pa.Table:
        """The rows of the dataset called so, made from its name."""
        rng = np.random.default_rng(list(name.encode()))
        ids = np.arange(ROWS, dtype=np.int64)
        text = np.char.add("p", rng.integers(0, 1000, ROWS).astype(str))
        return pa.table({"id": ids, "x": rng.random(ROWS), "s": pa.array(text.tolist())})

    def file(self, name: str) -> Path:
        """The source as a file: names that end in `c` as CSV, others as Parquet."""
        path = self.home.root / f"{name}.{'csv' if name.endswith('c') else 'parquet'}"
        if not path.exists():
            if path.suffix == ".csv":
                from pyarrow import csv

                csv.write_csv(self.source(name), path)
            else:
                pq.write_table(self.source(name), path)
        return path

    def register(self, name: str) -> None:
        done = self.gateway.datasets.register(f"home/{name}", self.file(name))
        self.ledger.versions.append((f"home/{name}@{done.version}", name))

    def classify(self, name: str) -> None:
        self.gateway.datasets.classify(f"home/{name}", {"s": ["pii.indirect"]})
        self.ledger.tags[f"home/{name}"] = ["pii.indirect"]

    def publish(self, name: str) -> None:
        files = dict(self.gateway.policies.show("home").files)
        wish = RuleWish(
            dataset=DatasetRef.parse(f"home/{name}"),
            allow=("stream",),
            to=("role:trainer",),
            purpose=(PURPOSE,),
            columns=("id", "x", "s"),
        )
        written = write_rule(wish, now=time.time())
        if not set(written.files) <= set(files):  # else it was published, and the answer lost
            self.gateway.policies.push({**files, **written.files}, tenant="home")
        self.ledger.rules += written.files

    def token(self, name: str) -> None:
        for columns in (DIRECT, VIEW):
            token = self.gateway.tokens.request(f"home/{name}", purpose=PURPOSE, columns=columns)
            self.ledger.grants[token.grant] = f"home/{name}"

    def direct(self, name: str) -> None:
        self.read(f"home/{name}", name, DIRECT)

    def view(self, name: str) -> None:
        self.read(f"home/{name}", name, VIEW)
        self.read(f"home/{name}", name, VIEW, self._hasty)

    def read(
        self, dataset: str, name: str, columns: list[str], gateway: GatewayClient | None = None
    ) -> None:
        """Stream all of it, resuming after a typed error; every row exactly once."""
        batches: list[pa.RecordBatch] = []
        position: dict[str, Any] | None = None
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while True:
            try:
                with _open(gateway or self.gateway, dataset, columns, position) as stream:
                    for batch in stream:
                        batches.append(batch)
                        time.sleep(self.pace)
                break
            except StreamStopped as stop:
                position = _position(stop, batches)
                self.ledger.resumed += 1
                self._trouble(stop, deadline)
            except GatewayError as error:  # it did not even open
                self._trouble(error, deadline)
        got = pa.Table.from_batches(batches).sort_by("id").combine_chunks()
        want = self.source(name).select(columns)
        for column in columns:
            assert got[column].to_pylist() == want[column].to_pylist(), f"{dataset}: {column}"

    def _trouble(self, error: GatewayError, deadline: float) -> None:
        self.ledger.troubles.append(f"stream: {error.code}: {error.message}")
        if time.monotonic() > deadline:
            raise error
        self.home.revive()

    def revoke(self, name: str) -> None:
        dataset = f"home/{name}"
        try:
            self.gateway.grants.revoke(dataset=dataset, reason="the story is over")
        except NotFound:  # nothing left to revoke: it was done, and the answer lost
            assert all(g.revoked for g in self.gateway.grants.list(dataset=dataset))
        self.ledger.revoked.append(dataset)

    def refuses(self, grant: str) -> bool:
        """Whether a revoked grant gives nothing."""
        with contextlib.suppress(AccessDenied, NotFound):
            self.gateway.tokens.request(grant=grant)
            return False
        return True

    @contextlib.contextmanager
    def witnessed(self) -> Iterator[None]:
        """Write every segment that reaches this process into the ledger."""
        received = self.ledger.received

        class OverHttp(SegmentReader):
            def fetch(self, number: int, *rest: Any) -> Segment:
                lease = self._access.manifest.lease
                try:
                    segment = super().fetch(number, *rest)
                except Cut:
                    if self._partial is not None and self._partial._got:
                        received.append(Received(lease, number, 0, ""))
                    raise
                received.append(Received(lease, number, segment.head.rows, segment.receipt))
                return segment

        class OverRing(RingReader):
            def fetch(self, number: int, *rest: Any) -> Segment:
                return self._noted(super().fetch(number, *rest))

            def arrive(self, number: int, *rest: Any) -> Generator[Came, None, Segment]:
                return self._noted((yield from super().arrive(number, *rest)))

            def _begin(self, number: int, *rest: Any) -> tuple[bytes, SegmentHead]:
                begun = super()._begin(number, *rest)
                received.append(Received(begun[1].lease, number, 0, ""))
                return begun

            def _noted(self, segment: Segment) -> Segment:
                head = segment.head
                received.append(Received(head.lease, head.segment, head.rows, segment.receipt))
                return segment

        before = delivery.SegmentReader, delivery.RingReader
        delivery.SegmentReader, delivery.RingReader = OverHttp, OverRing  # type: ignore[misc]
        try:
            yield
        finally:
            delivery.SegmentReader, delivery.RingReader = before  # type: ignore[misc]


def _position(stop: StreamStopped, batches: list[pa.RecordBatch]) -> dict[str, Any]:
    """Where to resume: exactly behind the rows that were handed out."""
    assert stop.position is not None, f"no position: {stop!r}"
    position: dict[str, Any] = stop.position.to_dict()
    assert position["rows"] == sum(b.num_rows for b in batches)
    return position


def _open(
    gateway: GatewayClient, dataset: str, columns: list[str], position: dict[str, Any] | None
) -> Any:
    return gateway.stream(
        dataset, purpose=PURPOSE, columns=columns, position=position, output="arrow", **HOW
    )
