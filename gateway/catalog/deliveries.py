"""What was handed over, by Grant and order, read from the state."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

from gateway.catalog.ranges import Ranges
from gateway.catalog.records import Delivery, Run
from gateway.catalog.state import State
from gateway.catalog.streams import order_key
from gateway.domain.lease import OrderSpec

_BEFORE_GRANT = '["'  # how an order key begins


def of_run(state: State, run: Run) -> list[Delivery]:
    """What was handed to a run, or was under way when a worker died, by Grant and order."""
    return [
        replace(_delivery(key, segments), rows_acknowledged=run.acknowledged.get(key, 0))
        for key, segments in sorted(state.delivered.items())
        if json.loads(key)[1] == run.id
    ]


def under(state: State, grants: Collection[str]) -> list[Delivery]:
    """What was handed over under these Grants, and what open streams may hand over now."""
    found = {
        key: _delivery(key, segments)
        for key, segments in state.delivered.items()
        if key[len(_BEFORE_GRANT) : key.index('"', len(_BEFORE_GRANT))] in grants
    }
    for lease in state.leases.values():
        if lease.grant in grants and lease.pending:
            key = order_key(lease)
            known = found.get(key) or _delivery(key, Ranges(of=lease.segments))
            found[key] = replace(known, pending=known.pending | lease.pending)
    return list(found.values())


def _delivery(key: str, segments: Ranges) -> Delivery:
    grant, _, view, seed, epoch, shuffle, lanes, blocks, rank, world = json.loads(key)
    return Delivery(
        grant=grant,
        view=view,
        order=OrderSpec(
            seed=seed, epoch=epoch, shuffle=shuffle, lanes=lanes,
            window_blocks=blocks, rank=rank, world=world,
        ),
        segments=tuple(zip(segments.lows, segments.highs, strict=True)),
        of=segments.of,
    )  # fmt: skip
