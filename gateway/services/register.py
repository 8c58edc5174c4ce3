"""Journey 1: file bytes come in parts, a version comes out, in one event.

(1) the caller may register here; a key for this one upload is drawn; (2) every part is sealed
on arrival (uploads.py); (3) `commit` hands the parts to the confined parser and sealer
(shards/ingest.py); (4) the shards' keys are wrapped into the version's KeySheet; (5) shards
and block tables are put under fresh object ids, then the signed Manifest; (6) one event makes
the version exist, if the version number is still the next one; (7) parts and staging go.
A failure or kill before (6) leaves the old state: what lies around belongs to nobody and is
swept (sweep.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway import failpoints
from gateway.crypto.envelope import derive
from gateway.crypto.key_sheet import Dek
from gateway.crypto.rewrap import remove_sheets
from gateway.domain.access import digest_of
from gateway.domain.dataset import DatasetRef, DatasetVersion, Dealing
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.manifest import Manifest, Shard
from gateway.domain.proposals import Hint, proposal_for
from gateway.errors import (
    Conflict,
    GatewayError,
    Unavailable,
)
from gateway.services import derivation, person_index, tenant_limits, uploads
from gateway.services.house import House
from gateway.services.operations import Operation, Report
from gateway.services.request_access import Caller
from gateway.services.schema import Previous, as_appended, dealing_of, next_columns, previous_of
from gateway.services.storage import load_manifest, open_keys, seal_manifest
from gateway.services.upload_records import Upload
from gateway.shards import ingest
from gateway.shards.ingest import SealedVersion, SealJob, UploadedFile

_log = logging.getLogger("gateway.register")


async def commit(house: House, caller: Caller, upload_id: str) -> Operation:
    """(3) to (7) as an Operation; the one under way, or done already, when asked again.

    Raises:
        InvalidInput: a part is missing.
    """
    known = uploads.known_upload(house, caller, upload_id)
    if isinstance(known, DatasetVersion):
        return house.operations.done(_operation(house, caller), _result(known))
    if known.operation is not None:
        return house.operations.get(known.operation, caller.subject.tenant)
    upload = uploads.open_upload(house, caller, upload_id)
    for file in range(len(upload.wanted.files)):
        uploads.parts_of(upload, file)
    operation = _operation(house, caller)
    upload.state, upload.operation = "committing", operation.id

    async def act(report: Report) -> dict[str, Any]:
        staging, asked = house.places.staging / upload.id, upload.wanted
        is_over = True
        try:
            return await _register(house, upload, staging, report)
        except Unavailable:  # nothing is wrong with what was sent: commit it again later
            is_over = False
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            failpoints.reach("register.staging-gone")
            upload.state, upload.operation, upload.wanted = "open", None, asked
            if is_over:
                uploads.forget(house, upload)
            failpoints.reach("register.parts-gone")

    return house.operations.start(operation, act)


def _operation(house: House, caller: Caller) -> Operation:
    return Operation(
        id=house.id("op_"),
        kind="register",
        tenant=caller.subject.tenant,
        started_at=house.now(),
        detail="waiting",
    )


def _result(version: DatasetVersion) -> dict[str, Any]:
    """What is known of a registration that was over before this process began."""
    return {
        "dataset": str(version.ref),
        "version": version.ref.version,
        "rows": version.rows,
        "shards": version.shards,
        "bytes": version.bytes,
        "profile": version.profile,
    }


async def _register(house: House, upload: Upload, staging: Path, report: Report) -> dict[str, Any]:
    previous = previous_of(house, upload.ref)
    upload.wanted = as_appended(previous, upload.wanted)
    upload.wanted = await house.aside(person_index.as_appended, house, upload.ref, upload.wanted)
    job = _job(house, upload, staging, previous)
    sealed = await asyncio.to_thread(ingest.seal_upload, job, report)
    failpoints.reach("register.sealed")
    changes = next_columns(previous, sealed.columns, allow_change=upload.wanted.allow_schema_change)
    earlier, deks = await house.aside(_earlier, house, upload, sealed)
    manifest = sealed.manifest(
        str(upload.ref),
        card=upload.wanted.card,
        earlier=earlier,
        splits=tuple(upload.wanted.splits),
    )
    new = sum(s.bytes for s in manifest.shards if s.origin_version == manifest.version)
    turn = house.turns.setdefault(str(upload.ref), asyncio.Lock())
    async with turn, tenant_limits.turn(house, upload.ref.tenant):
        await tenant_limits.require_stored(house, upload.caller.subject, upload.ref.tenant, new)
        _require_unerased(house, upload.ref, previous)
        await _publish(house, upload, manifest, sealed, {**deks, **sealed.deks})
    return {
        "dataset": f"{upload.ref}@{manifest.version}",
        "version": manifest.version,
        "rows": manifest.rows,
        "shards": len(manifest.shards),
        "bytes": manifest.sealed_bytes,
        "profile": manifest.profile,
        "formats": list(sealed.formats),
        "proposals": _proposals(sealed),
        "added": list(changes.added),
        "removed": list(changes.removed),
        "retyped": list(changes.retyped),
    }


async def _publish(
    house: House,
    upload: Upload,
    manifest: Manifest,
    sealed: SealedVersion,
    deks: Mapping[str, Dek],
) -> None:
    """(4) to (6), one registration of a dataset after the other.

    Two that race for one version number must not both write its KeySheet: the second would
    take the keys of the first away. So whoever comes second finds the number taken before it
    has written anything.
    """
    _require_next(house, upload.ref, manifest)
    generation = await asyncio.to_thread(
        house.vault.new_sheet, upload.ref.tenant, manifest.dataset_id, manifest.version, deks
    )
    failpoints.reach("register.sheet")
    put: list[str] = []
    putting = asyncio.create_task(asyncio.to_thread(_put_objects, house, manifest, sealed, put))
    try:
        manifest_key = await asyncio.shield(putting)
        stored = (manifest_key, generation)
        index = _record(house, upload, manifest, stored, hints=sealed.hints)
        failpoints.reach("register.recorded")
    except BaseException:
        await asyncio.shield(_take_back(house, upload, manifest, putting, put))
        raise
    # From here the version may exist whatever happens to us: nothing is taken back any more.
    await house.journal.durable(index)
    failpoints.reach("register.durable")


def _job(house: House, upload: Upload, staging: Path, previous: Previous) -> SealJob:
    wanted = upload.wanted
    _make_staging(staging)
    files = tuple(
        UploadedFile(
            name=source.name,
            parts=tuple(str(upload.part_path((file, n))) for n in uploads.parts_of(upload, file)),
            partition=dict(source.partition),
        )
        for file, source in enumerate(wanted.files)
    )
    dataset_id = previous.dataset_id or uuid.uuid4().hex
    return SealJob(
        dataset_id=dataset_id,
        version=previous.version + 1,
        files=files,
        parts_key=upload.key,
        staging=str(staging),
        split_key=derive(house.vault.secret("split"), "split", dataset_id),
        person_key=person_index.key_of(house, dataset_id),
        person_column=wanted.person_column,
        profile=None if wanted.profile == "auto" else wanted.profile,
        splits=tuple(wanted.splits.items()),
        split_by=wanted.split_by,
        split_column=wanted.split_column,
        known=previous.columns,
        next_field_id=previous.next_field_id,
        required=previous.columns if wanted.append else (),
    )


def _make_staging(staging: Path) -> None:
    try:
        failpoints.reach("disk.staging")
        staging.mkdir(mode=0o700)
    except OSError as cause:
        raise Unavailable(
            f"there is no place for sealed shards: {cause.strerror}",
            advice="free disk space, register again",
        ) from cause
    failpoints.reach("register.staging")


def _earlier(
    house: House, upload: Upload, sealed: SealedVersion
) -> tuple[tuple[Shard, ...], dict[str, Dek]]:
    """An append refers to the newest version's shards; their keys go into the new sheet too.

    Raises:
        Conflict: the layout differs, or one of its columns was erased, so that one Manifest
            could not describe both.
    """
    if not upload.wanted.append:
        return (), {}
    version = house.catalog.version(upload.ref)
    older = load_manifest(house, version.ref)
    if len(version.columns) < len(older.columns):
        raise Conflict(
            f"a column of `{version.ref}` was erased, so its shards cannot be taken over",
            advice="register a whole new version; later ones can be appended to that",
        )
    if (older.columns, older.direct, older.schema) != (
        sealed.columns,
        sealed.direct,
        sealed.schema,
    ):
        raise Conflict(
            "appended rows need the same columns and layout as the newest version",
            advice="register a whole new version instead",
        )
    leaves = [(shard, leaf) for shard in older.shards for leaf in shard.leaves]
    keys = open_keys(house, version, [leaf for _, leaf in leaves])
    return older.shards, person_index.deks_of(house, version) | {
        leaf.dek: Dek(
            id=leaf.dek,
            key=keys[leaf.dek],
            shard=shard.id,
            leaf=leaf.name,
            origin_version=shard.origin_version,
        )
        for shard, leaf in leaves
    }


def _put_objects(house: House, manifest: Manifest, sealed: SealedVersion, put: list[str]) -> str:
    """(5) Returns the Manifest's object key; `put` names what stands, for taking it back."""
    for made in sealed.shards:
        for key, path in made.paths.items():
            house.store.put_new(key, path)
            put.append(key)
            failpoints.reach("register.object")
    failpoints.reach("register.objects")
    key = f"manifests/{uuid.uuid4().hex}.json"
    house.store.put_bytes_new(key, seal_manifest(house.signers.manifest, manifest))
    put.append(key)
    failpoints.reach("register.manifest")
    return key


