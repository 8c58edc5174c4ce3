"""The thread that fetches segments ahead, renews the lease and survives a restart."""

from __future__ import annotations

import contextlib
import http.client
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np

from gateway.client.arriving import Arriving
from gateway.client.batches import Opener, OpenSegment
from gateway.client.budget import Budget, NoRoom
from gateway.client.buffers import Buffers
from gateway.client.delivery import RING, Delivery
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

RECEIPTS_MAX = 1000
_IDLE_BUFFERS = 2  # of up to 16 MiB, besides one for each lane: lanes end nearly together
_WAIT_SECONDS = 0.5
_CLOSED_SECONDS = 0.1  # after which a consumer that waits hears that another thread closed
_BAD_MAX = 2  # tries for bytes that do not verify
_LOST = (NotFound, NotAuthenticated, LeaseExpired)  # the worker restarted, or time ran out
_AWAY = (Unavailable, KeyUnavailable)


_Fetched = tuple[int, OpenSegment | Arriving, int]  # its number, itself, its bytes in the budget


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
    ) -> None:
        """Start the thread; it holds nothing that would keep its stream alive."""
        self._lease, self._needs, self._progress, self._terms = lease, needs, progress, terms
        self._queue: queue.Queue[_Fetched | GatewayError | None] = queue.Queue(ahead.segments)
        self._budget = Budget(ahead.bytes, lease.manifest)
        self._stop = threading.Event()
        self._is_awaited = False  # the consumer can do nothing but take the next segment
        self._received = Received()
        self._segments = self._rows = self._bytes = 0  # of every lease of this stream
        self._began_at = self._newest_at = time.monotonic()
        self.receipts: deque[str] = deque(maxlen=RECEIPTS_MAX)
        self._opener = Opener(lease.manifest)
        self._arriving: Arriving | None = None  # the one that is fetched, and handed on already
        order = lease.manifest.order
        idle = _IDLE_BUFFERS + order.lanes_chosen // order.world
        buffers = Buffers(idle, self._budget.claim)
        self.delivery = Delivery(
            lease, terms.delivery, buffers, self._meanwhile, self._opener.window
        )
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

    def get(self, number: int) -> OpenSegment | Arriving:
        """Return the next segment, which is `number`; raises why there is none."""
        self._is_awaited = True
        found = self._take()
        self._is_awaited = False
        assert found is not None, "both walks are the same"
        assert found[0] == number, "both walks are the same"
        self._budget.take(found[2])
        return found[1]

    def finish(self) -> None:
        """Wait until the last segment has proved itself at its end; raises why it did not."""
        self.give_back(True)
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
        if self._received.segments:
            with contextlib.suppress(GatewayError, OSError, http.client.HTTPException):
                self.delivery.acknowledge(self._received)
        self.delivery.reader.close()

    def abandon(self) -> None:
        """Let the thread end by itself, soon; a consumer that waits hears of it."""
        self._stop.set()
        arriving = self._arriving
        if arriving is not None:
            arriving.fail(_closed())

    def give_back(self, is_waiting: bool) -> None:  # noqa: FBT001 - Arriving calls it
        """Give slots of the ring back that the consumer does not look at any more."""
        self.delivery.give_back(is_waiting=is_waiting)

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

    def _run(self) -> None:
        try:
            for number, following in pairwise(chain(self._needs, (None,))):
                assert number is not None
                once = self._use_arriving if self._opener.is_arriving else self._use_whole
                if not once(number, following):
                    return
            self._put(None)
        except GatewayError as error:
            self._fail(error)
        except Exception as cause:  # noqa: BLE001 - a dead thread would hang the trainer
            broken = StreamBroken(f"the stream failed: {type(cause).__name__}")
            broken.__cause__ = cause
            self._fail(broken)
        finally:
            if self._stop.is_set():
                self.delivery.reader.close()

    def _fail(self, error: GatewayError) -> None:
        if self._arriving is not None:
            self._arriving.fail(error)
        self._put(error)

    def _use_whole(self, number: int, following: int | None) -> bool:
        segment = self._fetch(number, following)
        held = self._note(segment)
        return self._put((number, self._opener.open(segment), held))

    def _use_arriving(self, number: int, following: int | None) -> bool:
        """Hand the segment on before it is here; over HTTP its rows come all at once."""
        rows = self._lease.access.rows_of(number)
        arriving = self._opener.arriving(rows, self.give_back)
        is_early = self.delivery.used == RING
        self._arriving = arriving if is_early else None
        if is_early and not self._put((number, arriving, 0)):
            return False
        segment = self._fetch(number, following)
        held = self._note(segment)
        if segment.body:
            arriving.begin(segment.head)
            taken = partial(self._budget.take, held) if is_early else None
            arriving.add(np.frombuffer(segment.body, dtype=np.uint8), taken=taken)
        elif is_early:
            self._budget.take(held)
        if not arriving.is_whole:
            raise IntegrityError("a column has another size than its type")
        return is_early or self._put((number, arriving, held))

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
                self._renew_meanwhile()
            else:
                return True
        return False

    def _await_room(self, number: int) -> None:
        """Wait for the consumer to make room for a segment."""
        while not self._budget.wait(number, _WAIT_SECONDS):
            if self._stop.is_set():
                raise _closed()
            self._renew_meanwhile()

    def _meanwhile(self) -> None:
        """A reader waits: perhaps for a consumer who is gone."""
        if self._stop.is_set():
            raise _closed()
        self._renew_meanwhile()

    def _renew_meanwhile(self) -> None:
        with contextlib.suppress(GatewayError):  # the next fetch gets the reason
            self._lease.renew_when_due()

    def _fetch(self, number: int, following: int | None) -> Segment:
        """Fetch one segment with all the patience there is; raises when that is over."""
        bad, was_away = 0, False
        pause = Pause(self._terms.patience_seconds, self._terms.now)
        while True:
            self._await_room(number)
            try:
                self._lease.renew_when_due()
                ahead = self._next(number, following)
                found = self.delivery.fetch(number, self._received, ahead, self._arriving)
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
        if pause.is_over() or self._stop.is_set():
            raise _over(error) from error
        return isinstance(error, _LOST) and self._reopen()

    def _next(self, number: int, following: int | None) -> int | None:
        """The segment to ask for already, if there is room for it behind this one."""
        # One that was just put in is as good as taken while the consumer wakes up for it.
        waiting = max(0, self._queue.qsize() - self._is_awaited)
        if self._arriving is not None and self.delivery.used == RING:
            # It waits in the ring, if we are not to wait before we come for it.
            return following if waiting < self._queue.maxsize else None
        if following is None or waiting + 1 >= self._queue.maxsize:
            return None
        return following if self._budget.has_room(number, following) else None

    def _reopen(self) -> bool:
        """Open a new lease; whether there was anybody to give one."""
        with contextlib.suppress(*_AWAY):
            self._lease.reopen(self._progress.rows)
            self.delivery.renew()
            self._received = Received()  # acknowledgements count per lease
            return True
        return False


def _closed() -> StreamBroken:
    return StreamBroken("the stream was closed")


def _over(error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    return StreamBroken("the connection kept breaking")
