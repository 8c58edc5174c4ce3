"""Before a stream from a remote store: its shards are copied here, as an Operation.

Whoever opens the stream is answered `building` meanwhile, as for a view, and asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.manifest import Shard
from gateway.errors import GatewayError
from gateway.services.cached_store import CachedStore, Wanted
from gateway.services.house import House
from gateway.services.operations import Operation, Report


@dataclass(slots=True)
class Fetches:
    """Those under way, and what went wrong with the last ones; by tenant and objects."""

    running: dict[tuple[str, ...], str] = field(default_factory=dict)  # -> operation id
    failed: dict[tuple[str, ...], GatewayError] = field(default_factory=dict)  # told once


async def here(house: House, shards: Sequence[Shard]) -> None:
    """Fetch what is missing of these few shards and wait for it; raises as `CachedStore.fetch`."""
    store = house.store
    if isinstance(store, CachedStore) and not store.is_here(_wanted(shards)):
        await asyncio.to_thread(store.fetch, _wanted(shards), lambda _done, _what: None)


def _wanted(shards: Sequence[Shard]) -> list[Wanted]:
    return [Wanted(shard.object_key, shard.bytes, shard.sha256) for shard in shards]


def under_way(house: House, shards: Sequence[Shard], tenant: str) -> str | None:
    """None when every shard can be mapped, else the Operation that fetches what is missing.

    Raises:
        GatewayError: fetching failed; the next call tries again.
    """
    store = house.store
    wanted = _wanted(shards)
    if not isinstance(store, CachedStore) or store.is_here(wanted):
        return None
    known, key = house.fetches, (tenant, *(one.key for one in wanted))
    if key in known.failed:
        raise known.failed.pop(key)
    if key not in known.running:
        operation = Operation(
            id=house.id("op_"), kind="fetch", tenant=tenant, started_at=house.now()
        )
        known.running[key] = operation.id

        async def act(report: Report) -> dict[str, Any]:
            try:
                await asyncio.to_thread(store.fetch, wanted, report)
            except GatewayError as error:
                known.failed[key] = error
                raise
            except Exception:  # whoever waits must hear of it, or would ask for ever
                known.failed[key] = GatewayError("the shards could not be fetched")
                raise
            finally:
                known.running.pop(key, None)
            return {"shards": len(wanted)}

        house.operations.start(operation, act)
    return known.running[key]
