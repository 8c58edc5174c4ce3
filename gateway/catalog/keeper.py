"""Keeps the snapshot young while the gateway runs, so that a start after a crash is fast too.

A thread of its own: appends wait only while the state is copied (some milliseconds); encoding,
sealing and writing go on beside them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from gateway.catalog.catalog import Catalog
from gateway.catalog.state import State
from gateway.errors import Unavailable
from gateway.journal.journal import Journal
from gateway.journal.memory import Memory

EVENTS_BETWEEN = 50_000  # so many are replayed in about two seconds
LOOK_SECONDS = 5.0

_log = logging.getLogger("gateway.catalog")


class SnapshotKeeper(threading.Thread):
    """Saves a snapshot when so many events have come since the last, or something is gone."""

    def __init__(
        self,
        catalog: Catalog,
        journal: Journal,
        save: Callable[[State, Memory], None],
        *,
        events: int = EVENTS_BETWEEN,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        """Look every so many `seconds`; `save` writes it."""
        super().__init__(name="snapshots", daemon=True)
        self._catalog, self._journal, self._save = catalog, journal, save
        self._events, self._seconds = events, seconds
        self._saved = 0  # a long journal gets a snapshot soon after each start
        self._gone = catalog.state.gone
        self._stopping = threading.Event()

    def run(self) -> None:
        """Thread body; a journal that was closed without us ends it too."""
        while not (self._stopping.wait(self._seconds) or self._journal.is_closed):
            if self._is_due():
                self._keep(self._catalog.state.copy)

    def finish(self) -> None:
        """Save the last one, with nothing happening any more."""
        self._stopping.set()
        if self.is_alive():
            self.join()
        self._keep(lambda: self._catalog.state)

    def _is_due(self) -> bool:
        """What was erased, or has expired, must not stay in an old snapshot."""
        is_gone = self._catalog.state.gone != self._gone
        return is_gone or self._journal.durable_size - self._saved >= self._events

    def _keep(self, copy: Callable[[], State]) -> None:
        try:
            memory, state = self._journal.remember(copy)
            self._save(state, memory)
        except (OSError, Unavailable):  # it only makes a next start fast
            _log.exception("the snapshot cannot be written")
        else:
            self._saved, self._gone = memory.size, state.gone
