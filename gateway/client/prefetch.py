"""Fetches segments ahead, renews the lease and survives a restart.

A thread does it; but rows that are used where they lie in the ring are drawn by the consumer
itself: the ring is what is ahead of it, and a thread between the two would cost them as much
as the rows. The thread looks after the lease meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, cast

import numpy as np

from gateway.client.arriving import Arriving, Came
from gateway.client.assembly import Assembly, Placing
from gateway.client.batches import Opener, OpenSegment
from gateway.client.budget import Budget, NoRoom
from gateway.client.buffers import Buffers
from gateway.client.delivery import RING, Delivery
from gateway.client.drawing import Drawing, Drawn, broken
from gateway.client.leases import HeldLease, LeaseTerms
from gateway.client.pause import Pause
from gateway.client.segments import Cut, Received, Segment
from gateway.errors import (
    GatewayError,
    IntegrityError,
    KeyUnavailable,
    LeaseExpired,
    NotAuthenticated,
    NotFound,
    StreamBroken,
    Unavailable,
)
from gateway.wire.segments import SegmentHead

RECEIPTS_MAX = 1000
_IDLE_BUFFERS = 2  # of up to 16 MiB, besides one for each lane that is held: they end together
_WAIT_SECONDS = 0.5
_CLOSED_SECONDS = 0.1  # after which a consumer that waits hears that another thread closed
_BAD_MAX = 2  # tries for bytes that do not verify
_LOST = (NotFound, NotAuthenticated, LeaseExpired)  # the worker restarted, or time ran out
_AWAY = (Unavailable, KeyUnavailable)


# Its number, itself unless its rows are in their batches, its bytes in the budget.
_Fetched = tuple[int, OpenSegment | Arriving | None, int]


@dataclass(frozen=True, slots=True)
class Ahead:
    """How much is fetched ahead of need: whichever is reached first."""

    segments: int
    bytes: int


@dataclass(slots=True)
class Progress:
    """Global rows handed out so far; where a new lease would begin."""

    rows: int


class Prefetcher:
    """Fetches the segments that `needs` names, in that order, a few ahead."""

    def __init__(
        self,
        lease: HeldLease,
        needs: Iterator[int],
        progress: Progress,
        ahead: Ahead,
        terms: LeaseTerms,
        assembly: Assembly | None,
    ) -> None:
        """Start the thread; it holds nothing that would keep its stream alive."""
        self._assembly = assembly
        self._lease, self._needs, self._progress, self._terms = lease, needs, progress, terms
        self._queue: queue.Queue[_Fetched | GatewayError | None] = queue.Queue(ahead.segments)
        self._budget = Budget(ahead.bytes, lease.manifest)
        self._stop = threading.Event()
        self._is_awaited = False  # the consumer can do nothing but take the next segment
        self._drawing = Drawing(ahead.bytes, self._stop, self._look_after)
        self._turns = self._drawing.turns
        self._current: Arriving | None = None  # the one that the consumer took last
        self._was_copied = False  # rows of this stream do not lie whole in the ring
        self._received = Received()
        self._refused: GatewayError | None = None  # what a renewal was answered, not yet told
        self._segments = self._rows = self._bytes = 0  # of every lease of this stream
        self._began_at = self._newest_at = time.monotonic()
        self.receipts: deque[str] = deque(maxlen=RECEIPTS_MAX)
        self._opener = Opener(lease.manifest)
        order = lease.manifest.order
        held = 0 if assembly else order.lanes_chosen // order.world
        buffers = Buffers(_IDLE_BUFFERS + held, self._budget.claim)
        self.delivery = Delivery(lease, terms.delivery, buffers, self._meanwhile, self._placing)
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> dict[str, Any]:
        """See Stream.stats."""
        return {
            "producer": self._lease.manifest.kind,
            "delivery": self.delivery.used,
            "reason": self.delivery.reason,
            "segments": self._segments,
            "rows": self._rows,
            "bytes": self._bytes,
            "seconds": self._newest_at - self._began_at,
        }

    def get(self, number: int) -> OpenSegment | Arriving | None:
        """Return the next segment, which is `number`; raises why there is none.

        None when its rows are where the assembly wants them.
        """
        self._end_current()
        self._is_awaited = True
        found = self._take()
        self._is_awaited = False
        assert found is not None, "both walks are the same"
        assert found[0] == number, "both walks are the same"
        self._budget.take(found[2])
        if isinstance(found[1], Arriving):
            self._current = found[1]
        return found[1]

    def finish(self) -> None:
        """Wait until the last segment has proved itself at its end; raises why it did not."""
        self._end_current()
        found = self._take()
        assert found is None, "nothing is left"
        self._thread.join()

    def close(self) -> None:
        """Stop the thread; what it verified is acknowledged."""
        self.abandon()
        if self._thread.is_alive():
            self.delivery.reader.interrupt()
            self._thread.join()
            self.delivery.reader.close()
        while not self._turns.lock.acquire(timeout=_CLOSED_SECONDS):
            self.delivery.reader.interrupt()  # the consumer draws, in another thread
        try:
            if self._received.segments:
                with contextlib.suppress(GatewayError, OSError, http.client.HTTPException):
                    self.delivery.acknowledge(self._received)
            self.delivery.reader.close()
        finally:
            self._turns.lock.release()

    def abandon(self) -> None:
        """Let the thread end by itself, soon; a consumer that waits hears of it."""
        self._stop.set()
        self._drawing.wake()

    def _take(self) -> _Fetched | None:
        """Wait for what comes next, or for `close` in another thread; raises why there is none."""
        while True:
            try:
                found = self._queue.get(timeout=_CLOSED_SECONDS)
            except queue.Empty:
                found = None
                if not self._stop.is_set():
                    continue
            if self._stop.is_set():
                raise _closed()
            if isinstance(found, GatewayError):
                raise found
            return found

    def _end_current(self) -> None:
        """A segment proves itself at its end."""
        current, self._current = self._current, None
        if current is not None:
            current.finish()

    def _run(self) -> None:
        try:
            for number, following in pairwise(chain(self._needs, (None,))):
                assert number is not None
                if not self._hand_on(number, following):
                    return
            self._drawing.wait()
            self._put(None)
        except GatewayError as error:
            self._put(error)
        except Exception as cause:  # noqa: BLE001 - a dead thread would hang the trainer
            self._put(broken(cause))
        finally:
            if self._stop.is_set():
                self.delivery.reader.close()

    def _hand_on(self, number: int, following: int | None) -> bool:
        """Give the consumer one segment, or the means to draw it; whether it wants more."""
        if not self._opener.is_arriving:
            segment, opened = _whole(self._fetch(number, following)), None
            if self._assembly is None:
                opened = self._opener.open(segment)
            elif not segment.is_placed:
                self._assembly.place(segment)
            return self._put((number, opened, self._note(segment)))
        self._drawing.wait(but=1)
        arriving = self._opener.arriving(self._lease.access.rows_of(number), self._turns)
        if self.delivery.used == RING and not self._was_copied:
            arriving.source = Drawn(self._arrive(number, following, arriving))
            self._drawing.add(arriving)
            return self._put((number, arriving, 0))
        self._drawing.wait()
        segment = _whole(self._fetch(number, following))
        held = self._note(segment)
        arriving.source = iter((_body(segment, arriving),))
        return self._put((number, arriving, held))

    def _placing(self, head: SegmentHead) -> Placing | None:
        if self._assembly is None:
            return None
        self._budget.claim(head.bytes)
        return self._assembly.placing(head)

    def _arrive(
        self, number: int, following: int | None, arriving: Arriving
    ) -> Generator[Came, None, None]:
        """One segment as its rows come; over HTTP all at once."""
        segment = yield from self._fetch(number, following, arriving)
        self._budget.take(self._note(segment))
        if segment.body:
            self._was_copied |= self.delivery.used == RING  # so will be the others: ahead again
            yield _body(segment, arriving)
        if not arriving.is_whole:
            raise IntegrityError("a column has another size than its type")
        self._drawing.end()

    def _note(self, segment: Segment) -> int:
        self._received = self._received.plus(segment.head.rows)
        self._segments += 1
        self._rows += segment.head.rows
        self._bytes += segment.head.bytes
        self._newest_at = time.monotonic()
        self.receipts.append(segment.receipt)
        return self._budget.keep()

    def _put(self, item: _Fetched | GatewayError | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_WAIT_SECONDS)
            except queue.Full:
                self._look_after()
            else:
                return True
        return False

    def _await_room(self, number: int) -> None:
        """Wait for the consumer to make room for a segment."""
        waits = [self._budget.wait, *([self._assembly.wait] if self._assembly else [])]
        for wait in waits:
            while not wait(number, _WAIT_SECONDS):
                self._meanwhile()

    def _meanwhile(self) -> None:
        """A reader waits: perhaps for a consumer who is gone."""
        if self._stop.is_set():
            raise _closed()
        self._renew_meanwhile()

    def _look_after(self) -> None:
        """The consumer is busy: renew the lease, and say that we live."""
        if self._turns.lock.acquire(blocking=False):
            try:
                self._renew_meanwhile()
                self.delivery.live()
            finally:
                self._turns.lock.release()

    def _renew_meanwhile(self) -> None:
        if self._refused is None:
            try:
                self._lease.renew_when_due()
            except GatewayError as reason:
                self._refused = reason  # the next fetch has it: a denial is asked for once

    def _renew(self) -> None:
        if self._refused is not None:
            raise self._refused
        self._lease.renew_when_due()

    def _fetch(
        self, number: int, following: int | None, arriving: Arriving | None = None
    ) -> Generator[Came, None, Segment]:
        """Fetch one segment with all the patience there is; raises when that is over."""
        bad, was_away = 0, False
        pause = Pause(self._terms.patience_seconds, self._terms.now)
        while True:
            self._await_room(number)
            try:
                self._renew()
                ahead = following if arriving else self._next(number, following)
                fetch = self.delivery.fetch(number, self._received, ahead, arriving)
                found = yield from fetch
            except NoRoom:
                self.delivery.reader.close()
                continue
            except IntegrityError:
                bad += 1
                self.delivery.reader.close()
                if bad == _BAD_MAX:
                    raise
                continue
            except (Cut, *_AWAY, *_LOST) as error:
                is_back = self._is_back(error, pause)
                if is_back and was_away:
                    pause.hurry()  # a lease that is short would not outlast a long pause
                was_away = not is_back
                why: Exception = error
            else:
                pause.end()
                return found
            self._stop.wait(pause.next(why))
            # With its worker dead nobody would say so where it was: control does.
            was_away = was_away and not (self._lease.is_lost() and self._reopen())

    def _is_back(self, error: Exception, pause: Pause) -> bool:
        """Whether there is a new lease after `error`; raises it when patience is over."""
        if self._stop.is_set():
            raise _closed() from error
        if pause.is_over():
            raise _over(error) from error
        return isinstance(error, _LOST) and self._reopen()

    def _next(self, number: int, following: int | None) -> int | None:
        """The segment to ask for already, if there is room for it behind this one."""
        # One that was just put in is as good as taken while the consumer wakes up for it.
        waiting = max(0, self._queue.qsize() - self._is_awaited)
        if following is None or waiting + 1 >= self._queue.maxsize:
            return None
        if self._assembly is not None and not self._assembly.has_room(number, following):
            return None
        return following if self._budget.has_room(number, following) else None

    def _reopen(self) -> bool:
        """Open a new lease; whether there was anybody to give one."""
        with contextlib.suppress(*_AWAY):
            self._lease.reopen(self._progress.rows)
            self.delivery.renew()
            self._received = Received()  # acknowledgements count per lease
            self._refused = None
            return True
        return False


def _closed() -> StreamBroken:
    return StreamBroken("the stream was closed")


def _over(error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    return StreamBroken("the connection kept breaking")


def _whole(fetch: Generator[Came, None, Segment]) -> Segment:
    """The segment of a fetch that nothing is drawn from."""
    try:
        next(fetch)
    except StopIteration as done:
        return cast(Segment, done.value)
    raise AssertionError("no rows come before their segment is whole")


def _body(segment: Segment, arriving: Arriving) -> Came:
    arriving.begin(segment.head)
    return Came(np.frombuffer(segment.body, dtype=np.uint8), None)
