"""What a data worker is sending now, and the orderly end of it: a stop finishes what was begun."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from gateway.errors import Unavailable

DRAIN_SECONDS_MAX = 10.0  # what is not finished by then is cut, and fetched again later
RETRY_SECONDS = 2


class Flight:
    """The answers of one worker that are on their way: segments, and leases sent whole."""

    def __init__(self) -> None:
        """Nothing is on its way."""
        self._count = 0
        self._is_ending = False
        self._landed = asyncio.Event()
        self._landed.set()

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Around the sending of an answer; Unavailable when no more of them begin."""
        if self._is_ending:
            raise Unavailable(
                "the gateway is stopping", advice="try again", retry_after_seconds=RETRY_SECONDS
            )
        self._count += 1
        self._landed.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._landed.set()

    async def drain(self, seconds: float) -> int:
        """Begin nothing more, and wait so long for what was begun; how much is not finished."""
        self._is_ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._landed.wait()
        return self._count
