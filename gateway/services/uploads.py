"""The first half of journey 1: an upload is opened and its parts are sealed as they arrive.

An upload survives a restart with the parts that have arrived (upload_records.py); it ends by
commit, abort or expiry, and its parts go with it. register.py makes the version of it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import gateway.wire as W
from gateway import failpoints
from gateway.crypto.envelope import derive
from gateway.domain.card import check_card
from gateway.domain.dataset import DatasetRef, DatasetVersion
from gateway.domain.ids import new_id
from gateway.errors import Conflict, InvalidInput, LimitExceeded, NotFound, Unavailable
from gateway.services import derivation, tenant_limits, upload_records
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize
from gateway.services.schema import as_appended, previous_of
from gateway.services.upload_records import Upload
from gateway.shards.parts import PartWriter, part_place
from gateway.wire import codec
from gateway.wire.times import iso

OPEN_MAX_PER_TENANT = 16
FILES_MAX = 4096
SECONDS_OPEN_MAX = 24 * 3600


async def begin(
    house: House, caller: Caller, wanted: W.RegistrationRequest, key: str | None = None
) -> W.Registration:
    """(1) Open an upload for a new dataset or the next version of one.

    Under an Idempotency-Key `key` the registration has one id for ever: sent again, also after
    a restart, it finds the open upload, or the version that was made of it.
    """
    ref = DatasetRef.parse(wanted.dataset)
    if ref.version is not None:
        raise InvalidInput("the version number is the gateway's to give", advice="write `a/b`")
    if not wanted.files or len(wanted.files) > FILES_MAX:
        raise InvalidInput(f"a registration has 1 to {FILES_MAX} files")
    wanted = replace(wanted, card=check_card(wanted.card))
    await authorize(house, caller, "register", ref.tenant)
    await tenant_limits.require_stored(house, caller.subject, ref.tenant, more=1)
    origins = await derivation.pinned(house, caller, wanted.derived_from)
    upload_id, request_digest = _identity(house, caller, wanted, key)
    # One after the other, or a slow disk would let through more than the limit, and the same
    # registration twice with two keys.
    async with house.turns.setdefault(f"uploads of {caller.subject.tenant}", asyncio.Lock()):
        known = _known(house, caller, upload_id)
        if known is not None:
            return _again(house, known, request_digest)
        return await _opened(house, caller, (ref, wanted, origins), (upload_id, request_digest))


async def _opened(
    house: House,
    caller: Caller,
    what: tuple[DatasetRef, W.RegistrationRequest, tuple[str, ...]],
    identity: tuple[str, str],
) -> W.Registration:
    ref, wanted, origins = what
    upload_id, request_digest = identity
    if origins:
        card = {**wanted.card, "derived_from": list(origins)}
        wanted = replace(wanted, derived_from=origins, card=card)
    as_appended(previous_of(house, ref), wanted)
    _expire(house)
    mine = [u for u in house.uploads.values() if u.caller.subject.tenant == caller.subject.tenant]
    if len(mine) >= OPEN_MAX_PER_TENANT:
        raise LimitExceeded(
            f"{OPEN_MAX_PER_TENANT} registrations are open",
            advice="commit or abort one",
            limit="open registrations per tenant",
        )
    upload = Upload(
        id=upload_id,
        caller=caller,
        ref=ref,
        wanted=wanted,
        key=secrets.token_bytes(32),
        directory=house.places.parts / upload_id,
        opened_at=house.now(),
        request_digest=request_digest,
    )
    await asyncio.to_thread(_keep, house, upload)
    return _view(house, upload)


def _identity(
    house: House, caller: Caller, wanted: W.RegistrationRequest, key: str | None
) -> tuple[str, str]:
    """The registration's id and a digest of what it asks for; neither tells without our key."""
    secret, subject = house.vault.secret("registrations"), caller.subject
    body = json.dumps(codec.encode(wanted), sort_keys=True)
    digest = derive(secret, "request", body).hex()
    if key is None:
        return house.id("reg_"), digest
    return new_id("reg_", derive(secret, "id", subject.tenant, subject.id, key)[:16]), digest


def _known(house: House, caller: Caller, upload_id: str) -> Upload | DatasetVersion | None:
    """The caller's registration: open, or a version by now."""
    upload = house.uploads.get(upload_id)
    if upload is not None:
        return upload if upload.caller.subject.id == caller.subject.id else None
    version = house.catalog.registered_by(upload_id)
    return version if version and version.registered_by == caller.subject.id else None


def _again(house: House, known: Upload | DatasetVersion, request_digest: str) -> W.Registration:
    if known.request_digest != request_digest:
        raise InvalidInput(
            "this Idempotency-Key was used with another body",
            advice="use a new key for a new request",
        )
    return _view(house, known)


