"""History expires: a tenant's months that are older than its retention lose their details.

(a) One event per month says so, and from here on no detail of it opens; lineage drops its rows
when it reads the event, also when it is built anew. (b) The catalogue is kept as a signed
`base`, without what it forgot, because what came before cannot be replayed with details again.
(c) The months' keys leave the tenant's keyring, which moves under a new root; the old root is
destroyed, and with it every copy of the old ring.

Frames, leaf hashes and LogCheckpoints stay: every proof holds as before, and what happened in
clear (kinds, counts, times, pseudonyms) stays in the journal. After (a) nothing takes it back:
each later step may be repeated, and the next start finishes what a killed gateway left.

Whose month it is: the owner's of each event. What a recipient did with the owner's data goes
with the owner's month, on both sides of history. Default: nothing expires (`retention_days`).
"""

from __future__ import annotations

import asyncio
import logging

from gateway import failpoints
from gateway.catalog import snapshot
from gateway.config import Settings
from gateway.crypto import rewrap
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.retention import DAYS_MIN, is_over
from gateway.errors import ConfigError, GatewayError
from gateway.services import rotate_keys
from gateway.services.house import House
from gateway.services.rotate_keys import Turn, keys_of

SECONDS_BETWEEN = 3600.0
KIND = "retention"  # of the KeysRotated event
_log = logging.getLogger("gateway.retention")


def check(settings: Settings) -> None:
    """Raise ConfigError when the default is shorter than laws allow; 0 is for ever."""
    if settings.retention_days and settings.retention_days < DAYS_MIN:
        raise ConfigError(
            f"`retention_days` is {settings.retention_days}",
            advice=f"keep history for at least {DAYS_MIN} days; 0 keeps it for ever",
        )


def days_of(house: House, tenant: str) -> int | None:
    """How long the tenant's history keeps its details; None: for ever."""
    own = house.catalog.tenant(tenant).limits.retention_days
    return own or house.settings.retention_days or None


async def due(house: House, tenant: str, days: int | None) -> list[str]:
    """The tenant's months that expire now under a retention of so many days."""
    if days is None:
        return []
    held = await asyncio.to_thread(rewrap.holdings, house.vault, tenant)
    gone, now = house.catalog.state.expired_of(tenant), house.now()
    return [month for month in held.months if month not in gone and is_over(month, days, now)]


async def expire(house: House) -> dict[str, list[str]]:
    """Let expire what is due; the months by tenant."""
    done: dict[str, list[str]] = {}
    for tenant in [known.name for known in house.catalog.tenants()]:
        months = await due(house, tenant, days_of(house, tenant))
        if months:
            await _record(house, tenant, months)
            await _destroy(house, tenant, months)
            done[tenant] = months
    return done


async def resume(house: House) -> None:
    """Finish what a killed gateway left; a KMS that is down leaves it for the next round."""
    for tenant in [known.name for known in house.catalog.tenants()]:
        try:
            await _finish(house, tenant)
        except GatewayError:
            _log.exception("an expired month still has its key", extra={"tenant": tenant})


async def follow(house: House) -> None:
    """Look again and again, until cancelled."""
    while True:
        try:
            await resume(house)
            await expire(house)
        except GatewayError as cause:
            _log.warning("history cannot expire now: %s", cause)
        await asyncio.sleep(SECONDS_BETWEEN)


def close_expired(house: House) -> None:
    """At a start: no detail of an expired month opens, whether its key is there or not."""
    for known in house.catalog.tenants():
        house.vault.expire(known.name, house.catalog.state.expired_of(known.name))


async def _record(house: House, tenant: str, months: list[str]) -> None:
    """(a) Durable before anything is destroyed."""
    for month in months:
        house.record(
            EventDraft(
                kind=EventKind.MonthExpired,
                owner_tenant=tenant,
                facts={"tenant": tenant, "month": month},
            )
        )
    house.vault.expire(tenant, months)
    await house.settled()
    failpoints.reach("expire.recorded")


async def _finish(house: House, tenant: str) -> None:
    months = house.catalog.state.expired_of(tenant)
    if months:
        held = await asyncio.to_thread(rewrap.holdings, house.vault, tenant)
        if set(months) & set(held.months):
            await _destroy(house, tenant, list(months))


async def _destroy(house: House, tenant: str, months: list[str]) -> None:
    """(b) and (c); each step may have been done before."""
    async with keys_of(house, tenant):
        await asyncio.to_thread(_keep_base, house)
        failpoints.reach("expire.base")
        root = await asyncio.to_thread(rewrap.renew_root, house.vault, tenant)
        await asyncio.to_thread(rewrap.drop_months, house.vault, tenant, months)
        failpoints.reach("expire.key-gone")
        await rotate_keys.finish_root(house, Turn(ring=tenant, kind=KIND), {}, root)


def _keep_base(house: House) -> None:
    """(b) The base first: until it stands, the keys that it makes superfluous are there."""
    memory, state = house.journal.remember(house.catalog.state.copy)
    snapshot.save(
        state,
        memory,
        house.settings.state_dir / "snapshots",
        house.vault.secret("catalog-snapshot"),
        house.signers.log,
        (snapshot.BASE_NAME, snapshot.FILE_NAME),
    )
