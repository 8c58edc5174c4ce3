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
    """What was handed over under these Grants, and what may have been, in whole or in part."""
    found = {
        key: _delivery(key, segments)
        for key, segments in state.delivered.items()
        if _grant(key) in grants
    }
    open_ones = (lease for lease in state.leases.values() if lease.grant in grants)
    perhaps = [(order_key(lease), lease.segments, lease.pending) for lease in open_ones]
    perhaps += [(key, r.of, _all(r)) for key, r in state.unsettled.items() if _grant(key) in grants]
    for key, of, pending in perhaps:
        if pending:
            known = found.get(key) or _delivery(key, Ranges(of=of))
            found[key] = replace(known, pending=known.pending | pending)
    return list(found.values())


def _grant(key: str) -> str:
    """The Grant of an order key, without reading all of it."""
    return key[len(_BEFORE_GRANT) : key.index('"', len(_BEFORE_GRANT))]


def _all(ranges: Ranges) -> set[int]:
    pairs = zip(ranges.lows, ranges.highs, strict=True)
    return {number for low, high in pairs for number in range(low, high + 1)}


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
