"""Who reads the ring: the consumer when it wants rows, the thread while the consumer is busy.

A consumer that is fast reads for itself, chunk by chunk. While it computes, the ring is soon
full: then the thread copies rows out of it, as many as may be held ahead.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, Self, TypeVar

from gateway.errors import GatewayError, StreamBroken
from gateway.wire.segments import CHUNK_BYTES_MAX

_BUSY_SECONDS = 0.005  # a consumer that took nothing for so long is busy
_IDLE_SECONDS = 0.5
T = TypeVar("T")


class Turns:
    """One deals with lease and worker at a time; `with turns` is the consumer's way in."""

    def __init__(self) -> None:
        """Nobody does."""
        self.lock = threading.RLock()  # a signal may close a stream within a fetch
        self.is_wanted = False  # the consumer waits for its turn
        self.moves = 0  # turns of the consumer
        self._counting = threading.Lock()
        self.ahead = 0  # bytes that were copied out of the ring, and not taken yet

    def keep(self, size: int) -> None:
        """So many bytes were copied out, ahead of the consumer."""
        with self._counting:
            self.ahead += size

    def take(self, size: int) -> None:
        """The consumer has them: it is at work, too."""
        with self._counting:
            self.ahead -= size
        self.moves += 1

    def __enter__(self) -> None:
        """Wait for the turn of the consumer."""
        self.is_wanted = True
        self.lock.acquire()
        self.is_wanted = False
        self.moves += 1

    def __exit__(self, *_: object) -> None:
        """It is over."""
        self.lock.release()


class Drawable(Protocol):
    """A segment on its way (arriving.py)."""

    def draw_ahead(self) -> bool:
        """Copy out its next chunk; False when there was none."""
        ...


class Drawing:
    """Segments that were left to the consumer to draw, in their order."""

    def __init__(
        self, bytes_max: int, stop: threading.Event, look_after: Callable[[], None]
    ) -> None:
        """Nothing is left to it yet.

        Args:
            bytes_max: may be held ahead.
            stop: ends every wait, with `wake`.
            look_after: called now and then while the consumer is busy.
        """
        self._bytes_max, self._stop, self._look_after = bytes_max, stop, look_after
        self.turns = Turns()
        self._open: deque[Drawable] = deque()
        self._ended = threading.Semaphore(0)
        self._left = 0  # segments whose end the thread has not heard of
        self._seen = 0

    def add(self, segment: Drawable) -> None:
        """Leave one more segment to the consumer."""
        self._left += 1
        self._open.append(segment)

    def end(self) -> None:
        """The first of them was drawn to its end; during a turn."""
        self._open.popleft()
        self._ended.release()

    def wake(self) -> None:
        """`stop` was set."""
        self._ended.release()

    def wait(self, but: int = 0) -> None:
        """Wait until all but so many were drawn; go ahead of a consumer that is busy."""
        while self._left > but and not self._stop.is_set():
            if self._ended.acquire(timeout=_BUSY_SECONDS if self._has_room else _IDLE_SECONDS):
                self._left -= 1
            else:
                self._look_after()
                self._go_ahead()

    @property
    def _has_room(self) -> bool:
        return self.turns.ahead + CHUNK_BYTES_MAX <= self._bytes_max

    def _go_ahead(self) -> None:
        turns = self.turns
        if turns.moves != self._seen:
            self._seen = turns.moves
        elif turns.lock.acquire(blocking=False):
            try:
                while self._open and self._has_room and not turns.is_wanted:
                    if self._stop.is_set() or not self._open[0].draw_ahead():
                        return
            finally:
                turns.lock.release()


class Drawn(Iterator[T]):
    """A fetch as it is drawn from: whatever fails, it fails with a GatewayError."""

    def __init__(self, fetch: Iterator[T]) -> None:
        """Nothing is drawn yet."""
        self._fetch = fetch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Return what comes next."""
        try:
            return next(self._fetch)
        except (GatewayError, StopIteration):
            raise
        except Exception as cause:
            raise broken(cause) from cause


def broken(cause: Exception) -> StreamBroken:
    """What a consumer hears of a fault of ours."""
    error = StreamBroken(f"the stream failed: {type(cause).__name__}")
    error.__cause__ = cause
    return error
