"""Who waits for which event to be durable: blocking threads, asyncio tasks, callbacks."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable

from gateway.errors import Unavailable

_Waiter = tuple[int, int, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Durability:
    """How many events are durable, and everybody who wants to know."""

    def __init__(self, size: int) -> None:
        """Start with the size that recovery found."""
        self.size = size
        self._failure: str | None = None
        self._changed = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._count = 0
        self._callbacks: list[Callable[[int], None]] = []

    def on_advance(self, callback: Callable[[int], None]) -> None:
        """Call `callback(size)` after each group commit, from the journal's thread."""
        self._callbacks.append(callback)

    def advance(self, size: int) -> None:
        """`size` events are durable now."""
        ready: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        with self._changed:
            self.size = size
            self._changed.notify_all()
            while self._waiters and self._waiters[0][0] < size:
                _, _, loop, future = heapq.heappop(self._waiters)
                ready.setdefault(loop, []).append(future)
        for callback in self._callbacks:
            callback(size)
        _release(ready, None)

    def fail(self, reason: str) -> None:
        """Nothing more becomes durable: every waiter gets Unavailable."""
        ready: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        with self._changed:
            self._failure = reason
            self._changed.notify_all()
            for _, _, loop, future in self._waiters:
                ready.setdefault(loop, []).append(future)
            self._waiters.clear()
        _release(ready, reason)

    def wait(self, index: int, timeout: float | None = None) -> None:
        """Block until event `index` is durable; Unavailable after failure or `timeout` seconds."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: self.size > index or self._failure is not None, timeout
            )
            if self.size > index:
                return
        raise Unavailable(self._failure if done and self._failure else "the journal is too slow")

    async def until(self, index: int) -> None:
        """Suspend until event `index` is durable; Unavailable when the journal fails."""
        if self.size > index:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if self.size > index:
                return
            if self._failure is not None:
                raise Unavailable(self._failure)
            self._count += 1
            heapq.heappush(self._waiters, (index, self._count, loop, future))
        await future


def _release(
    ready: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]], reason: str | None
) -> None:
    for loop, futures in ready.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures, reason)
        except RuntimeError:  # that loop is closed: nobody waits there any more
            continue


def _resolve(futures: list[asyncio.Future[None]], reason: str | None) -> None:
    for future in futures:
        if future.done():
            continue
        if reason is None:
            future.set_result(None)
        else:
            future.set_exception(Unavailable(reason))
