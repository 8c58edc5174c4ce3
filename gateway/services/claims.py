"""OpenLineage in: what a tenant's own tools say about its lineage, recorded as claims.

A claim is durable before it is answered, stands on the side of its tenant alone, and no decision
rests on it. The same event twice is recorded once. What the gateway saw itself is never changed,
replaced or hidden by a claim.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import gateway.wire as W
from gateway.domain.claim import FACTS_BYTES_MAX, SEALED_CHARS_MAX
from gateway.domain.events import EventDraft, EventKind, canonical
from gateway.errors import LimitExceeded, TooLarge
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize
from gateway.wire import codec, openlineage
from gateway.wire.openlineage import Claimed, Thing

EVENTS_PER_MINUTE = 6000  # of a tenant
BYTES_PER_MINUTE = 64 << 20  # of a tenant
_ASIDE_BYTES = 64 << 10  # larger events are read in a thread
_MINUTE = 60


@dataclass(slots=True)
class Pace:
    """How much each tenant claimed in this minute; kept in memory, forgotten by a restart."""

    minute: int = 0
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)  # tenant -> events, bytes

    def take(self, tenant: str, size: int, now: float) -> None:
        """Count one event; LimitExceeded when it is one too many."""
        if int(now) // _MINUTE != self.minute:
            self.minute, self.taken = int(now) // _MINUTE, {}
        events, total = self.taken.get(tenant, (0, 0))
        if events >= EVENTS_PER_MINUTE or total + size > BYTES_PER_MINUTE:
            wait = _MINUTE - int(now) % _MINUTE
            raise LimitExceeded(
                f"more than {EVENTS_PER_MINUTE} events or {BYTES_PER_MINUTE} bytes in a minute",
                advice=f"try again in {wait} seconds",
                limit="claims",
                retry_after_seconds=wait,
            )
        self.taken[tenant] = (events + 1, total + size)


async def take(house: House, caller: Caller, raw: bytes) -> W.ClaimReceipt:
    """Record what one OpenLineage event says.

    Args:
        house: the rooms.
        caller: somebody of the tenant whose claim it will be, with a role there (`describe`).
        raw: the event as it came.

    Raises:
        InvalidInput: it is no OpenLineage event.
        TooLarge: it names too much, or more than the journal keeps of one event.
        LimitExceeded: the tenant sends too many.
    """
    tenant = caller.subject.tenant
    await authorize(house, caller, "describe", tenant)
    house.pace.take(tenant, len(raw), house.now())
    tag, authority = house.journal.tags.job, urlsplit(house.issuer).netloc

    def draft() -> EventDraft:
        value = codec.loads(raw)
        return _draft(caller, openlineage.read(value, authority), (value, raw), tag)

    made = draft() if len(raw) <= _ASIDE_BYTES else await asyncio.to_thread(draft)
    known = house.catalog.claim(tenant, made.facts["claim"])
    index = house.record(made) if known is None else known
    await house.journal.durable(index)
    return W.ClaimReceipt(index=index, again=known is not None)


def _draft(
    caller: Caller, said: Claimed, given: tuple[Any, bytes], tag: Callable[[str, str], str]
) -> EventDraft:
    value, raw = given
    tenant = caller.subject.tenant
    jobs: dict[str, list[str]] = {}

    def thing(of: Thing) -> dict[str, Any]:
        name = of.name
        if of.kind == "job":
            name = tag(tenant, canonical([of.namespace, of.name]).decode())
            jobs[name] = [of.namespace or "", of.name]
        elif of.kind == "run":
            name = f"{tenant}:{name}"
        namespace = of.namespace if of.kind == "dataset" else None
        return {"kind": of.kind, "namespace": namespace, "name": name, "version": of.version}

    facts = {
        "claim": hashlib.sha256(canonical(value)).hexdigest(),
        "type": said.type,
        "state": said.state,
        "claimed_at": said.at_us,
        "about": said.about,
        "things": [thing(of) for of in said.things],
        "edges": [{"source": source, "target": target} for source, target in said.edges],
        "columns": [
            {
                "source": edge.source,
                "source_column": edge.source_column,
                "target": edge.target,
                "target_column": edge.target_column,
                "type": edge.type,
                "subtype": edge.subtype,
                "masking": edge.masking,
            }
            for edge in said.columns
        ],
    }
    details = {"event": base64.b64encode(zlib.compress(raw)).decode(), "jobs": jobs}
    if len(canonical(facts)) > FACTS_BYTES_MAX or len(canonical(details)) > SEALED_CHARS_MAX:
        raise TooLarge(
            "the event is larger than the journal keeps of one", advice="send smaller events"
        )
    return EventDraft(
        kind=EventKind.LineageClaimed,
        owner_tenant=tenant,
        actor_tenant=tenant,
        actor=caller.subject.id,
        facts=facts,
        details=details,
    )
