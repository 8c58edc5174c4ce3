"""Journey 1: file bytes come in parts, a version comes out, in one event.

(1) `begin`: the caller may register here; a key for this one upload is drawn; (2) every part
is sealed on arrival; (3) `commit` hands the parts to the confined parser and sealer
(shards/ingest.py); (4) the shards' keys are wrapped into the version's KeySheet; (5) shards
and block tables are put under fresh object ids, then the signed Manifest; (6) one event makes
the version exist, if the version number is still the next one; (7) parts and staging go.
A failure or kill before (6) leaves the old state: what lies around belongs to nobody and is
swept (sweep.py). Registrations live in memory: after a restart the upload starts over.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gateway.wire as W
from gateway.crypto.envelope import derive
from gateway.crypto.key_sheet import Dek
from gateway.domain.access import digest_of
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.manifest import Manifest, Shard
from gateway.errors import Conflict, InvalidInput, LimitExceeded, NotFound, SourceRefused
from gateway.services.house import House
from gateway.services.operations import Operation, Report
from gateway.services.request_access import Caller, authorize
from gateway.services.schema import Previous, next_columns
from gateway.services.storage import load_manifest, open_keys, seal_manifest
from gateway.shards import ingest
from gateway.shards.ingest import SealedVersion, SealJob, UploadedFile
from gateway.shards.parts import PartWriter, part_place
from gateway.wire.times import iso

OPEN_MAX_PER_TENANT = 16
FILES_MAX = 4096
SECONDS_OPEN_MAX = 24 * 3600


@dataclass(slots=True, kw_only=True)
class Upload:
    """One open registration."""

    id: str
    caller: Caller
    ref: DatasetRef
    wanted: W.RegistrationRequest
    key: bytes = field(repr=False)
    directory: Path
    opened_at: float
    state: str = "open"
    parts: dict[tuple[int, int], W.PartReceipt] = field(default_factory=dict)


async def begin(house: House, caller: Caller, wanted: W.RegistrationRequest) -> W.Registration:
    """(1) Open an upload for a new dataset or the next version of one."""
    ref = DatasetRef.parse(wanted.dataset)
    if ref.version is not None:
        raise InvalidInput("the version number is the gateway's to give", advice="write `a/b`")
    if not wanted.files or len(wanted.files) > FILES_MAX:
        raise InvalidInput(f"a registration has 1 to {FILES_MAX} files")
    await authorize(house, caller, "register", ref.tenant)
    _expire(house)
    mine = [u for u in house.uploads.values() if u.caller.subject.tenant == caller.subject.tenant]
    if len(mine) >= OPEN_MAX_PER_TENANT:
        raise LimitExceeded(
            f"{OPEN_MAX_PER_TENANT} registrations are open",
            advice="commit or abort one",
            limit="open registrations per tenant",
        )
    upload_id = house.id("reg_")
    directory = house.places.parts / upload_id
    directory.mkdir(mode=0o700)
    upload = Upload(
        id=upload_id,
        caller=caller,
        ref=ref,
        wanted=wanted,
        key=secrets.token_bytes(32),
        directory=directory,
        opened_at=house.now(),
    )
    house.uploads[upload.id] = upload
    return _view(house, upload)


def _view(house: House, upload: Upload) -> W.Registration:
    return W.Registration(
        id=upload.id,
        dataset=str(upload.ref),
        part_bytes_max=house.settings.part_bytes_max,
        parts_received=tuple(upload.parts[key] for key in sorted(upload.parts)),
        state=upload.state,
        expires_at=iso(upload.opened_at + SECONDS_OPEN_MAX),
    )


def _expire(house: House) -> None:
    limit = house.now() - SECONDS_OPEN_MAX
    for upload in [u for u in house.uploads.values() if u.opened_at < limit and u.state == "open"]:
        _forget(house, upload)


def _forget(house: House, upload: Upload) -> None:
    """The key first: what remains of the parts after a crash is noise."""
    upload.key = b""
    house.uploads.pop(upload.id, None)
    shutil.rmtree(upload.directory, ignore_errors=True)


def _upload(house: House, caller: Caller, upload_id: str) -> Upload:
    upload = house.uploads.get(upload_id)
    if upload is None or upload.caller.subject.id != caller.subject.id:
        raise NotFound(
            f"no registration `{upload_id[:80]}`", advice="begin again: uploads end with a restart"
        )
    return upload


def _open_upload(house: House, caller: Caller, upload_id: str) -> Upload:
    upload = _upload(house, caller, upload_id)
    if upload.state != "open":
        raise Conflict(f"the registration is {upload.state}")
    return upload


async def put_part(
    house: House,
    caller: Caller,
    upload_id: str,
    place: tuple[int, int],
    stream: AsyncIterator[bytes],
) -> W.PartReceipt:
    """(2) Seal one part; sent again, it replaces the earlier one.

    Args:
        house: the rooms.
        caller: who began the registration.
        upload_id: of the registration.
        place: file index and part number, both from 0.
        stream: the part's bytes.
    """
    upload = _open_upload(house, caller, upload_id)
    file, number = place
    if not 0 <= file < len(upload.wanted.files):
        raise InvalidInput(f"the registration has no file {file}")
    path = upload.directory / f"{file}.{number}"
    writer = PartWriter(
        path,
        upload.key,
        place=part_place(file, number),
        bytes_max=house.settings.part_bytes_max,
    )
    try:
        async for chunk in stream:
            await asyncio.to_thread(writer.write, chunk)
        facts = await asyncio.to_thread(writer.finish)
    finally:
        writer.abort()
    receipt = W.PartReceipt(file=file, n=number, bytes=facts.bytes, sha256=facts.sha256)
    upload.parts[place] = receipt
    return receipt


async def state(house: House, caller: Caller, upload_id: str) -> W.Registration:
    """Which parts have arrived."""
    return _view(house, _upload(house, caller, upload_id))


async def abort(house: House, caller: Caller, upload_id: str) -> None:
    """Give it up."""
    _forget(house, _open_upload(house, caller, upload_id))


async def commit(house: House, caller: Caller, upload_id: str) -> Operation:
    """(3) to (7) as an Operation.

    Raises:
        InvalidInput: a part is missing.
    """
    upload = _open_upload(house, caller, upload_id)
    _require_whole(upload)
    upload.state = "committing"
    operation = Operation(
        id=house.id("op_"),
        kind="register",
        tenant=caller.subject.tenant,
        started_at=house.now(),
        detail="waiting",
    )

    async def act(report: Report) -> dict[str, Any]:
        staging = house.places.staging / upload.id
        try:
            return await _register(house, upload, staging, report)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            _forget(house, upload)

    return house.operations.start(operation, act)


def _require_whole(upload: Upload) -> None:
    for file, source in enumerate(upload.wanted.files):
        numbers = sorted(n for f, n in upload.parts if f == file)
        have = sum(upload.parts[file, n].bytes for n in numbers)
        if numbers != list(range(len(numbers))) or have != source.bytes:
            raise InvalidInput(
                f"file `{source.name[:80]}` is not complete: {have} of {source.bytes} bytes",
                advice="send the missing parts, then commit again",
            )


async def _register(house: House, upload: Upload, staging: Path, report: Report) -> dict[str, Any]:
    previous = previous_of(house, upload.ref)
    job = _job(house, upload, staging, previous)
    sealed = await asyncio.to_thread(ingest.seal_upload, job, report)
    person = upload.wanted.person_column
    if person is not None and person not in {column.name for column in sealed.columns}:
        raise SourceRefused(f"there is no column `{person[:80]}` of persons")
    changes = next_columns(previous, sealed.columns, allow_change=upload.wanted.allow_schema_change)
    earlier, deks = _earlier(house, upload, sealed)
    manifest = sealed.manifest(str(upload.ref), card=upload.wanted.card, earlier=earlier)
    generation = await asyncio.to_thread(
        house.vault.new_sheet,
        upload.ref.tenant,
        manifest.dataset_id,
        manifest.version,
        {**deks, **sealed.deks},
    )
    put: list[str] = []
    putting = asyncio.create_task(asyncio.to_thread(_put_objects, house, manifest, sealed, put))
    try:
        manifest_key = await asyncio.shield(putting)
        index = _record(house, upload, manifest, (manifest_key, generation))
    except BaseException:
        await asyncio.shield(_take_back(house, putting, put))
        raise
    # From here the version may exist whatever happens to us: nothing is taken back any more.
    await house.journal.durable(index)
    return {
        "dataset": f"{upload.ref}@{manifest.version}",
        "version": manifest.version,
        "rows": manifest.rows,
        "shards": len(manifest.shards),
        "bytes": manifest.sealed_bytes,
        "profile": manifest.profile,
        "formats": list(sealed.formats),
        "added": list(changes.added),
        "removed": list(changes.removed),
        "retyped": list(changes.retyped),
    }


def previous_of(house: House, ref: DatasetRef) -> Previous:
    """The dataset as it stands; empty when there is none yet."""
    with contextlib.suppress(NotFound):
        dataset = house.catalog.dataset(ref.tenant, ref.name)
        newest = dataset.newest
        return Previous(
            dataset_id=dataset.dataset_id,
            version=newest.ref.version or 0,
            columns=newest.columns,
            field_ids={c.name: c.field_id for v in dataset.versions for c in v.columns},
        )
    return Previous()


def _job(house: House, upload: Upload, staging: Path, previous: Previous) -> SealJob:
    wanted = upload.wanted
    staging.mkdir(mode=0o700)
    files = tuple(
        UploadedFile(
            name=source.name,
            parts=tuple(
                str(upload.directory / f"{file}.{n}") for f, n in sorted(upload.parts) if f == file
            ),
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
        profile=None if wanted.profile == "auto" else wanted.profile,
        splits=tuple(wanted.splits.items()),
        split_by=wanted.split_by,
        split_column=wanted.split_column,
        known=dict(previous.field_ids),
        next_field_id=max(previous.field_ids.values(), default=0) + 1,
        required=previous.columns if wanted.append else (),
    )


def _earlier(
    house: House, upload: Upload, sealed: SealedVersion
) -> tuple[tuple[Shard, ...], dict[str, Dek]]:
    """An append refers to the newest version's shards; their keys go into the new sheet too.

    Raises:
        Conflict: the layout differs, so that one Manifest could not describe both.
    """
    if not upload.wanted.append:
        return (), {}
    version = house.catalog.version(upload.ref)
    older = load_manifest(house, version.ref)
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
    return older.shards, {
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
        for key, path in (
            (made.shard.object_key, made.path),
            (made.shard.table_key, made.table_path),
        ):
            house.store.put_new(key, path)
            put.append(key)
    key = f"manifests/{uuid.uuid4().hex}.json"
    house.store.put_bytes_new(key, seal_manifest(house.signers.manifest, manifest))
    put.append(key)
    return key


async def _take_back(house: House, putting: asyncio.Task[str], put: list[str]) -> None:
    await asyncio.wait((putting,))  # a cancelled registration's thread still puts
    for key in put:
        await asyncio.to_thread(house.store.delete, key)


def _record(house: House, upload: Upload, manifest: Manifest, stored: tuple[str, int]) -> int:
    """(6) Compare-and-set on the version number, then the one event; its index."""
    ref, subject = upload.ref, upload.caller.subject
    manifest_key, generation = stored
    if house.catalog.expect_next_version(ref) != manifest.version:
        raise Conflict(f"another registration made version {manifest.version} of `{ref}` first")
    return house.record(
        EventDraft(
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
                "card_digest": digest_of(upload.wanted.card) if upload.wanted.card else None,
            },
            details={"card": dict(upload.wanted.card)} if upload.wanted.card else {},
        )
    )
