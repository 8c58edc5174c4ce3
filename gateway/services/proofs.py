"""Proofs of the log: its newest LogCheckpoint, that an event stands in it, that it only grew.

They tell nothing about what was recorded (hashes and sizes), so anybody with a token may have
them: whoever pins a LogCheckpoint finds out when another history is shown to somebody else.
"""

from __future__ import annotations

import gateway.wire as W
from gateway.crypto.notes import verifier_key
from gateway.journal import reader
from gateway.journal.checkpoint import origin_of
from gateway.services.house import House
from gateway.services.request_access import Caller


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


async def consistency(house: House, caller: Caller, first: int, second: int | None) -> W.Proof:
    """That the first `first` events are the beginning of the first `second`."""
    del caller
    whole = house.journal.durable_size if second is None else second
    hashes = house.journal.consistency(first, whole)
    return W.Proof(
        kind="consistency", first=first, second=whole, hashes=tuple(h.hex() for h in hashes)
    )
