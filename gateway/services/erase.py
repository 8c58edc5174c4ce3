"""The owner destroys: a dataset, a version, or a column, in this gateway and in its backups.

(a) one durable event ends it for every reader: the PolicyEpoch rises, streams stop, views go,
Grants that need it are revoked; (b) what survives is wrapped under new KEKs and a new root,
recorded, so that older key sheets and rings are refused; (c) the old root is destroyed, and
with it every copy of the old rings; (d) objects that no surviving version refers to are
deleted; (e) a signed certificate says so, and one event names its digest.

After (a) nothing takes it back: every later step may be repeated, and a gateway killed in
between goes on at its next start (`resume`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from gateway import failpoints
from gateway.catalog.records import Erasure
from gateway.crypto import certificate, rewrap
from gateway.crypto.key_sheet import Entry
from gateway.domain.dataset import Dataset, DatasetRef, DatasetVersion
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.manifest import FOOTER, Manifest
from gateway.errors import Conflict, GatewayError, NotFound
from gateway.services import rotate_keys, uploads
from gateway.services.erasure_scope import (
    Scope,
    grants_of,
    leases_of,
    plan_of,
    released_by,
    scope_of,
)
from gateway.services.house import House
from gateway.services.operations import Operation, Report
from gateway.services.request_access import Caller, authorize, unseen
from gateway.services.rotate_keys import Turn, keys_of
from gateway.services.stopping import stop_streams
from gateway.services.storage import load_manifest, read_manifest
from gateway.services.sweep import CERTIFICATES
from gateway.wire import codec
from gateway.wire.datasets import ErasureRequest
from gateway.wire.times import iso

_log = logging.getLogger("gateway.erase")
_going: set[asyncio.Task[Any]] = set()  # past (a): a cancelled Operation does not stop them


async def erase(house: House, caller: Caller, ref: DatasetRef, wanted: ErasureRequest) -> Operation:
    """Erase as an Operation; without `yes` its result is only what would happen.

    What was erased before gives its certificate again, and finishes it if that was cut short.

    Raises:
        NotFound: no such dataset or version, now or before, that the caller may see.
        AccessDenied: the rules let the caller not `erase`.
    """
    await house.settled()
    past = _past(house, caller, ref, wanted.columns)
    if past is not None:
        await authorize(house, caller, "erase", ref.tenant)
        return _start(house, caller, "erase", lambda report: _again(house, past, report))
    await authorize(house, caller, "erase", ref.tenant, ref)
    scope = await asyncio.to_thread(scope_of, house, ref, wanted.columns)
    if not wanted.yes:
        plan = codec.encode(plan_of(house, scope))
        return _start(house, caller, "erase-plan", lambda _: _told(plan))
    return _start(
        house, caller, "erase", lambda report: _erase(house, caller, (ref, wanted), report)
    )


def _start(house: House, caller: Caller, kind: str, act: Any) -> Operation:
    operation = Operation(
        id=house.id("op_"),
        kind=kind,
        tenant=caller.subject.tenant,
        started_at=house.now(),
        detail="waiting",
    )

    async def run(report: Report) -> dict[str, Any]:
        done: dict[str, Any] = await act(report)
        return done

    return house.operations.start(operation, run)


async def _told(plan: dict[str, Any]) -> dict[str, Any]:
    return plan


def _past(
    house: House, caller: Caller, ref: DatasetRef, columns: tuple[str, ...]
) -> Erasure | None:
    """The newest erasure of exactly that, when nothing of it is there any more."""
    if caller.subject.tenant != ref.tenant:
        return None
    try:
        there = house.catalog.version(ref)
        if not columns or set(columns) & {column.name for column in there.columns}:
            return None
    except NotFound:
        pass
    for erasure in reversed(house.catalog.erasures(ref)):
        versions = {version.ref.version for version in erasure.versions}
        is_it = erasure.version == ref.version or ref.version in versions
        if is_it and set(columns) == set(erasure.column_names):
            return erasure
    return None


async def _again(house: House, erasure: Erasure, report: Report) -> dict[str, Any]:
    if erasure.certificate is None:
        return await _surely(house, erasure, None, report)
    return await asyncio.to_thread(_result, house, erasure)


async def _erase(
    house: House, caller: Caller, what: tuple[DatasetRef, ErasureRequest], report: Report
) -> dict[str, Any]:
    ref, wanted = what
    async with house.turns.setdefault(str(ref.unversioned), asyncio.Lock()):
        try:
            scope = await asyncio.to_thread(scope_of, house, ref, wanted.columns)
        except NotFound as cause:
            raise unseen(ref) from cause
        erasure = await _record(house, caller, scope, wanted.reason or "")
        stopped = await _stop(house, scope)
    failpoints.reach("erase.recorded")
    return {**await _surely(house, erasure, caller, report), **stopped}


async def _surely(
    house: House, erasure: Erasure, caller: Caller | None, report: Report
) -> dict[str, Any]:
    """(b) to (e), whatever becomes of the Operation that waits for it."""
    going = asyncio.create_task(_destroy(house, erasure, caller, report))
    _going.add(going)
    going.add_done_callback(_going.discard)
    return await asyncio.shield(going)


async def _record(house: House, caller: Caller, scope: Scope, reason: str) -> Erasure:
    """(a) From here on nobody reads it."""
    tenant = scope.dataset.tenant
    held = await asyncio.to_thread(rewrap.holdings, house.vault, tenant)
    name = house.id("op_")
    await house.recorded(
        EventDraft(
            kind=EventKind.DatasetErased,
            owner_tenant=tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "dataset": str(scope.ref),
                "dataset_id": scope.dataset.dataset_id,
                "erasure": name,
                "version": scope.version,
                "columns": sorted(column.field_id for column in scope.columns),
                "root": held.root,
                "keks": [str(k) for k in held.keks if k.dataset_id == scope.dataset.dataset_id],
                "deks": scope.deks,
                "shards": len(scope.shards),
                "shards_kept": len(scope.shards_kept),
            },
            details={"reason": reason},
            concerns=tuple(sorted({grant.subject_tenant for grant in grants_of(house, scope)})),
        )
    )
    return next(e for e in house.catalog.erasures() if e.id == name)


async def _stop(house: House, scope: Scope) -> dict[str, int]:
    """Streams, views and open uploads of it; the PolicyEpoch keeps them from going on already."""
    stopped = await stop_streams(house, leases_of(house, grants_of(house, scope)), "erased")
    house.views.drop(scope.dataset.dataset_id)
    if scope.is_whole:
        for upload in [u for u in house.uploads.values() if u.ref == scope.ref]:
            if upload.state == "open":
                uploads.forget(house, upload)
    return {"streams_stopped": stopped.streams, "slowest_ms": round(stopped.slowest_ms)}


async def _destroy(
    house: House, erasure: Erasure, caller: Caller | None, report: Report
) -> dict[str, Any]:
    """(b) to (e); each step may have been done before."""
    tenant = erasure.dataset.partition("/")[0]
    async with (
        house.turns.setdefault(erasure.dataset, asyncio.Lock()),
        keys_of(house, tenant),
    ):
        report(0.1, "wrapping what survives")
        effective = await _destroy_keys(house, erasure, Turn(
            ring=tenant, kind="erasure", caller=caller
        ))  # fmt: skip
        report(0.6, "deleting objects")
        await asyncio.to_thread(_delete_objects, house, erasure)
        failpoints.reach("erase.objects")
        report(0.9, "signing the certificate")
        await _certify(house, erasure, effective)
    done = next(e for e in house.catalog.erasures() if e.id == erasure.id)
    return await asyncio.to_thread(_result, house, done)


async def _destroy_keys(house: House, erasure: Erasure, turn: Turn) -> int | None:
    """(b) and (c): when the old root is beyond recall (Unix seconds; None: now)."""
    vault, dataset_id = house.vault, erasure.dataset_id
    rest = _rest(house, erasure)
    held = await asyncio.to_thread(rewrap.holdings, vault, turn.ring)
    sheets: Mapping[int, int] = {}
    if rest is None:
        await asyncio.to_thread(rewrap.remove_sheets, vault, dataset_id, None)
    else:
        mine = [str(kek) for kek in held.keks if kek.dataset_id == dataset_id]
        if set(mine) <= set(erasure.keks):
            await asyncio.to_thread(rewrap.renew_keks, vault, turn.ring, [dataset_id])
        failpoints.reach("erase.keks")
        known = {version.ref.version for version in rest.versions}
        gone = [v for v in rewrap.sheet_versions(vault, dataset_id) if v not in known]
        await asyncio.to_thread(rewrap.remove_sheets, vault, dataset_id, gone)
        sheets = await asyncio.to_thread(
            rewrap.rewrap_sheets, vault, turn.ring, dataset_id, _survives(rest)
        )
    failpoints.reach("erase.sheets")
    root = held.root
    if root <= erasure.root:
        root = await asyncio.to_thread(rewrap.renew_root, vault, turn.ring)
    failpoints.reach("erase.root")
    without = (dataset_id,) if rest is None else ()
    await rotate_keys.finish_root(house, turn, {dataset_id: sheets}, root, without)
    failpoints.reach("erase.destroyed")
    return await asyncio.to_thread(house.kms.destroy_root, turn.ring, erasure.root)


def _rest(house: House, erasure: Erasure) -> Dataset | None:
    """What is left of the dataset; None for nothing (its name may be another dataset's now)."""
    for dataset in house.catalog.datasets():
        if dataset.dataset_id == erasure.dataset_id:
            return dataset
    return None


def _survives(rest: Dataset) -> rewrap.Keep:
    """A DEK stays in the sheet of a version for as long as that version has its column."""
    there = {v.ref.version: {column.field_id for column in v.columns} for v in rest.versions}

    def keep(version: int, entry: Entry) -> bool:
        field_id = entry.leaf.partition(".")[0]
        return entry.leaf == FOOTER or int(field_id) in there.get(version, set())

    return keep


def _delete_objects(house: House, erasure: Erasure) -> None:
    """(d) Shards and tables that nothing refers to, then the Manifest that named them."""
    if erasure.columns:
        return
    rest = _rest(house, erasure)
    kept = {
        shard.id
        for version in (rest.versions if rest else ())
        for shard in load_manifest(house, version.ref).shards
    }
    for version in erasure.versions:
        try:
            manifest = _manifest(house, version)
        except NotFound:
            continue  # it goes last: all that it named is gone
        for shard in manifest.shards:
            if shard.id not in kept:
                house.store.delete(shard.object_key)
                house.store.delete(shard.table_key)
                house.store.delete(shard.persons_key)
                failpoints.reach("erase.object")
        house.store.delete(version.manifest_key)


def _manifest(house: House, version: DatasetVersion) -> Manifest:
    return read_manifest(house.store, house.signers.manifest.public_key, version)


async def _certify(house: House, erasure: Erasure, effective: int | None) -> None:
    """(e) Stored create-only: one that a killed gateway stored stands."""
    key = f"{CERTIFICATES}{erasure.id}.json"
    data = certificate.issue(house.signers.erasure, _facts(house, erasure, effective))
    try:
        await asyncio.to_thread(house.store.put_bytes_new, key, data)
    except Conflict:
        data = await asyncio.to_thread(house.store.read, key)
        certificate.verify(data, house.signers.erasure.public_key)
    failpoints.reach("erase.certificate")
    owner = erasure.dataset.partition("/")[0]
    await house.recorded(
        EventDraft(
            kind=EventKind.ErasureCertified,
            owner_tenant=owner,
            actor_tenant=owner,
            facts={
                "dataset": erasure.dataset,
                "dataset_id": erasure.dataset_id,
                "erasure": erasure.id,
                "certificate": certificate.digest_of(data),
                "certificate_key": key,
            },
        )
    )
    failpoints.reach("erase.certified")


def _facts(house: House, erasure: Erasure, effective: int | None) -> dict[str, Any]:
    tenant = erasure.dataset.partition("/")[0]
    destroyed_at = iso(house.now())
    return {
        "erasure": erasure.id,
        "log": house.signers.log.key_id,
        "dataset": erasure.dataset,
        "dataset_id": erasure.dataset_id,
        "versions": [
            {
                "version": version.ref.version,
                "manifest_digest": version.manifest_digest,
                "rows": version.rows,
                "shards": version.shards,
            }
            for version in erasure.versions
        ],
        "columns": [
            {"field_id": field_id, "name": name} for field_id, name in _columns(erasure).items()
        ],
        "erased_at": iso(erasure.at),
        "destroyed_at": destroyed_at,
        "effective_on": destroyed_at if effective is None else iso(effective),
        "keks": sorted(erasure.keks),
        "roots": {"tenant": tenant, "destroyed_upto": erasure.root},
        "deks": erasure.deks,
        "shards": erasure.shards,
        "shards_kept": erasure.shards_kept,
        "custody": house.kms.custody,
        "released": released_by(house, erasure),
    }


def _columns(erasure: Erasure) -> dict[int, str]:
    found = (c for version in erasure.versions for c in version.columns)
    return {c.field_id: c.name for c in found if c.field_id in erasure.columns}


def _result(house: House, erasure: Erasure) -> dict[str, Any]:
    data = house.store.read(erasure.certificate_key or "")
    if certificate.digest_of(data) != erasure.certificate:
        raise GatewayError("the stored certificate is not the one that the journal recorded")
    facts = certificate.verify(data, house.signers.erasure.public_key)
    facts.pop("format")
    return {
        **facts,
        "certificate": json.loads(data),
        "certificate_digest": erasure.certificate,
        "public_key": house.signers.erasure.public_key.hex(),
    }


async def resume(house: House) -> list[str]:
    """Finish erasures that a killed gateway left; a KMS that is down leaves them again."""
    finished = []
    for erasure in house.catalog.erasures():
        if erasure.certificate is not None:
            continue
        try:
            await _destroy(house, erasure, None, lambda *_: None)
            finished.append(erasure.id)
        except GatewayError:
            _log.exception("an erasure is still unfinished", extra={"erasure": erasure.id})
    return finished