def _keep(house: House, upload: Upload) -> None:
    try:
        upload.directory.mkdir(mode=0o700, exist_ok=True)
        upload_records.keep(house.vault, upload)
    except BaseException as error:
        shutil.rmtree(upload.directory, ignore_errors=True)
        if isinstance(error, OSError):
            raise _full(error) from error
        raise
    house.uploads[upload.id] = upload
    failpoints.reach("register.begun")


def _full(cause: OSError) -> Unavailable:
    return Unavailable(
        f"the part cannot be stored: {cause.strerror}", advice="free disk space, send it again"
    )


def recover(house: House) -> None:
    """After a restart: go on with the registrations that did not become a version."""
    for upload in upload_records.recover(house.vault, house.places.parts):
        if house.catalog.registered_by(upload.id) is not None:
            forget(house, upload)
        else:
            house.uploads[upload.id] = upload
    _expire(house)


def parts_of(upload: Upload, file: int) -> list[int]:
    """Numbers of the file's parts in order.

    A file of unknown size ends with its first empty part; what lies behind is of an earlier,
    longer attempt.

    Raises:
        InvalidInput: a part is missing.
    """
    source = upload.wanted.files[file]
    numbers = sorted(n for f, n in upload.parts if f == file)
    if source.bytes is None:
        ends = [n for n in numbers if not upload.parts[file, n].bytes]
        numbers = [n for n in numbers if ends and n <= ends[0]]
    have = sum(upload.parts[file, n].bytes for n in numbers)
    is_whole = bool(numbers) if source.bytes is None else have == source.bytes
    if numbers != list(range(len(numbers))) or not is_whole:
        of = "" if source.bytes is None else f" of {source.bytes}"
        raise InvalidInput(
            f"file `{source.name[:80]}` is not complete: {have}{of} bytes",
            advice="send the missing parts, then commit again",
        )
    return numbers


def _view(house: House, known: Upload | DatasetVersion) -> W.Registration:
    if isinstance(known, DatasetVersion):
        return W.Registration(
            id=known.registration or "",
            dataset=str(known.ref.unversioned),
            part_bytes_max=house.settings.part_bytes_max,
            parts_received=(),
            state="committed",
            expires_at=known.registered_at,
            version=known.ref.version,
        )
    upload = known
    return W.Registration(
        id=upload.id,
        dataset=str(upload.ref),
        part_bytes_max=house.settings.part_bytes_max,
        parts_received=tuple(upload.parts[key] for key in sorted(upload.parts)),
        state=upload.state,
        expires_at=iso(upload.opened_at + SECONDS_OPEN_MAX),
        request=upload.wanted,
    )


def _expire(house: House) -> None:
    limit = house.now() - SECONDS_OPEN_MAX
    for upload in [u for u in house.uploads.values() if u.opened_at < limit and u.state == "open"]:
        forget(house, upload)


def forget(house: House, upload: Upload) -> None:
    """The key first: what remains of the parts after a crash is noise."""
    upload.key = b""
    house.uploads.pop(upload.id, None)
    shutil.rmtree(upload.directory, ignore_errors=True)


def known_upload(house: House, caller: Caller, upload_id: str) -> Upload | DatasetVersion:
    """The caller's registration, or the version that it has become; NotFound."""
    known = _known(house, caller, upload_id)
    if known is None:
        raise NotFound(
            f"no registration `{upload_id[:80]}`",
            advice="begin again: a registration ends with its abort, or after a day",
        )
    return known


def open_upload(house: House, caller: Caller, upload_id: str) -> Upload:
    """The caller's upload, still open; NotFound or Conflict otherwise."""
    known = known_upload(house, caller, upload_id)
    if isinstance(known, DatasetVersion):
        raise Conflict(f"the registration has become `{known.ref}`")
    if known.state != "open":
        raise Conflict(f"the registration is {known.state}")
    return known


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
    upload = open_upload(house, caller, upload_id)
    file, number = place
    if not 0 <= file < len(upload.wanted.files):
        raise InvalidInput(f"the registration has no file {file}")
    writer = None
    try:
        writer = PartWriter(
            upload.part_path(place),
            upload.key,
            place=part_place(file, number),
            bytes_max=house.settings.part_bytes_max,
        )
        async for chunk in stream:
            await asyncio.to_thread(writer.write, chunk)
        await asyncio.to_thread(upload_records.drop_receipt, upload, place)
        facts = await asyncio.to_thread(writer.finish)
        failpoints.reach("register.part")
    except OSError as cause:
        raise _full(cause) from cause
    finally:
        if writer is not None:
            writer.abort()
    receipt = W.PartReceipt(file=file, n=number, bytes=facts.bytes, sha256=facts.sha256)
    await asyncio.to_thread(upload_records.keep_receipt, upload, receipt)
    return receipt


async def state(house: House, caller: Caller, upload_id: str) -> W.Registration:
    """Which parts have arrived."""
    return _view(house, known_upload(house, caller, upload_id))


async def abort(house: House, caller: Caller, upload_id: str) -> None:
    """Give it up."""
    forget(house, open_upload(house, caller, upload_id))
