"""What a killed registration left is removed at the next start, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.errors import Unavailable
from gateway.services import sweep
from gateway.services.house import House
from tests.services.conftest import open_house


def put(house: House, key: str) -> None:
    house.store.put_bytes_new(key, b"sealed")


def test_nothing_is_looked_for_when_no_registration_was_interrupted(
    house: House, settings: Settings
) -> None:
    put(house, "shards/nobodys.parquet")
    house.journal.close()
    again = open_house(settings)
    assert list(again.store.list()) == ["shards/nobodys.parquet"]
    again.journal.close()


def test_a_start_removes_the_objects_of_an_interrupted_registration(
    house: House, settings: Settings
) -> None:
    put(house, "shards/nobodys.parquet")
    put(house, "manifests/nobodys.json")
    interrupted: Path = house.places.staging / "reg_interrupted"
    interrupted.mkdir()
    house.journal.close()
    again = open_house(settings)
    assert list(again.store.list()) == []
    assert not interrupted.exists()
    again.journal.close()


def test_no_object_goes_while_a_manifest_cannot_be_read(house: House) -> None:
    from tests.services.simulator import add_version

    add_version(house, "home", "damaged", ["a"])  # its manifest is not in the store
    put(house, "shards/perhaps-of-the-damaged.parquet")
    assert sweep.remove_leftovers(house, thorough=True).count == 0
    assert list(house.store.list()) == ["shards/perhaps-of-the-damaged.parquet"]


def test_a_store_that_does_not_answer_keeps_the_start_going_and_its_leftovers(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(house, "shards/nobodys.parquet")
    interrupted: Path = house.places.staging / "reg_interrupted"
    interrupted.mkdir()
    house.journal.close()

    def silent(*_: object) -> None:
        raise Unavailable("the object store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr("connectors.stores.local.LocalStore.list", silent)
        open_house(settings).journal.close()
    assert interrupted.exists()
    again = open_house(settings)
    assert list(again.store.list()) == []
    assert not interrupted.exists()
    again.journal.close()
