"""Who may stay connected to a data worker over HTTP: readers of a lease, strangers for a moment.

A connection is a stranger until a request on it has proved a lease; from then on it is that
lease's reader, to its end, and nobody who comes later takes its place. Each reader may cost two
chunks of memory, so there are so many and no more: a lease that is new here is refused, with
when to come again. Strangers cost next to nothing, and make room for each other.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from gateway.delivery.guard import GuardedProtocol
from gateway.delivery.leases import Connection, OpenLease
from gateway.errors import Unavailable

READERS_MAX = 512
COMEBACKS = 64  # of these places, for leases that were read here before: a network that broke
READERS_OF_A_LEASE_MAX = 4  # one more takes the place of its oldest
STRANGERS_MAX = 256  # one more takes the place of the oldest
RETRY_SECONDS = 5


class Places:
    """The connections of one worker."""

    def __init__(self) -> None:
        """Nobody is here."""
        self._strangers: OrderedDict[Connection, None] = OrderedDict()
        self._readers: OrderedDict[Connection, OpenLease] = OrderedDict()
        self._of: Counter[str] = Counter()  # readers of each lease

    @property
    def readers(self) -> int:
        """How many connections have proved a lease."""
        return len(self._readers)

    def arrive(self, connection: Connection) -> None:
        """Let a stranger in, and the one who has proved nothing for longest out, if need be."""
        self._strangers[connection] = None
        if len(self._strangers) > STRANGERS_MAX:
            oldest, _ = self._strangers.popitem(last=False)
            oldest.abort()

    def leave(self, connection: Connection) -> None:
        """Its place is free."""
        self._strangers.pop(connection, None)
        lease = self._readers.pop(connection, None)
        if lease is not None:
            name = lease.spec.lease
            self._of[name] -= 1
            if not self._of[name]:
                del self._of[name]

    def require(self, connection: Connection, lease: OpenLease) -> None:
        """Raise Unavailable when there is no place for a reader of this lease."""
        if connection in self._readers or self._of[lease.spec.lease] >= READERS_OF_A_LEASE_MAX:
            return
        most = READERS_MAX if lease.was_read else READERS_MAX - COMEBACKS
        if len(self._readers) >= most:
            self._turn_out()
        if len(self._readers) >= most:
            raise Unavailable(
                "this data worker has as many readers as it can serve",
                advice="try again; if it goes on, the operator can run more data workers "
                "(`data_workers`), and on the gateway's own host the ring has room of its own",
                retry_after_seconds=RETRY_SECONDS,
            )

    def take(self, connection: Connection, lease: OpenLease) -> None:
        """The connection has proved the lease: it stays. Raises as `require`."""
        if connection in self._readers:
            return
        if connection not in self._strangers:
            raise Unavailable("the client left")  # before its request was looked at
        self.require(connection, lease)
        lease.was_read = True
        if self._of[lease.spec.lease] >= READERS_OF_A_LEASE_MAX:
            oldest = next(held for held, of in self._readers.items() if of is lease)
            self.leave(oldest)
            oldest.abort()
        del self._strangers[connection]
        self._readers[connection] = lease
        self._of[lease.spec.lease] += 1

    def _turn_out(self) -> None:
        """Readers of leases that are over are strangers again: each may still ask why."""
        for connection, lease in list(self._readers.items()):
            if lease.stopped is not None:
                self.leave(connection)
                self.arrive(connection)


class SeatedProtocol(GuardedProtocol):
    """GuardedProtocol whose connections have a place."""

    def __init__(self, places: Places, **given: Any) -> None:
        """`given` is what uvicorn gives its protocols."""
        super().__init__(**given)
        self._places = places

    def connection_made(self, transport: Any) -> None:
        """Somebody comes, whom nobody knows yet."""
        super().connection_made(transport)
        self._places.arrive(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """And is gone."""
        self._places.leave(self)
        super().connection_lost(exc)
