"""A stream that somebody else closes, and one that is forked away from its owner."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.client.stream import Stream
from gateway.errors import Conflict, StreamBroken
from tests.delivery.spies import SMALL, eventually, stream_of
from tests.delivery.test_arriving import one_column
from tests.delivery.world import Data, Gateway, Worker, direct_data, view_data

PROMPT_SECONDS = 2.0


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    """Segments that are used while they arrive, when they are whole, and of a view."""

    def place() -> Path:
        return tmp_path_factory.mktemp("kind")

    rows = direct_data(place())
    return {"arriving": one_column(rows), "whole": rows, "view": view_data(place())}


@pytest.fixture
def gateway(
    worker: Worker, kinds: dict[str, Data], request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    kind = getattr(request, "param", "arriving")
    gateway = Gateway(kinds[kind], worker)
    yield gateway
    gateway.close()


def closes_itself(stream: Stream, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, stream.close)
    timer.start()
    return timer


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("gateway", ["arriving", "whole", "view"], indirect=True)
@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_a_consumer_that_waits_is_told_that_another_thread_closed(
    gateway: Gateway, delivery: str
) -> None:
    stream = stream_of(gateway, SMALL, delivery=delivery, patience=60, prefetch_segments=1)
    next(stream)
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        closing = closes_itself(stream, 0.2)
        began = time.monotonic()
        with pytest.raises(StreamBroken, match="closed") as stop:
            list(stream)
        assert time.monotonic() - began < PROMPT_SECONDS
    finally:
        gateway.process.send_signal(signal.SIGCONT)
    assert stop.value.position == stream.position
    closing.join()
    assert threads() == 0


def test_what_was_verified_is_acknowledged_when_another_thread_closes(gateway: Gateway) -> None:
    stream = stream_of(gateway, SMALL, delivery="ring", prefetch_segments=1)
    while not stream.stats.get("segments"):
        next(stream)
    closer = threading.Thread(target=stream.close)
    closer.start()
    with pytest.raises(StreamBroken, match="closed"):
        list(stream)
    closer.join()
    eventually(lambda: gateway.control.acknowledged[-1:] != [])
    assert gateway.control.acknowledged[-1][1] == stream.stats["segments"]


def test_a_stream_closed_between_two_batches_does_not_look_as_if_it_had_ended(
    gateway: Gateway,
) -> None:
    stream = stream_of(gateway, SMALL, prefetch_segments=1)
    next(stream)
    stream.close()
    with pytest.raises(StreamBroken, match="closed") as stop:
        next(stream)
    assert stop.value.position == stream.position


def test_a_stream_that_came_to_its_end_is_over_however_often_it_is_closed(
    gateway: Gateway,
) -> None:
    stream = stream_of(gateway, SMALL, prefetch_segments=1)
    assert len(list(stream)) == len(stream)
    stream.close()
    assert list(stream) == []


def test_many_threads_may_close_at_once(gateway: Gateway) -> None:
    for _ in range(5):
        stream = stream_of(gateway, SMALL, delivery="ring", prefetch_segments=1)
        next(stream)
        closers = [threading.Thread(target=stream.close) for _ in range(4)]
        for closer in closers:
            closer.start()
        with pytest.raises(StreamBroken, match="closed"):
            list(stream)
        for closer in closers:
            closer.join(10)
    assert threads() == 0


@pytest.mark.parametrize("batches", [1, 0])
def test_a_forked_process_is_told_to_open_a_stream_of_its_own(
    gateway: Gateway, batches: int
) -> None:
    with stream_of(gateway, SMALL, prefetch_segments=1) as stream:
        got = [next(stream) for _ in range(batches)]
        child = os.fork()
        if not child:
            signal.alarm(10)  # whoever waits for ever dies of it
            os._exit(_refusals(stream))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        got += list(stream)
        assert len(got) == len(stream)
    leases = {lease for lease, *_ in gateway.control.acknowledged}
    assert len(leases) <= len(gateway.control.opened) == 1


def _refusals(stream: Stream) -> int:
    """How often a forked process is refused; closing there takes nothing from its parent."""
    count = 0
    state = stream.state_dict()
    for act in (lambda: next(stream), lambda: next(stream), lambda: stream.load_state_dict(state)):
        try:
            act()
        except Conflict as error:
            count += "in the forked process" in str(error.advice)
    stream.close()
    return count


@pytest.mark.parametrize("gateway", ["arriving", "whole", "view"], indirect=True)
def test_threads_that_share_a_stream_are_refused_and_no_row_is_lost(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, batch_size=7) as stream:
        got: list[int] = []
        refused: list[Conflict] = []

        def read() -> None:
            while True:
                try:
                    got.append(len(next(iter(next(stream).values()))))
                except StopIteration:
                    return
                except Conflict as conflict:
                    refused.append(conflict)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(30)
    assert sum(got) == stream.manifest.rows
    assert all("queue" in conflict.advice for conflict in refused)
