"""OpenLineage out, at least once: a cursor over what is projected, for each sink its own.

The journal is the outbox: nothing is queued. A sink's cursor (the index of the next event to
tell of) lies in a small file beside the projection. It moves on after the sink took what is
before it, at the end of a batch and each second within one; so after a kill what was not surely
taken is sent again, and at most a second's worth of what was. A sink that is slow, hangs or
refuses makes its own cursor lag and nothing else: no stream, no question and no other sink waits
for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from gateway.crypto.private_files import replace_private
from gateway.errors import GatewayError, InvalidInput
from gateway.lineage.outgoing import BATCH_MIN, Happened, Voice, happened, run_events
from gateway.lineage.projection import Projection
from gateway.lineage.sinks import SinkName, connect, file_of, told

RETRY_SECONDS_MAX = 60.0
_RETRY_SECONDS_MIN = 0.5
_POLL_SECONDS = 0.5
_REMEMBER_SECONDS = 1.0  # within a batch: each time is two flushes of the disk
_REMEMBER_EVENTS = 10_000  # with nothing to tell: so much is looked through again after a kill
Head = Callable[[], tuple[str, int, bytes]]  # node, size and root of the newest LogCheckpoint


class Outbox(threading.Thread):
    """Tells one sink of every run, from its cursor on, until stopped."""

    def __init__(
        self, name: SinkName, issuer: str, projection: Projection, *, head: Head, directory: Path
    ) -> None:
        """Begin where the cursor in `directory` says, else at the beginning of history."""
        super().__init__(name="outbox", daemon=True)
        self._name, self._projection, self._head = name, projection, head
        self._voice = Voice(issuer=issuer, tenant=name.tenant)
        self._file = file_of(directory, name)
        self._sink = connect(name)
        self._stopping = threading.Event()
        self.next, self.refused = told(directory, name)
        self._remembered = self.next
        self.error: str | None = None

    def run(self) -> None:
        """Thread body: send, wait, and try again later and later."""
        wait = _RETRY_SECONDS_MIN
        while not self._stopping.is_set():
            try:
                is_more = self._send_batch()
            except (GatewayError, OSError, duckdb.Error) as error:
                self.error = error.message if isinstance(error, GatewayError) else str(error)
                self._stopping.wait(wait)
                wait = min(2 * wait, RETRY_SECONDS_MAX)
            except Exception as error:  # noqa: BLE001 - one event must not end the thread unsaid
                self.error = f"an event cannot be told: {type(error).__name__}"
                self._stopping.wait(RETRY_SECONDS_MAX)
            else:
                self.error, wait = None, _RETRY_SECONDS_MIN
                if not is_more:
                    self._stopping.wait(_POLL_SECONDS)
        self._sink.close()

    def stop(self) -> None:
        """End soon; an answer that is waited for is not waited for any more."""
        self._stopping.set()

    def status(self, projected: int) -> dict[str, Any]:
        """How it goes, for `/readyz`."""
        return {
            "sink": self._name.shown,
            "lag_events": max(0, projected - self.next),
            "refused": self.refused,
            "error": self.error,
        }

    def _send_batch(self) -> bool:
        """Send what there is; whether there may be more."""
        projected = self._projection.projected
        if projected <= self.next:
            return False
        node, size, root = self._head()
        if size < projected:  # the reader begins anew
            return False
        log = {"node": node, "size": size, "root": root.hex()}
        with self._projection.reading() as cursor:
            found = happened(cursor, self._voice, self.next, projected)
            events = run_events(cursor, self._voice, found, log)
        try:
            self._emit_all(found, events)
        finally:
            if self.next > self._remembered:
                self._remember()
        if self._stopping.is_set():
            return False
        if len(found) >= BATCH_MIN:
            return True
        self.next = projected
        if projected - self._remembered > _REMEMBER_EVENTS:
            self._remember()
        return False

    def _emit_all(self, found: Sequence[Happened], events: Sequence[bytes]) -> None:
        """One after the other; what one journal event ended is not torn apart by a kill."""
        until = time.monotonic() + _REMEMBER_SECONDS
        for place, (one, event) in enumerate(zip(found, events, strict=True)):
            if self._stopping.is_set():
                return
            self._emit(event)
            if place + 1 == len(found) or found[place + 1].idx > one.idx:
                self.next = one.idx + 1
                if time.monotonic() >= until:
                    self._remember()
                    until = time.monotonic() + _REMEMBER_SECONDS

    def _emit(self, event: bytes) -> None:
        try:
            self._sink.emit(event)
        except InvalidInput as refused:
            self.refused += 1
            self.error = refused.message

    def _remember(self) -> None:
        """Keep durably how far it is."""
        value = {"sink": self._name.shown, "next": self.next, "refused": self.refused}
        replace_private(self._file, json.dumps(value).encode())
        self._remembered = self.next
