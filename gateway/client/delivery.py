"""Which delivery a stream uses: the ring when the gateway is on this host, else HTTP.

The two readers are alike to their user. A ring that cannot be had is tried again with the next
lease only, and why is said once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Protocol

from gateway.client.arriving import Arriving, Came
from gateway.client.assembly import Placing
from gateway.client.buffers import Buffers
from gateway.client.leases import HeldLease
from gateway.client.ring import GREETING_SECONDS, NoRing, RingReader
from gateway.client.segments import Received, Segment, SegmentReader
from gateway.errors import ConfigError, NotAuthenticated, NotFound, Unavailable
from gateway.wire.segments import SegmentHead

RING, HTTP = "ring", "http"

_log = logging.getLogger("gateway.client")


class Reader(Protocol):
    """What fetches the segments of one lease (see SegmentReader for the errors)."""

    def fetch(self, number: int, received: Received, following: int | None = None) -> Segment:
        """Return one verified segment."""
        ...

    def acknowledge(self, received: Received) -> None:
        """Tell the worker what was verified in all."""
        ...

    def live(self) -> None:
        """Say that we live, when we said nothing for long."""
        ...

    def interrupt(self) -> None:
        """End what another thread is waiting for."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next request opens another."""
        ...


class Delivery:
    """The reader of a stream, lease after lease."""

    def __init__(
        self,
        lease: HeldLease,
        choice: str,
        buffers: Buffers,
        meanwhile: Callable[[], None],
        placing: Callable[[SegmentHead], Placing | None],
    ) -> None:
        """Begin with the lease that is held now.

        Args:
            lease: which one.
            choice: see LeaseTerms.
            buffers: for segments that are copied.
            meanwhile: called now and then during long waits.
            placing: where the rows of a segment go, if they are put there as they come.
        """
        self._lease, self._choice, self._buffers = lease, choice, buffers
        self._meanwhile, self._placing = meanwhile, placing
        self._is_proven = False  # a ring was had before: without one now, the gateway is away
        self.used = HTTP
        self.reason: str | None = None  # why it is not the ring
        self.reader: Reader = self._http()
        self.renew()

    def renew(self) -> None:
        """Take the reader for the lease that is held now."""
        self.reader.close()
        if self._choice == HTTP:
            self.reason = "`delivery` is `http`"
            self.reader = self._http()  # of the lease that is held now
            return
        self.used, self.reason = RING, None
        self.reader = RingReader(self._lease.access, self._buffers, self._meanwhile, self._placing)

    def live(self) -> None:
        """Say that we live, when we said nothing for long."""
        with contextlib.suppress(OSError):  # the next fetch sees that the ring is broken
            self.reader.live()

    def acknowledge(self, received: Received) -> None:
        """Tell the worker what was verified in all; by HTTP where the ring was interrupted."""
        reader = self.reader
        if isinstance(reader, RingReader) and not reader.is_connected:
            reader = self._http(GREETING_SECONDS)
        try:
            reader.acknowledge(received)
        finally:
            reader.close()

    def fetch(
        self, number: int, received: Received, following: int | None, arriving: Arriving | None
    ) -> Generator[Came, None, Segment]:
        """Return one verified segment, over HTTP if no ring is to be had.

        Over the ring, `arriving` gets its rows chunk by chunk; the segment has no body then.
        """
        reader = self.reader
        try:
            if arriving is not None and isinstance(reader, RingReader):
                return (yield from reader.arrive(number, received, following, arriving))
            return reader.fetch(number, received, following)
        except NoRing as why:
            self._do_without(why)
            return self.reader.fetch(number, received, following)
        finally:
            self._is_proven |= isinstance(reader, RingReader) and reader.was_greeted

    def _do_without(self, why: NoRing) -> None:
        lost = why.__cause__
        if self._choice == RING and isinstance(lost, (NotFound, NotAuthenticated)):
            raise lost  # the worker does not know the lease; over HTTP it says the same
        if self._choice == RING:
            text = f"no ring is to be had: {why}"
            if self._is_proven:
                raise Unavailable(text, advice="try again") from why
            raise ConfigError(text, advice="set `delivery` to `auto`") from why
        _log.info("segments come over HTTP: %s", why)
        self.used, self.reason = HTTP, str(why)
        self.reader = self._http()

    def _http(self, timeout: float | None = None) -> Reader:
        access = self._lease.access
        secure = access.data_url.startswith("https")
        context = self._lease.tls() if secure else None
        return SegmentReader(access, self._buffers, context=context, timeout=timeout)
