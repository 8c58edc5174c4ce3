"""Decisions as the journal holds them, newest first: all of them, as far as time allows.

The catalogue keeps the newest; reviews and replays look further back. Reading is done beside
the event loop, one reader at a time, and ends after SECONDS_MAX: who is answered is told how far
back it went.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.catalog.catalog import Catalog
from gateway.catalog.past import KINDS, catalog_of
from gateway.catalog.records import DecisionRecord
from gateway.catalog.streams import decision_of
from gateway.domain.access import AccessRequest, Limits, Subject, digest_of
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import Event, EventDraft, EventKind
from gateway.errors import LimitExceeded, NotFound
from gateway.services.house import House
from gateway.services.request_access import Caller

SECONDS_MAX = 10.0
_EVENTS_AT_ONCE = 20_000
_PATIENCE_SECONDS = 1.0
_DECISIONS = frozenset({EventKind.AccessDecided})
_reading = threading.Lock()  # a reader takes the interpreter from those who stream


@dataclass(slots=True, kw_only=True)
class Reach:
    """How far back a reading went."""

    since: float | None = None  # time of the oldest event that was read; None = all of them

    @property
    def is_complete(self) -> bool:
        """Whether it went to the beginning."""
        return self.since is None


async def ask(
    house: House, caller: Caller, tenant: str, question: str, parameters: Mapping[str, Any]
) -> None:
    """Record the question before it is answered."""
    await house.recorded(
        EventDraft(
            kind=EventKind.QuestionAsked,
            owner_tenant=tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"question": question, "parameters_digest": digest_of(dict(parameters))},
        )
    )


def decisions(house: House, owner: str, reach: Reach) -> Iterator[DecisionRecord]:
    """Decisions about a tenant's data, newest first; `reach` says in the end how far it went.

    Blocks: for a thread of its own.
    """
    stop = house.journal.durable_size
    with _alone():
        deadline = time.monotonic() + SECONDS_MAX
        while stop > 0:
            start = max(0, stop - _EVENTS_AT_ONCE)
            found = list(house.journal.read(start, stop, kinds=_DECISIONS))
            for event in reversed(found):
                if event.owner_tenant == owner:
                    yield decision_of(event)
            stop = start
            if stop and time.monotonic() > deadline:
                reach.since = next(iter(house.journal.read(stop, stop + 1))).time
                return


def catalog_at(house: House, *, index: int | None = None, at: float | None = None) -> Catalog:
    """Datasets and rules as they were after `index` events, or at a time (Unix seconds).

    Blocks: for a thread of its own.

    Raises:
        NotFound: that many events are not recorded.
        LimitExceeded: too much was recorded until then.
    """
    size = house.journal.durable_size
    if index is not None and index > size:
        raise NotFound(f"{size} events are recorded", advice="name an earlier state")
    with _alone():
        return catalog_of(_until(house, size if index is None else index, at))


def _until(house: House, stop: int, at: float | None) -> Iterator[Event]:
    deadline = time.monotonic() + SECONDS_MAX
    for start in range(0, stop, _EVENTS_AT_ONCE):
        if time.monotonic() > deadline:
            raise LimitExceeded(
                "too much happened until then to read it now",
                advice="name an earlier time; `gateway lineage ask` knows who read what",
            )
        end = min(stop, start + _EVENTS_AT_ONCE)
        for event in house.journal.read(start, end, kinds=KINDS):
            if at is not None and event.time > at:
                return
            yield event


@contextmanager
def _alone() -> Iterator[None]:
    if not _reading.acquire(timeout=_PATIENCE_SECONDS):
        raise LimitExceeded(
            "the journal is being read for somebody else", advice="try again in a few seconds"
        )
    try:
        yield
    finally:
        _reading.release()


def ref_of(record: DecisionRecord) -> DatasetRef | None:
    """The version that a Decision was about."""
    if record.dataset is None or record.version is None:
        return None
    known = DatasetRef.parse(record.dataset)
    return DatasetRef(known.tenant, known.name, record.version)


def request_of(record: DecisionRecord) -> AccessRequest | None:
    """The request as it was; None when who asked was erased, or is not recorded in full."""
    details = record.details or {}
    who, ref = details.get("subject"), ref_of(record)
    if record.actor is None or record.actor_tenant is None or who is None or ref is None:
        return None
    columns = details.get("asked_columns")
    return AccessRequest(
        subject=Subject(
            id=record.actor,
            tenant=record.actor_tenant,
            type=who["type"],
            roles=tuple(who["roles"]),
            attributes=who["attributes"],
        ),
        action=record.action,
        dataset=ref,
        tenant=record.owner_tenant,
        purpose=record.purpose,
        columns=None if columns is None else tuple(columns),
        split=record.split,
        limits=Limits(**details.get("asked_limits", {})),
        run=record.run,
        context=details.get("context", {}),
    )
