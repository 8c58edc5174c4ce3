"""Proofs of the log: its newest LogCheckpoint, that an event stands in it, that it only grew.

They tell nothing about what was recorded (hashes and sizes), so anybody with a token may have
them, but for the length of a tenant's chain, which is for its auditors. Whoever pins a
LogCheckpoint finds out when another history is shown to somebody else.
"""

from __future__ import annotations

import asyncio

import gateway.wire as W
from gateway.crypto.notes import verifier_key
from gateway.domain.access import Resource
from gateway.domain.dataset import parse_name
from gateway.errors import NotFound
from gateway.journal import reader
from gateway.journal.checkpoint import origin_of
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, may


async def checkpoint(house: House, caller: Caller, since: int | None) -> W.CheckpointView:
    """The newest signed LogCheckpoint; anybody with a token may pin it."""
    del caller
    return await newest(house, since)


async def newest(house: House, since: int | None) -> W.CheckpointView:
    """The newest LogCheckpoint, with the proof that it continues the first `since` events.

    A `since` beyond the log is no error here: whoever pinned it sees that the log is shorter.
    """
    await house.settled()
    cosigned = house.witnesses.newest  # first: it is never larger than what follows
    note = house.journal.checkpoint()
    size, root = reader.parse_checkpoint(note)
    await house.journal.durable(size - 1)
    is_known = since is not None and 0 < since <= size
    path = house.journal.consistency(since, size) if since is not None and is_known else ()
    return W.CheckpointView(
        note=note,
        size=size,
        root=root.hex(),
        witnessed=house.witnesses.told,
        cosigned=cosigned.note if cosigned else None,
        log_key=verifier_key(origin_of(house.node), house.signers.log.public_key),
        since=since if is_known else None,
        consistency=tuple(h.hex() for h in path),
    )


async def inclusion(house: House, caller: Caller, index: int, size: int | None) -> W.Proof:
    """That event `index` is among the first `size` (default: all durable) events."""
    del caller
    whole = house.journal.durable_size if size is None else size
    hashes = house.journal.inclusion(index, whole)
    return W.Proof(
        kind="inclusion",
        first=index,
        second=whole,
        hashes=tuple(h.hex() for h in hashes),
        leaf=house.journal.leaf(index).hex(),
    )


async def chain(
    house: House, caller: Caller, tenant: str | None, since: int | None
) -> W.ChainProof:
    """How many events concern a tenant: what its newest is, as the log itself fixes it.

    Raises:
        NotFound: no tenant that the caller may audit, or nothing is recorded about it.
    """
    whose = caller.subject.tenant if tenant is None else parse_name(tenant, what="tenant")
    if whose != caller.subject.tenant and not may(house, caller, "audit", Resource(tenant=whose)):
        raise NotFound(f"no tenant `{whose}` that you may audit")
    await authorize(house, caller, "audit", whose)
    head = house.journal.head(whose)
    await house.journal.durable(head.index)
    first = await _first(house, whose, head.index)
    view = await newest(house, since)
    return W.ChainProof(
        tenant=whose,
        tag=house.journal.tags.chain(whose),
        events=head.seq + 1,
        leaf=head.leaf,
        place=head.place,
        chains=head.chains,
        path=tuple(h.hex() for h in head.path),
        index=head.index,
        heads=house.journal.event_bytes(head.index).decode("utf-8"),
        hashes=tuple(h.hex() for h in house.journal.inclusion(head.index, view.size)),
        first=house.journal.event_bytes(first).decode("utf-8"),
        first_hashes=tuple(h.hex() for h in house.journal.inclusion(first, view.size)),
        checkpoint=view,
    )


async def _first(house: House, tenant: str, stop: int) -> int:
    """Index of a tenant's first event: looked for on disk once, and then known."""
    if tenant not in house.firsts:
        async with house.turns.setdefault("first-event", asyncio.Lock()):
            if tenant not in house.firsts:
                chain = house.journal.chain(tenant, stop)
                house.firsts[tenant], _ = await asyncio.to_thread(next, chain)
    return house.firsts[tenant]


async def consistency(house: House, caller: Caller, first: int, second: int | None) -> W.Proof:
    """That the first `first` events are the beginning of the first `second`."""
    del caller
    whole = house.journal.durable_size if second is None else second
    hashes = house.journal.consistency(first, whole)
    return W.Proof(
        kind="consistency", first=first, second=whole, hashes=tuple(h.hex() for h in hashes)
    )
