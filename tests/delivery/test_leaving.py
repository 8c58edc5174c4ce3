"""A client that leaves: nothing more is made for it, and what made it is closed at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.wire import ring as frames
from gateway.wire.leases import LeaseRequest
from tests.delivery.spies import Spy, access_of, eventually, rows_of, stream_of
from tests.delivery.test_drain import Reading
from tests.delivery.test_whole import address, opened, reading
from tests.delivery.test_worker import lease_of
from tests.delivery.world import Data, Gateway, Worker, view_data

CHUNKS_MAX = 20
WHOLE_FRAMES = 18  # of a segment of 16 MiB: head, chunks, end


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("told") / "generators"


@pytest.fixture(scope="module")
def worker(told: Path) -> Iterator[Worker]:
    worker = Worker("tests.delivery.watched_worker", told=str(told))
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def large_view(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """40 MB in three segments."""
    return view_data(tmp_path_factory.mktemp("view"), rows=4000, name=lambda i: f"{i} " * 2000)


@pytest.fixture(autouse=True)
def unwritten(told: Path) -> None:
    told.write_text("")


def leave_http(gateway: Gateway) -> None:
    with closing(Reading(lease_of(gateway, LeaseRequest()))):
        eventually(lambda: gateway.status()["streams"] == 1)


def leave_ring(gateway: Gateway) -> None:
    spy = Spy(access_of(gateway, LeaseRequest()))
    with closing(spy.sock):
        spy.greet()
        spy.get(0)
        for _ in range(3):
            spy.receive()


def leave_ring_with_slots_left(gateway: Gateway) -> None:
    """In the middle of a segment, while the worker does not wait for anybody."""
    spy = Spy(access_of(gateway, LeaseRequest()))
    with closing(spy.sock):
        spy.greet()
        spy.get(0)
        for _ in range(4):
            magic, payload = spy.receive()
            if magic == frames.CHUNK:
                spy.send(frames.CREDIT, frames.CHUNK_PLACE.unpack(payload)[0])


@pytest.mark.parametrize("leave", [leave_http, leave_ring, leave_ring_with_slots_left])
def test_the_generator_of_a_client_that_left_is_closed(
    worker: Worker, large_data: Data, told: Path, leave: Callable[[Gateway], None]
) -> None:
    gateway = Gateway(large_data, worker)
    leave(gateway)
    (line,) = lines(told, 1)
    how, made = line.split()
    assert how == "closed"
    assert int(made) < WHOLE_FRAMES
    still(gateway, told)
    gateway.close()


def test_who_leaves_a_lease_that_is_sent_whole_stops_it_too(
    worker: Worker, large_view: Data, told: Path
) -> None:
    gateway = Gateway(large_view, worker)
    with reading(gateway, address(gateway, opened(gateway))) as answer:
        assert answer.read(1)
        before = gateway.status()["frames"]
    eventually(lambda: "closed" in told.read_text())
    still(gateway, told, before)
    gateway.close()


def test_who_stays_to_the_end_leaves_no_generator_either(
    worker: Worker, large_data: Data, told: Path
) -> None:
    gateway = Gateway(large_data, worker)
    for delivery in ("http", "ring"):
        with stream_of(gateway, delivery=delivery, batch_size=512) as stream:
            assert rows_of(list(stream)) == gateway.control.data.rows
            segments = len(stream.manifest.lanes[0])
        assert [line.split()[0] for line in lines(told, segments)] == ["ended"] * segments
        told.write_text("")
    gateway.close()


def lines(told: Path, count: int) -> list[str]:
    eventually(lambda: len(told.read_text().splitlines()) >= count)
    return told.read_text().splitlines()


def still(gateway: Gateway, told: Path, before: int = 0) -> None:
    """At most CHUNKS_MAX were made since there were `before`, and none is made any more."""
    made = gateway.status()["frames"]
    assert made - before <= CHUNKS_MAX
    known = told.read_text()
    time.sleep(0.2)
    assert gateway.status()["frames"] == made
    assert told.read_text() == known
