"""The gate itself, without a network: what happens between two steps of the event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.delivery.gate import Gate
from gateway.domain.order import Segment
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


def test_a_refused_intent_that_nobody_has_forgotten_yet_is_not_joined() -> None:
    control = UsedUp()
    segments = [SimpleNamespace(number=n, lane=0, rows=1, bytes=1) for n in range(3)]
    lease: Any = SimpleNamespace(
        receipts={0: "receipt"}, intents={}, segments=segments,
        spec=SimpleNamespace(lease="lease_a"),
    )  # fmt: skip
    gate = Gate(None, control, None, lambda: 0.0)  # type: ignore[arg-type]

    async def ask() -> None:
        with pytest.raises(LimitExceeded):
            await control.intent()
        failed = asyncio.create_task(gate._intend(lease, segments[1:2]))
        await asyncio.wait((failed,))
        assert failed.exception()
        lease.intents[1] = failed  # done, and its callbacks have not run
        segment: Segment = segments[1]  # type: ignore[assignment]
        with pytest.raises(LimitExceeded):
            await gate.record(lease, segment)

    asyncio.run(ask())
    assert control.asked > 2
