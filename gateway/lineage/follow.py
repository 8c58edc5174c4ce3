"""Follow the journal's durable prefix and keep the projection close behind it.

Two threads: one reads and verifies the journal, one projects what it read, in batches as large
as what waits. Nothing here is ever waited for by a stream; when this dies, release goes on.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator

import duckdb

from gateway.errors import GatewayError, IntegrityError
from gateway.lineage.batch import EVENTS_MAX
from gateway.lineage.projection import Projection
from gateway.lineage.rows import EventLike

Tail = Callable[[int], Iterator[tuple[EventLike, bytes]]]
_Some = list[tuple[EventLike, str]]  # events with their leaf hashes (hex)

QUEUE_EVENTS_MAX = 2 * EVENTS_MAX
SEAL_BYTES_MIN = 16 << 20  # a busy projection is sealed when so much is unsealed
SEAL_SECONDS_MIN = 30.0
_SEAL_SHARE = 50  # sealing takes at most 1/50 of the time
GATHER_SECONDS = 0.5  # a transaction costs the same for one event as for hundreds
GATHER_EVENTS = 512  # … and is not waited for when so many are there
_SOME_EVENTS = 512  # handed over together: one by one would cost as much as reading them
_IDLE_SECONDS = 0.5
_POLL_SECONDS = 0.02
_RETRY_SECONDS = 1.0


class _Reader(threading.Thread):
    """Reads the journal into a bounded queue; an error ends it and is its last item."""

    def __init__(self, tail: Tail, start: int) -> None:
        super().__init__(name="journal-reader", daemon=True)
        self._tail, self._next = tail, start
        self.items: queue.SimpleQueue[_Some | BaseException] = queue.SimpleQueue()
        self.given = 0  # events put into `items`
        self.taken = 0  # … and taken by the other thread
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.wait(_POLL_SECONDS):
                self._read()
        except BaseException as error:  # noqa: BLE001 - handed to the projecting thread
            self.items.put(error)

    def _read(self) -> None:
        some: _Some = []
        try:
            for event, leaf in self._tail(self._next):
                some.append((event, leaf.hex()))
                self._next = event.index + 1
                if len(some) == _SOME_EVENTS:
                    self._give(some)
                    some = []
                    if self.stopping.is_set():
                        return
        finally:
            self._give(some)

    def _give(self, some: _Some) -> None:
        if not some:
            return
        self.given += len(some)
        self.items.put(some)
        while self.waiting > QUEUE_EVENTS_MAX and not self.stopping.is_set():
            time.sleep(_POLL_SECONDS)

    @property
    def waiting(self) -> int:
        """Events that were read and not taken yet."""
        return self.given - self.taken


class Follower(threading.Thread):
    """Projects until stopped. `fault` says why it gave up; questions are refused then."""

    def __init__(
        self, projection: Projection, read_anew: Callable[[], Tail], now: Callable[[], float]
    ) -> None:
        """Follow a journal.

        Args:
            projection: the file; only this thread appends to it.
            read_anew: makes a `tail(start)`: an iterator of (event, leaf hash) from index
                `start` on that ends where the durable prefix ends, and is called again.
            now: Unix seconds, for the lag.
        """
        super().__init__(name="projector", daemon=True)
        self._projection, self._read_anew, self._now = projection, read_anew, now
        self._moved = threading.Condition()
        self._stopping = threading.Event()
        self._hurry = threading.Event()  # somebody waits for an answer
        self._reader: _Reader | None = None
        self._sealed_at = time.monotonic()
        self._seal_seconds = 0.0
        self._is_unsealed = False
        self._lags: deque[float] = deque(maxlen=1000)
        self.fault: str | None = None

    def run(self) -> None:
        """Thread body: follow, and recover from what can be recovered from."""
        while not self._stopping.is_set():
            try:
                self._follow()
            except duckdb.Error as error:
                self.fault = f"the projection failed: {error}"
                self._recover()
            except (GatewayError, OSError) as error:
                self.fault = str(error)
                self._stopping.wait(_RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001 - a thread that just ended would leave old
                # answers that look like new ones: whoever asks is told that history stands still.
                place = traceback.extract_tb(error.__traceback__)[-1]
                kind = type(error).__name__  # its text may hold values
                self.fault = f"events cannot be projected: {kind} in {place.name}:{place.lineno}"
                self._stopping.wait(_RETRY_SECONDS)
            finally:
                self._stop_reader()

    def wait_for(self, size: int, seconds: float) -> None:
        """Wait until `size` events are projected, or the time is over."""
        with self._moved:
            if self._projection.projected < size:
                self._hurry.set()
                self._moved.wait_for(lambda: self._projection.projected >= size, seconds)

    @property
    def lag_seconds_p99(self) -> float:
        """99th percentile over recent batches of commit time minus event time."""
        lags = sorted(self._lags)
        return lags[int(0.99 * (len(lags) - 1))] if lags else 0.0

    def stop(self) -> None:
        """End both threads; returns when nothing is appended any more."""
        self._stopping.set()
        self._hurry.set()
        self.join()

    def _follow(self) -> None:
        if not self._projection.is_open:
            self._projection.reopen()
        self._check_last_leaf()
        self._reader = _Reader(self._read_anew(), self._projection.projected)
        self._reader.start()
        while not self._stopping.is_set():
            batch = self._take(self._reader)
            if batch:
                self._projection.append(batch)
                self._is_unsealed = True
                self._lags.append(self._now() - batch[-1][0].time)
                self.fault = None
                with self._moved:
                    self._moved.notify_all()
            self._seal_when_due(is_idle=not batch)

    def _check_last_leaf(self) -> None:
        """The journal must still hold what was projected last; else begin anew."""
        size = self._projection.projected
        if size == 0:
            return
        for event, leaf in self._read_anew()(size - 1):
            if event.index == size - 1 and leaf.hex() == self._projection.leaf:
                return
            break
        self._projection.rebuild(f"event {size - 1} of the journal is another than was projected")

    def _take(self, reader: _Reader) -> _Some:
        batch: _Some = []
        try:
            item = reader.items.get(timeout=_IDLE_SECONDS)
            if reader.waiting < GATHER_EVENTS:
                self._hurry.wait(GATHER_SECONDS)
            self._hurry.clear()
            while True:
                if isinstance(item, BaseException):
                    if not batch:
                        raise item
                    reader.items.put(item)
                    return batch
                batch += item
                reader.taken += len(item)
                if len(batch) > EVENTS_MAX - _SOME_EVENTS:
                    return batch
                item = reader.items.get_nowait()
        except queue.Empty:
            return batch

    def _seal_when_due(self, *, is_idle: bool) -> None:
        due = self._sealed_at + max(SEAL_SECONDS_MIN, _SEAL_SHARE * self._seal_seconds)
        wanted = is_idle or self._projection.unsealed_bytes > SEAL_BYTES_MIN
        begin = time.monotonic()
        if not (self._is_unsealed and wanted and begin >= due):
            return
        if self._projection.seal():
            self._is_unsealed = False
            self._seal_seconds = time.monotonic() - begin
        self._sealed_at = time.monotonic()

    def _recover(self) -> None:
        self._stopping.wait(_RETRY_SECONDS)
        try:
            self._projection.reopen()
        except (duckdb.Error, OSError, IntegrityError) as error:
            self.fault = f"the projection cannot be opened: {error}"

    def _stop_reader(self) -> None:
        if self._reader is not None:
            self._reader.stopping.set()
            self._reader = None
