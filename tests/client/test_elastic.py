"""Jobs that grow, shrink and die: one global order, each row once, whoever reads it.

A schedule is what a cluster does to a job: so many ranks for so many steps, then all of them
are killed, and others go on from the last saved state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.client.leases import LeaseTerms
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.delivery.world import Gateway, Worker, direct_data, view_data

LANES = 6
SCHEDULES, SCHEDULES_LONG = 20, 500


@dataclass(frozen=True)
class Life:
    """How long the job lives this time, and as what."""

    world: int
    batch_size: int
    prefetch: int
    steps: int
    worker_dies: bool
    delivery: str = "auto"


lives = st.builds(
    Life,
    world=st.integers(1, LANES),
    batch_size=st.integers(7, 90),
    prefetch=st.integers(1, 4),
    steps=st.integers(1, 12),
    worker_dies=st.integers(0, 9).map(lambda n: n == 0),
    delivery=st.sampled_from(["ring", "http"]),
)

pytestmark = pytest.mark.usefixtures("small_trays")


@pytest.fixture(scope="module", params=["pages", "a filtered view"])
def gateway(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    place: Path = tmp_path_factory.mktemp("data")
    data = direct_data(place) if request.param == "pages" else view_data(place, rows=1100)
    worker = Worker()
    gateway = Gateway(data, worker)
    yield gateway
    gateway.close()
    worker.close()


def opened(gateway: Gateway, life: Life, rank: int, seed: int, state: Any) -> Stream:
    order = OrderRequest(seed=seed, shuffle=True, lanes=LANES, window_blocks=2, rank=rank,
                         world=life.world)  # fmt: skip
    options = StreamOptions(
        batch_size=life.batch_size,
        prefetch_segments=life.prefetch,
        terms=LeaseTerms(patience_seconds=30, delivery=life.delivery),
    )
    return open_stream(gateway, LeaseRequest(order=order, position=state), options)


def whole_order(gateway: Gateway, seed: int) -> list[int]:
    """What one rank that nothing disturbs reads, row by row."""
    life = Life(1, 1, 2, 0, worker_dies=False)
    with opened(gateway, life, 0, seed, None) as stream:
        return [int(i) for batch in stream for i in batch["id"]]


def test_any_schedule_reads_the_same_order_and_each_row_once(
    gateway: Gateway, request: pytest.FixtureRequest
) -> None:
    orders: dict[int, list[int]] = {}
    is_long = request.config.getoption("--long")

    @settings(
        max_examples=SCHEDULES_LONG if is_long else SCHEDULES,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(seed=st.integers(0, 3), schedule=st.lists(lives, min_size=2, max_size=5))
    def holds(seed: int, schedule: list[Life]) -> None:
        if seed not in orders:
            orders[seed] = whole_order(gateway, seed)
        follow(gateway, orders[seed], seed, schedule)

    holds()


def follow(gateway: Gateway, order: list[int], seed: int, schedule: list[Life]) -> None:
    """Live through the schedule, then to the end as one rank."""
    state: dict[str, Any] | None = None
    last = Life(1, 64, 2, len(order), worker_dies=False)
    for life in [*schedule, last]:
        ranks = [opened(gateway, life, rank, seed, state) for rank in range(life.world)]
        at = 0 if state is None else state["rows"]
        assert len({len(stream) for stream in ranks}) == 1
        for step in range(min(life.steps, len(ranks[0]))):
            if life.worker_dies and step == 1:
                gateway.kill()
                gateway.start()
            rows = [int(i) for stream in ranks for i in next(stream)["id"]]
            (position,) = {stream.position.rows for stream in ranks}
            assert sorted(set(rows)) == sorted(order[at:position])
            assert len(rows) - (position - at) < life.world  # of the last step, when it is padded
            at = position
        (state,) = [stream.state_dict() for stream in ranks[:1]]
        for stream in ranks:
            kill(stream)
    assert state is not None
    assert state["rows"] == len(order)
    assert len(set(order)) == len(order)


def kill(stream: Stream) -> None:
    """As kill -9 does it: the connection breaks, nothing is acknowledged or handed back."""
    reading = stream._prefetcher
    if reading is not None:
        reading.abandon()
        reading.delivery.reader.interrupt()
        reading._thread.join()
        reading.delivery.reader.close()
