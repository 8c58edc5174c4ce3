"""What the limits of a tenant still permit: open streams, bytes of the day, stored bytes.

They hold for all its persons and jobs together, whichever token, Grant, rank or lease asks, and
over every restart: streams and bytes are counted by the fold of the journal. Each refusal names
the limit and who can raise it; where time heals it, also when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from gateway.domain.access import Subject
from gateway.domain.dataset import DatasetVersion
from gateway.domain.tenant import DAY_SECONDS
from gateway.errors import LimitExceeded, NotFound
from gateway.services import refusals
from gateway.services.house import House
from gateway.services.storage import load_manifest


def exceeded(
    tenant: str, limit: str, why: str, retry_after_seconds: int | None = None
) -> LimitExceeded:
    """The refusal: which limit, why, and who can raise it."""
    act = f"gateway tenant update {tenant} --{limit.replace('_', '-')} N"
    return LimitExceeded(
        f"tenant `{tenant}` {why}",
        advice=f"an operator of the gateway can raise it: `{act}`",
        limit=limit,
        raised_by="operator",
        retry_after_seconds=retry_after_seconds,
    )


def require_stream(house: House, tenant: str) -> None:
    """Raise LimitExceeded when one more open stream is one too many."""
    most = house.catalog.tenant(tenant).limits.max_streams
    if most is not None and house.catalog.open_streams(tenant, house.now()) >= most:
        raise exceeded(tenant, "max_streams", f"may have {most} streams open at once")


def require_day(house: House, tenant: str, size: int) -> None:
    """Raise LimitExceeded when so many more bytes are too many for this day."""
    most = house.catalog.tenant(tenant).limits.max_bytes
    if most is not None and bytes_today(house, tenant) + size > most:
        left = DAY_SECONDS - int(house.now()) % DAY_SECONDS
        raise exceeded(tenant, "max_bytes", f"may receive {most} bytes a day (UTC)", left)


def bytes_today(house: House, tenant: str) -> int:
    """Bytes delivered to it on this day (UTC)."""
    return house.catalog.bytes_on(tenant, int(house.now()) // DAY_SECONDS)


def turn(house: House, tenant: str) -> AbstractAsyncContextManager[object]:
    """One registration of the tenant after the other, where what it may store is limited."""
    if house.catalog.tenant(tenant).limits.max_stored_bytes is None:
        return nullcontext()
    return house.turns.setdefault(f"stored bytes of {tenant}", asyncio.Lock())


async def require_stored(house: House, subject: Subject, tenant: str, more: int) -> None:
    """Raise LimitExceeded, recorded, when so many more sealed bytes are too many."""
    most = house.catalog.tenant(tenant).limits.max_stored_bytes
    if most is None:
        return
    if await stored_bytes(house, tenant, enough=most - more) + more > most:
        await refusals.record(house, subject, "/v1/registrations", LimitExceeded.code)
        raise exceeded(tenant, "max_stored_bytes", f"may store {most} bytes, sealed")


async def stored_bytes(house: House, tenant: str, *, enough: int = 0) -> int:
    """Bytes of the tenant's sealed shards; at most `enough` may be said too high.

    Versions share shards (`--append`), which only their Manifests tell; those are read only
    when the versions together are more than `enough`.
    """
    own = [dataset for dataset in house.catalog.datasets() if dataset.tenant == tenant]
    versions = [version for dataset in own for version in dataset.versions]
    at_most = sum(version.bytes for version in versions)
    return at_most if at_most <= enough else await house.aside(_exactly, house, versions)


def _exactly(house: House, versions: Sequence[DatasetVersion]) -> int:
    sizes: dict[str, int] = {}
    for version in versions:
        try:
            shards = load_manifest(house, version.ref).shards
        except NotFound:  # erased meanwhile, or lost: all of it, rather than nothing
            sizes[str(version.ref)] = version.bytes
        else:
            sizes |= {shard.id: shard.bytes for shard in shards}
    return sum(sizes.values())
