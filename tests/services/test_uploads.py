"""An upload survives a restart of the gateway; what is not its own does not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest

import gateway.wire as W
from gateway.config import Settings
from gateway.errors import InvalidInput, LimitExceeded, NotFound
from gateway.services import register, upload_records, uploads
from gateway.services.house import House
from tests.services.conftest import open_house
from tests.services.registrations import ended, rows_of, uploaded
from tests.services.simulator import add_tenant, caller
from tests.shards.kit import ipc_bytes

OWNER = caller("clinic", "owner", "owner")
TABLE = pa.table({"a": list(range(1000))})


async def send(house: House, upload: str, place: tuple[int, int], data: bytes) -> None:
    async def body() -> AsyncIterator[bytes]:
        if data:
            yield data

    await uploads.put_part(house, OWNER, upload, place, body())


async def begun(house: House, bytes_: int | None) -> str:
    await add_tenant(house, "clinic", ("owner", "owner"))
    file = W.SourceFile(name="t.arrow", bytes=bytes_)
    wanted = W.RegistrationRequest(dataset="clinic/icu", files=(file,))
    return (await uploads.begin(house, OWNER, wanted)).id


async def commit(house: House, upload: str) -> dict[str, object]:
    return await ended(await register.commit(house, OWNER, upload))


def restarted(house: House, settings: Settings) -> House:
    house.journal.close()
    return open_house(settings)


def test_a_file_of_unknown_size_is_complete_at_its_empty_part(house: House) -> None:
    data = ipc_bytes(TABLE)

    async def journey() -> dict[str, object]:
        upload = await begun(house, None)
        await send(house, upload, (0, 0), data[:100])
        with pytest.raises(InvalidInput, match="not complete: 0 bytes"):
            await register.commit(house, OWNER, upload)
        await send(house, upload, (0, 2), b"")
        with pytest.raises(InvalidInput, match="not complete"):
            await register.commit(house, OWNER, upload)
        await send(house, upload, (0, 3), b"of an earlier and longer attempt")
        await send(house, upload, (0, 1), data[100:])
        return await commit(house, upload)

    assert asyncio.run(journey())["rows"] == 1000
    assert rows_of(house, "clinic/icu@1").to_pydict() == TABLE.to_pydict()


@pytest.mark.parametrize("name", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x"])
def test_the_name_of_a_file_is_a_word_and_never_opened(house: House, name: str) -> None:
    data = ipc_bytes(TABLE)

    async def journey() -> dict[str, object]:
        await add_tenant(house, "clinic", ("owner", "owner"))
        files = (W.SourceFile(name=name, bytes=len(data)),)
        wanted = W.RegistrationRequest(dataset="clinic/icu", files=files)
        upload = (await uploads.begin(house, OWNER, wanted)).id
        with pytest.raises(InvalidInput, match="not complete"):
            await register.commit(house, OWNER, upload)  # nothing but what is sent counts
        await send(house, upload, (0, 0), data)
        return await commit(house, upload)

    assert asyncio.run(journey())["rows"] == 1000


def test_parts_that_arrived_before_a_restart_are_not_sent_again(
    house: House, settings: Settings
) -> None:
    data = ipc_bytes(TABLE)
    upload = asyncio.run(begun(house, len(data)))
    asyncio.run(send(house, upload, (0, 0), data[:100]))
    lost = house.places.parts / upload / "0.1"
    lost.write_bytes(b"a part whose receipt was not written")
    again = restarted(house, settings)
    known = asyncio.run(uploads.state(again, OWNER, upload))
    (part,) = known.parts_received
    assert known.request is not None
    assert known.request.dataset == "clinic/icu"
    assert (part.n, part.bytes) == (0, 100)
    with pytest.raises(NotFound):
        asyncio.run(uploads.state(again, caller("clinic", "other", "owner"), upload))

    async def finish() -> dict[str, object]:
        await send(again, upload, (0, 1), data[100:])
        return await commit(again, upload)

    assert asyncio.run(finish())["rows"] == 1000
    assert rows_of(again, "clinic/icu@1").to_pydict() == TABLE.to_pydict()
    assert not list(again.places.parts.iterdir())
    again.journal.close()


def test_a_version_that_was_recorded_is_not_made_twice(house: House, settings: Settings) -> None:
    async def recorded() -> str:
        await add_tenant(house, "clinic", ("owner", "owner"))
        view = await uploaded(house, OWNER, "clinic/icu", TABLE)
        await commit(house, view.id)
        return view.id

    upload = asyncio.run(recorded())
    directory = house.places.parts / upload
    directory.mkdir()  # as if the control process had died before its parts were removed
    wanted = W.RegistrationRequest(dataset="clinic/icu", files=(W.SourceFile(name="t", bytes=1),))
    left = upload_records.Upload(
        id=upload, caller=OWNER, ref=house.catalog.datasets()[0].newest.ref, wanted=wanted,
        key=bytes(32), directory=directory, opened_at=house.now(),
    )  # fmt: skip
    upload_records.keep(house.vault, left)
    again = restarted(house, settings)
    assert not again.uploads
    assert not directory.exists()
    again.journal.close()


def test_what_is_not_a_registration_of_this_gateway_is_swept(
    house: House, settings: Settings
) -> None:
    upload = asyncio.run(begun(house, 10))
    asyncio.run(send(house, upload, (0, 0), b"0123456789"))
    directory = house.places.parts / upload
    moved = directory.rename(house.places.parts / "reg_another")
    broken: Path = house.places.parts / "reg_broken"
    broken.mkdir()
    (broken / "registration").write_bytes(b"x" * 100)
    (broken / "registration").chmod(0o600)
    again = restarted(house, settings)
    assert not again.uploads
    assert not moved.exists()
    assert not broken.exists()
    again.journal.close()


def test_a_registration_older_than_a_day_ends(house: House, settings: Settings) -> None:
    upload = asyncio.run(begun(house, 10))
    old = dataclasses.replace(house.uploads[upload], opened_at=house.now() - 25 * 3600)
    upload_records.keep(house.vault, old)
    again = restarted(house, settings)
    assert not again.uploads
    assert not old.directory.exists()
    again.journal.close()


def test_no_value_of_an_open_upload_lies_in_clear(house: House) -> None:
    upload = asyncio.run(begun(house, 10))
    asyncio.run(send(house, upload, (0, 0), b"0123456789"))
    stored = b"".join(path.read_bytes() for path in (house.places.parts / upload).iterdir())
    key = house.uploads[upload].key
    for secret in (b"0123456789", b"sha256", key, key.hex().encode(), b"clinic"):
        assert secret not in stored


def opened_at_once(house: House, *keys: str | None) -> list[W.Registration | BaseException]:
    async def journey() -> list[W.Registration | BaseException]:
        await add_tenant(house, "clinic", ("owner", "owner"))
        wanted = W.RegistrationRequest(
            dataset="clinic/icu", files=(W.SourceFile(name="t.arrow", bytes=10),)
        )
        asked = (uploads.begin(house, OWNER, wanted, key) for key in keys)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(journey())


def test_no_more_uploads_are_open_than_may_be_also_when_begun_at_once(house: House) -> None:
    answers = opened_at_once(house, *[None] * 24)
    refusals = [answer for answer in answers if not isinstance(answer, W.Registration)]
    assert [type(refusal) for refusal in refusals] == [LimitExceeded] * 8
    assert len(house.uploads) == uploads.OPEN_MAX_PER_TENANT
    assert len(list(house.places.parts.iterdir())) == uploads.OPEN_MAX_PER_TENANT


def test_one_registration_begun_twice_at_once_is_one_upload(
    house: House, settings: Settings
) -> None:
    answers = opened_at_once(house, "the-key", "the-key")
    assert answers[0] == answers[1]
    (upload,) = house.uploads.values()
    asyncio.run(send(house, upload.id, (0, 0), b"0123456789"))
    again = restarted(house, settings)
    assert again.uploads[upload.id].key == upload.key  # what the parts are sealed with
    again.journal.close()