async def _take_back(
    house: House, upload: Upload, manifest: Manifest, putting: asyncio.Task[str], put: list[str]
) -> None:
    """Remove what was put, sheet and all; what cannot be, the next start finds and removes."""
    await asyncio.wait((putting,))  # a cancelled registration's thread still puts
    try:
        for key in put:
            await asyncio.to_thread(house.store.delete, key)
            failpoints.reach("register.take-back")
        await asyncio.to_thread(remove_sheets, house.vault, manifest.dataset_id, [manifest.version])
    except GatewayError:
        _log.exception("a refused registration's objects cannot be removed now")
        with contextlib.suppress(OSError):  # a name in staging is what a start goes by
            (house.places.staging / f"{upload.id}.left").mkdir(mode=0o700, exist_ok=True)


def _require_unerased(house: House, ref: DatasetRef, previous: Previous) -> None:
    """Refuse what was prepared beside keys and shards that an erasure has taken since."""
    if len(house.catalog.erasures(ref)) != previous.erasures:
        raise Conflict(
            f"something of `{ref}` was erased while yours was sealed",
            advice="register it again: what was erased is no longer referred to",
        )


def _require_next(house: House, ref: DatasetRef, manifest: Manifest) -> None:
    taken = house.catalog.expect_next_version(ref) != manifest.version
    known = house.catalog.datasets()
    is_other = any(
        (d.tenant, d.name) == (ref.tenant, ref.name) and d.dataset_id != manifest.dataset_id
        for d in known
    )
    if taken or is_other:
        raise Conflict(
            f"another registration made version {manifest.version} of `{ref}` first",
            advice="look at that version, then register yours again as the next one",
        )


