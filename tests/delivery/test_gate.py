"""The gate itself, without a network: what happens between two steps of the event loop."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.delivery.gate import AHEAD_SEGMENTS, AHEAD_SEGMENTS_MAX, Gate
from gateway.errors import LimitExceeded


class UsedUp:
    """Control after the budget is used up."""

    def __init__(self) -> None:
        self.asked = 0

    async def intent(self, *_: Any) -> list[str]:
        self.asked += 1
        raise LimitExceeded("the budget of the grant is used up")


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A loop that never yields cannot be timed out from inside."""

    def stop(*_: object) -> None:
        raise AssertionError("the event loop is not given back")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


class Durable:
    """Control that records at most `most` segments; each commit ends when the test says so."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.asked = most, list[tuple[int, int]]()
        self.commit = asyncio.Event()

    async def intent(self, _: str, first: int, last: int, *__: Any) -> list[str]:
        self.asked.append((first, last))
        if last >= self.most:
            raise LimitExceeded("the budget of the grant is used up")
        await self.commit.wait()
        return [f"receipt {n}" for n in range(first, last + 1)]


def lease_of(lanes: int = 1, rows: int = 40, receipts: Any = None) -> Any:
    segments = [
        SimpleNamespace(number=n, lane=n * lanes // rows, rows=1, bytes=1) for n in range(rows)
    ]
    order = SimpleNamespace(lanes=lanes, world=1)
    kept: dict[int, str] = dict(receipts or {})
    return SimpleNamespace(
        receipts=kept, intents={}, segments=segments, is_near_limit=False,
        stopped=None, policy_epoch=1, expires_at=1e6, ahead=AHEAD_SEGMENTS, asked_at=0.0,
        keep_receipt=kept.__setitem__, spec=SimpleNamespace(lease="lease_a", order=order),
    )  # fmt: skip


def gate_of(control: Any, policy_epoch: int = 1) -> Gate:
    status: Any = SimpleNamespace(policy_epoch=policy_epoch, is_alive=True)
    clock = itertools.count(1.0)  # a slow reader: every look at the clock is a second later
    return Gate(None, control, status, lambda: next(clock))  # type: ignore[arg-type]


def test_intents_run_four_segments_ahead_of_a_reader_in_sequence() -> None:
    control, lease = Durable(), lease_of()
    gate = gate_of(control)

    async def read() -> None:
        control.commit.set()
        for number in range(24):
            await gate.record(lease, lease.segments[number])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ahead = max(lease.receipts) - number
            assert number < 2 or AHEAD_SEGMENTS <= ahead < 2 * AHEAD_SEGMENTS

    asyncio.run(read())
    assert control.asked[:3] == [(0, 0), (1, 4), (5, 8)]
    assert all(last - first == 3 for first, last in control.asked[1:])


def test_a_fast_reader_has_more_recorded_at_once_and_a_slow_one_less_again() -> None:
    control, lease = Durable(), lease_of(rows=400)
    now = 1.0
    status: Any = SimpleNamespace(policy_epoch=1, is_alive=True)
    gate = Gate(None, control, status, lambda: now)  # type: ignore[arg-type]

    async def read(numbers: range, seconds: float) -> None:
        nonlocal now
        control.commit.set()
        for number in numbers:
            now += seconds
            await gate.record(lease, lease.segments[number])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def all_of_it() -> None:
        await read(range(200), 0.001)
        assert max(last - first + 1 for first, last in control.asked) == AHEAD_SEGMENTS_MAX
        before = len(control.asked)
        await read(range(200, 300), 0.1)
        assert control.asked[-1][1] - control.asked[-1][0] + 1 == AHEAD_SEGMENTS
        assert len(control.asked) - before > 100 // AHEAD_SEGMENTS_MAX

    asyncio.run(all_of_it())


def test_nothing_is_asked_ahead_when_the_rules_have_changed() -> None:
    control, lease = Durable(), lease_of(receipts={0: "receipt"})
    gate = gate_of(control, policy_epoch=2)

    async def read() -> None:
        control.commit.set()
        await gate.record(lease, lease.segments[1])  # admitted before the change

    asyncio.run(read())
    assert control.asked == [(1, 4)]


def test_a_reader_of_eight_lanes_runs_one_request_ahead_in_each() -> None:
    control, lease = Durable(), lease_of(lanes=8, rows=80)
    gate = gate_of(control)

    async def read() -> None:
        control.commit.set()
        for number in (0, 10, 20, 1, 11, 21):
            await gate.record(lease, lease.segments[number])

    asyncio.run(read())
    assert control.asked == [(0, 0), (10, 10), (20, 20), (1, 4), (11, 14), (21, 24)]


def test_near_a_limit_segments_are_asked_for_one_by_one() -> None:
    control, lease = Durable(most=8), lease_of(rows=12)
    gate = gate_of(control)

    async def read() -> None:
        control.commit.set()
        for number in range(8):
            await gate.record(lease, lease.segments[number])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await gate.record(lease, lease.segments[8])

    asyncio.run(read())
    refused = [(first, last) for first, last in control.asked if last >= control.most]
    assert refused == [(5, 8), (8, 8)], "no refusal is recorded twice"
    assert sorted(lease.receipts) == list(range(8))


def test_a_refused_intent_that_nobody_has_forgotten_yet_is_not_joined() -> None:
    control = UsedUp()
    lease = lease_of(rows=3, receipts={0: "receipt"})
    segments = lease.segments
    gate = gate_of(control)

    async def ask() -> None:
        with pytest.raises(LimitExceeded):
            await control.intent()
        failed = asyncio.create_task(gate._intend(lease, segments[1:2]))
        await asyncio.wait((failed,))
        assert failed.exception()
        lease.intents[1] = failed  # done, and its callbacks have not run
        with pytest.raises(LimitExceeded):
            await gate.record(lease, segments[1])

    asyncio.run(ask())
    assert control.asked > 2


def test_the_intent_of_a_segment_that_waits_its_turn_is_recorded_meanwhile() -> None:
    control, lease = Durable(), lease_of(lanes=4)
    gate = gate_of(control)

    async def read() -> None:
        first = asyncio.create_task(gate.record(lease, lease.segments[0]))
        await asyncio.sleep(0)
        gate.prepare(lease, 10)
        gate.prepare(lease, 10)
        await asyncio.sleep(0)
        assert control.asked == [(0, 0), (10, 10)]
        control.commit.set()
        await first
        assert await gate.record(lease, lease.segments[10]) == "receipt 10"
        assert control.asked.count((10, 10)) == 1

    asyncio.run(read())


@pytest.mark.parametrize("reason", ["rules", "limit", "no such segment", "recorded", "next"])
def test_nothing_is_recorded_meanwhile_for(reason: str) -> None:
    control, lease = Durable(), lease_of(lanes=4, receipts={11: "receipt 11"})
    gate = gate_of(control, policy_epoch=2 if reason == "rules" else 1)
    lease.is_near_limit = reason == "limit"

    async def ask() -> None:
        gate.prepare(
            lease, {"no such segment": 1 << 60, "recorded": 11, "next": 12}.get(reason, 10)
        )
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert control.asked == []
