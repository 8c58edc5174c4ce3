"""The owner renews keys: no byte of data is written, no stream stops, older keys are refused.

KEKs: (1) the ring gets a next generation of each; (2) every sheet is wrapped anew; (3) one
durable event names ring and sheet generations, older ones are refused from here on; (4) the
old KEKs leave the ring.
Root: (1) the KMS makes the next generation; (2) the ring moves under it in one rename;
(3) the event; (4) the old root is destroyed, and with it every backup of the ring.

Every step may be repeated. A gateway killed between two of them opens everything with what is
there, and finishes at its next start: the vault itself shows what is unfinished. Running
leases hold their DEKs already, which do not change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import gateway.wire as W
from gateway import failpoints
from gateway.crypto import rewrap
from gateway.crypto.rewrap import Holdings
from gateway.crypto.vault import SYSTEM_TENANT
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import GatewayError, NotFound
from gateway.services import signing_keys
from gateway.services.house import PLATFORM, House
from gateway.services.operations import Operation, Report
from gateway.services.request_access import Caller, authorize

KINDS = ("root", "kek")
SHEETS_PER_EVENT = 4096  # an event has at most 1 MiB
_log = logging.getLogger("gateway.rotate_keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose keys, why, and by whom (None: the gateway itself, at its start)."""

    ring: str
    kind: str  # root | kek | erasure
    caller: Caller | None = None


async def list_(house: House, caller: Caller) -> list[W.KeyView]:
    """Roots, KEKs, sheets and signing keys by generation and age; never a key."""
    await _authorize(house, caller)
    await house.settled()
    found: list[W.KeyView] = []
    for ring in _rings_of(caller):
        held = await asyncio.to_thread(rewrap.holdings, house.vault, ring)
        found += [
            W.KeyView(
                id="root",
                kind="root",
                name=ring,
                generation=generation,
                state="in use" if generation == held.root else "unfinished rotation",
                detail=house.kms.custody,
            )
            for generation in held.roots
        ]
        found += _kek_views(house, held)
    return [*found, *_sheet_views(house, caller), *signing_keys.views(house)]


def _kek_views(house: House, held: Holdings) -> list[W.KeyView]:
    names = {d.dataset_id: f"{d.tenant}/{d.name}" for d in house.catalog.datasets()}
    newest = {(kek.dataset_id, kek.group): kek.generation for kek in held.keks}
    return [
        W.KeyView(
            id="kek",
            kind="kek",
            name=names.get(kek.dataset_id, kek.dataset_id),
            group=kek.group,
            generation=kek.generation,
            state=(
                "in use"
                if newest[kek.dataset_id, kek.group] == kek.generation
                else "unfinished rotation"
            ),
        )
        for kek in held.keks
    ]


def _sheet_views(house: House, caller: Caller) -> list[W.KeyView]:
    return [
        W.KeyView(
            id="sheet",
            kind="sheet",
            name=str(version.ref),
            generation=version.sheet_generation,
            state="in use",
            since=version.registered_at,
        )
        for dataset in house.catalog.datasets()
        if dataset.tenant == caller.subject.tenant
        for version in dataset.versions
    ]


async def rotate(house: House, caller: Caller, key: str) -> Operation:
    """Renew the root (`root`) or all KEKs (`kek`) of the caller's tenant, as an Operation.

    Operators renew the key that signs tokens (`token`), too.

    Raises:
        NotFound: no key of that name can be rotated here.
    """
    await _authorize(house, caller)
    kinds = KINDS if caller.subject.tenant != PLATFORM else (*KINDS, signing_keys.TOKEN)
    if key not in kinds:
        listed = " or ".join(f"`{kind}`" for kind in kinds)
        raise NotFound(f"no key `{key[:80]}` that can be rotated", advice=listed)
    operation = Operation(
        id=house.id("op_"),
        kind=f"rotate-{key}",
        tenant=caller.subject.tenant,
        started_at=house.now(),
        detail="waiting",
    )

    async def act(report: Report) -> dict[str, Any]:
        done: dict[str, Any] = {}
        if key == signing_keys.TOKEN:
            return await signing_keys.rotate(house, caller)
        for ring in _rings_of(caller):
            turn = Turn(ring=ring, kind=key, caller=caller)
            async with keys_of(house, ring):
                done = await (_rotate_root if key == "root" else _rotate_keks)(house, turn, report)
        return done

    return house.operations.start(operation, act)


async def _rotate_root(house: House, turn: Turn, report: Report) -> dict[str, Any]:
    root = await asyncio.to_thread(rewrap.renew_root, house.vault, turn.ring)
    failpoints.reach("rotate.root")
    report(0.3, f"root generation {root}")
    held = await finish_root(house, turn, {}, root)
    return {"kind": "root", "root": held.root, "keys": len(held.keks) + len(held.months)}


