"""The index of persons: who may be in which block, for as long as the rows are there."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gateway.crypto.rewrap import holdings
from gateway.domain.dataset import DatasetRef
from gateway.errors import Conflict, IntegrityError, InvalidInput, SourceRefused
from gateway.services import erase, person_index, rotate_keys, sweep
from gateway.services.house import House
from gateway.services.person_index import Rows
from gateway.wire import ErasureRequest
from tests.services.registrations import ended, manifest_of, registered
from tests.services.simulator import add_tenant, caller
from tests.services.vaults import run
from tests.shards.warm import Zygote

OWNER = caller("clinic", "owner", "owner")
PERSONS, VISITS = 60, 10


def visits(start: int = 0, kind: Any = None, rows: int = PERSONS * VISITS) -> Any:
    """Each person has some rows, all over the file; every 50th row is about nobody."""
    ids = [f"patient-{start + n * 7 % PERSONS:04}" for n in range(rows)]
    known = [None if n % 50 == 0 else one for n, one in enumerate(ids)]
    persons = pa.array(known) if kind is None else pa.array(range(rows), kind)
    return pa.table({"patient": persons, "hr": np.arange(rows)})


@pytest.fixture
def clinic(house: House, warm: Zygote) -> House:
    run(add_tenant(house, "clinic", ("owner", "owner")))
    return house


def register(house: House, table: Any, **options: Any) -> None:
    options = {"person_column": "patient", "splits": {"train": 0.8, "test": 0.2}, **options}
    run(registered(house, OWNER, "clinic/icu", table, **options))


def look_up(house: House, person: str, version: int = 1) -> Rows:
    ref = DatasetRef.parse(f"clinic/icu@{version}")
    return person_index.rows_of(
        house, house.catalog.version(ref), manifest_of(house, str(ref)), person
    )


def stored(house: House) -> list[bytes]:
    return [house.store.read(key) for key in house.store.list("shards/")]


def test_a_column_that_holds_no_ids_is_refused_as_one_of_persons(clinic: House) -> None:
    bad = pa.table({"patient": [1.0, 2.0, 2.5], "hr": [1, 2, 3]})
    with pytest.raises(SourceRefused, match="of persons"):
        register(clinic, bad, splits={})
    with pytest.raises(SourceRefused, match="no column `nobody` of persons"):
        register(clinic, bad, person_column="nobody", splits={})
    assert stored(clinic) == []


def test_an_id_that_is_too_long_is_refused_and_never_repeated(clinic: House) -> None:
    with pytest.raises(SourceRefused, match="longer than 256") as caught:
        register(clinic, pa.table({"patient": ["p" * 1025], "hr": [1]}), splits={})
    assert "ppp" not in caught.value.message


def test_an_append_is_indexed_as_what_it_extends_and_rotation_and_erasure_hold(
    clinic: House,
) -> None:
    register(clinic, visits())
    with pytest.raises(Conflict, match="persons of `clinic/icu` are those of the column `patient`"):
        register(clinic, visits(), append=True, person_column="hr")
    register(clinic, visits(start=30), append=True, person_column=None, splits={})
    only_new, in_both = look_up(clinic, "patient-0080", 2), look_up(clinic, "patient-0040", 2)
    old = {shard.id for shard in manifest_of(clinic, "clinic/icu@1").shards}
    assert only_new.blocks
    assert not set(only_new.blocks) & old
    assert set(in_both.blocks) & old
    assert set(in_both.blocks) - old

    for kind in ("kek", "root"):
        run(rotated(clinic, kind))
        assert look_up(clinic, "patient-0040", 2) == in_both

    run(erased(clinic, "clinic/icu@2"))  # its own shards go, the others stay indexed
    kept = {key for key in clinic.store.list("shards/") if key.endswith(".persons")}
    assert kept == {f"shards/{shard}.persons" for shard in old}
    assert look_up(clinic, "patient-0040").blocks
    assert sweep.find(sweep.Stock.of(clinic)).objects == ()

    run(erased(clinic, "clinic/icu", "patient"))  # the column goes, and with it the index's key
    gone = look_up(clinic, "patient-0040")
    assert (gone.field_id, gone.unknown) == (None, frozenset(old))


async def rotated(house: House, kind: str) -> None:
    await ended(await rotate_keys.rotate(house, OWNER, kind))
    assert not holdings(house.vault, "clinic").unfinished


async def erased(house: House, ref: str, *columns: str) -> None:
    wanted = ErasureRequest(columns=columns, yes=True)
    await ended(await erase.erase(house, OWNER, DatasetRef.parse(ref), wanted))


def test_no_id_and_no_hash_without_a_key_is_stored(clinic: House) -> None:
    register(clinic, visits())
    known = look_up(clinic, "patient-0007")
    assert known.blocks
    hashes = [hashlib.new(name, b"patient-0007").digest() for name in ("sha256", "sha1", "md5")]
    whole = b"".join(stored(clinic))
    for secret in (b"patient-0007", known.tag.to_bytes(8, "little"), *hashes):
        assert secret not in whole
        assert secret[:8] not in whole
    assert not look_up(clinic, "patient-9999").blocks


def test_whole_numbers_are_asked_for_as_numbers_and_nothing_else(clinic: House) -> None:
    register(clinic, visits(kind=pa.int32()), splits={})
    (shard,) = manifest_of(clinic, "clinic/icu@1").shards
    assert look_up(clinic, "+0599").blocks == {shard.id: (599 // shard.block_rows,)}
    with pytest.raises(InvalidInput, match="whole numbers"):
        look_up(clinic, "patient-0001")


def test_an_index_that_is_gone_or_changed_is_no_answer(clinic: House) -> None:
    register(clinic, visits(), splits={})
    (key,) = [key for key in clinic.store.list("shards/") if key.endswith(".persons")]
    data = clinic.store.read(key)
    clinic.store.delete(key)
    with pytest.raises(IntegrityError, match="missing"):
        look_up(clinic, "patient-0001")
    clinic.store.put_bytes_new(key, data[:-1] + bytes((data[-1] ^ 1,)))
    with pytest.raises(IntegrityError):
        look_up(clinic, "patient-0001")