def _record(
    house: House,
    upload: Upload,
    manifest: Manifest,
    stored: tuple[str, int],
    *,
    hints: tuple[Hint, ...],
) -> int:
    """(6) Compare-and-set on the version number, then the one event; its index."""
    ref, subject = upload.ref, upload.caller.subject
    manifest_key, generation = stored
    _require_next(house, ref, manifest)
    origins, concerns = derivation.facts(house, upload.wanted.derived_from)
    return house.record(
        EventDraft(
            concerns=concerns,
            kind=EventKind.VersionRegistered,
            owner_tenant=ref.tenant,
            actor_tenant=subject.tenant,
            actor=subject.id,
            facts={
                "dataset": str(ref),
                "dataset_id": manifest.dataset_id,
                "version": manifest.version,
                "profile": manifest.profile,
                "columns": [
                    {"field_id": c.field_id, "name": c.name, "type": c.type, "nullable": c.nullable}
                    for c in manifest.columns
                ],
                "splits": [{"name": s.name, "rows": s.rows} for s in manifest.splits],
                "rows": manifest.rows,
                "bytes": manifest.sealed_bytes,
                "shards": len(manifest.shards),
                "manifest_digest": manifest.digest,
                "manifest_key": manifest_key,
                "sheet_generation": generation,
                "registration": upload.id,
                "request_digest": upload.request_digest,
                "card_digest": digest_of(upload.wanted.card) if upload.wanted.card else None,
                "dealing": _dealing_fact(dealing_of(upload.wanted)),
                **origins,
            },
            details=_details(upload, hints),
        )
    )


def _details(upload: Upload, hints: tuple[Hint, ...]) -> dict[str, Any]:
    """What is sealed: free text, and what tells about values (threats 8)."""
    details: dict[str, Any] = {}
    if upload.wanted.card:
        details["card"] = dict(upload.wanted.card)
    if hints:
        details["hints"] = [hint.to_list() for hint in hints]
    return details


def _proposals(sealed: SealedVersion) -> list[dict[str, Any]]:
    """For whoever registers: column, tag, reason and coarse share; never a value."""
    hints = {hint.field_id: hint for hint in sealed.hints}
    found = ((c.name, proposal_for(c.name, c.field_id, hints)) for c in sealed.columns)
    return [{"column": name, **asdict(proposed)} for name, proposed in found if proposed]


def _dealing_fact(dealing: Dealing) -> dict[str, Any]:
    return {
        "column": dealing.column,
        "names_split": dealing.names_split,
        "shares": [{"name": name, "share": share} for name, share in dealing.shares],
    }