async def finish_root(
    house: House, turn: Turn, sheets: Mapping[str, Mapping[int, int]], root: int,
    without: tuple[str, ...] = (),
) -> Holdings:  # fmt: skip
    """(2) to (4) of a root; with old KEKs and those of the datasets `without` left behind."""
    await asyncio.to_thread(rewrap.move_ring, house.vault, turn.ring, root=root, without=without)
    failpoints.reach("rotate.ring")
    held = await asyncio.to_thread(rewrap.holdings, house.vault, turn.ring)
    await record(house, turn, held, sheets)
    failpoints.reach("rotate.recorded")
    await asyncio.to_thread(rewrap.destroy_older_roots, house.vault, turn.ring)
    failpoints.reach("rotate.root-gone")
    return held


async def _rotate_keks(house: House, turn: Turn, report: Report) -> dict[str, Any]:
    await asyncio.to_thread(rewrap.renew_keks, house.vault, turn.ring)
    failpoints.reach("rotate.keks")
    return await _finish_keks(house, turn, report)


async def _finish_keks(house: House, turn: Turn, report: Report) -> dict[str, Any]:
    held = await asyncio.to_thread(rewrap.holdings, house.vault, turn.ring)
    sheets: dict[str, Mapping[int, int]] = {}
    datasets = sorted({kek.dataset_id for kek in held.keks})
    for n, dataset_id in enumerate(datasets):
        report(0.1 + 0.8 * n / len(datasets), f"key sheets of {n} of {len(datasets)} datasets")
        sheets[dataset_id] = await asyncio.to_thread(
            rewrap.rewrap_sheets, house.vault, turn.ring, dataset_id
        )
    failpoints.reach("rotate.sheets")
    await record(house, turn, held, sheets)
    failpoints.reach("rotate.keks-recorded")
    await asyncio.to_thread(rewrap.move_ring, house.vault, turn.ring)
    failpoints.reach("rotate.keks-gone")
    return {
        "kind": "kek",
        "keks": len({(kek.dataset_id, kek.group) for kek in held.keks}),
        "sheets": sum(len(versions) for versions in sheets.values()),
    }


async def record(
    house: House, turn: Turn, held: Holdings, sheets: Mapping[str, Mapping[int, int]]
) -> None:
    """(3) From this event on, an older ring or sheet is refused."""
    caller = turn.caller
    owner = PLATFORM if turn.ring == SYSTEM_TENANT else turn.ring
    listed = [
        {"dataset_id": dataset_id, "version": version, "generation": generation}
        for dataset_id, versions in sorted(sheets.items())
        for version, generation in sorted(versions.items())
    ]
    for first in range(0, max(len(listed), 1), SHEETS_PER_EVENT):
        index = house.record(
            EventDraft(
                kind=EventKind.KeysRotated,
                owner_tenant=owner,
                actor_tenant=caller.subject.tenant if caller else owner,
                actor=caller.subject.id if caller else None,
                facts={
                    "ring": turn.ring,
                    "kind": turn.kind,
                    "root": held.root,
                    "ring_generation": held.generation,
                    "keys": len(held.keks) + len(held.months),
                    "sheets": listed[first : first + SHEETS_PER_EVENT],
                },
            )
        )
    await house.journal.durable(index)
    house.vault.require(turn.ring, held.generation)


def require_recorded(house: House) -> None:
    """Refuse a vault that is older than what the journal says of it (at start).

    Raises:
        IntegrityError: a keyring was put back from before a rotation or an erasure.
    """
    for known in house.catalog.rings():
        house.vault.require(known.tenant, known.generation)
        house.vault.ring(known.tenant)


async def resume(house: House) -> list[str]:
    """Finish what a killed gateway left; the rings that had something unfinished.

    A KMS that is down leaves it for the next start: everything opens as it is.
    """
    finished = []
    for ring in (SYSTEM_TENANT, *(tenant.name for tenant in house.catalog.tenants())):
        try:
            if await _resume(house, ring):
                finished.append(ring)
        except GatewayError:
            _log.exception("a rotation is still unfinished", extra={"ring": ring})
    return finished


async def _resume(house: House, ring: str) -> bool:
    held = await asyncio.to_thread(rewrap.holdings, house.vault, ring)
    if not held.unfinished:
        return False
    async with keys_of(house, ring):
        if len(held.keks) > len({(kek.dataset_id, kek.group) for kek in held.keks}):
            await _finish_keks(house, Turn(ring=ring, kind="kek"), lambda *_: None)
        if held.roots != (held.root,):
            root = max(*held.roots, held.root)
            await finish_root(house, Turn(ring=ring, kind="root"), {}, root)
    return True


@asynccontextmanager
async def keys_of(house: House, ring: str) -> AsyncIterator[None]:
    """One rotation or erasure of a tenant's keys after the other."""
    async with house.turns.setdefault(f"keys of {ring}", asyncio.Lock()):
        yield


def _rings_of(caller: Caller) -> tuple[str, ...]:
    """An operator's keys are those of the gateway itself too."""
    tenant = caller.subject.tenant
    return (tenant, SYSTEM_TENANT) if tenant == PLATFORM else (tenant,)


async def _authorize(house: House, caller: Caller) -> None:
    """Whoever may change the tenant may renew its keys; operators those of the platform."""
    if caller.subject.tenant == PLATFORM:
        await authorize(house, caller, "operate", PLATFORM)
    else:
        await authorize(house, caller, "update", caller.subject.tenant)
