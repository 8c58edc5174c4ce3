"""Rotation and erasure in the vault: repeated, cut short at any step, never a key too many."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import rewrap
from gateway.crypto.key_sheet import Dek
from gateway.crypto.vault import SYSTEM_TENANT, KeyVault
from gateway.errors import IntegrityError, KeyUnavailable, NotFound
from tests.crypto.test_kills import killed_at_each_step

D1, D2 = "0" * 32, "1" * 32


def dek(n: int, dataset: str = D1, version: int = 1) -> Dek:
    shard = f"{n:032x}"
    return Dek(
        id=f"{dataset}/{shard}/{n}",
        key=bytes([n]) * 32,
        shard=shard,
        leaf=str(n),
        origin_version=version,
    )


def sheet_of(*deks: Dek) -> dict[str, Dek]:
    return {d.id: d for d in deks}


def opened(directory: Path, roots: Path) -> KeyVault:
    return KeyVault(directory, LocalFileKms(roots))


@pytest.fixture
def vault(tmp_path: Path) -> KeyVault:
    made = opened(tmp_path / "vault", tmp_path / "roots")
    for tenant in (SYSTEM_TENANT, "clinic"):
        made.add_tenant(tenant)
    made.new_sheet("clinic", D1, 1, sheet_of(dek(1), dek(2)))
    made.new_sheet("clinic", D1, 2, sheet_of(dek(1), dek(3, version=2)))
    made.new_sheet("clinic", D2, 1, sheet_of(dek(4, D2)))
    made.detail_key("clinic", "2026-11")
    return made


def rotate_root(vault: KeyVault) -> None:
    root = rewrap.renew_root(vault, "clinic")
    rewrap.move_ring(vault, "clinic", root=root)
    rewrap.destroy_older_roots(vault, "clinic")


def rotate_keks(vault: KeyVault) -> None:
    rewrap.renew_keks(vault, "clinic")
    for dataset in (D1, D2):
        rewrap.rewrap_sheets(vault, "clinic", dataset)
    rewrap.move_ring(vault, "clinic")


def erase(vault: KeyVault) -> None:
    """Version 1 of the first dataset, and with it the DEK 2 that no other version has."""
    rewrap.renew_keks(vault, "clinic", [D1])
    rewrap.remove_sheets(vault, D1, [1])
    rewrap.rewrap_sheets(vault, "clinic", D1)
    rotate_root(vault)


def all_keys(vault: KeyVault) -> dict[str, bytes]:
    found = dict(vault.open_deks("clinic", D1, 2, 1, [dek(1).id, dek(3).id]))
    return {**found, **vault.open_deks("clinic", D2, 1, 1, [dek(4, D2).id])}


def test_rotated_roots_and_keks_leave_every_key_as_it_was(vault: KeyVault, tmp_path: Path) -> None:
    before, month = all_keys(vault), vault.detail_key("clinic", "2026-11")
    for rotate in (rotate_root, rotate_keks, rotate_root, rotate_keks):
        rotate(vault)
        again = opened(tmp_path / "vault", tmp_path / "roots")
        assert all_keys(again) == before
        assert again.known_detail_key("clinic", "2026-11") == month
        assert not rewrap.holdings(again, "clinic").unfinished
    state = rewrap.holdings(vault, "clinic")
    assert state.roots == (3,)
    assert {kek.generation for kek in state.keks} == {3}


def test_after_a_root_rotation_the_old_ring_opens_nothing(vault: KeyVault, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "vault", tmp_path / "backup")
    rotate_root(vault)
    with pytest.raises(KeyUnavailable):
        all_keys(opened(tmp_path / "backup", tmp_path / "roots"))


def test_a_sheet_from_before_a_kek_rotation_opens_nothing(vault: KeyVault, tmp_path: Path) -> None:
    sheet = tmp_path / "vault" / "sheets" / D1 / "1.json"
    old = sheet.read_bytes()
    rotate_keks(vault)
    sheet.write_bytes(old)
    again = opened(tmp_path / "vault", tmp_path / "roots")
    with pytest.raises(IntegrityError, match="missing"):
        again.open_deks("clinic", D1, 1, 2, [dek(1).id])


def test_what_is_erased_is_gone_from_the_vault_and_from_its_backups(
    vault: KeyVault, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "vault", tmp_path / "backup")
    erase(vault)
    with pytest.raises(NotFound):
        vault.open_deks("clinic", D1, 1, 1, [dek(2).id])
    for use in (lambda v: v.open_deks("clinic", D1, 1, 1, [dek(2).id]), all_keys):
        with pytest.raises(KeyUnavailable):
            use(opened(tmp_path / "backup", tmp_path / "roots"))
    assert all_keys(vault) == {
        dek(1).id: dek(1).key,
        dek(3).id: dek(3).key,
        dek(4, D2).id: dek(4).key,
    }


def test_an_erased_leaf_is_in_no_sheet_and_the_others_stay(vault: KeyVault) -> None:
    rewrap.renew_keks(vault, "clinic", [D1])
    generations = rewrap.rewrap_sheets(vault, "clinic", D1, lambda _, entry: entry.leaf != "1")
    assert generations == {1: 2, 2: 2}
    assert vault.dek_ids("clinic", D1, 1) == (dek(2).id,)
    with pytest.raises(IntegrityError, match="lacks"):
        vault.open_deks("clinic", D1, 2, 2, [dek(1).id])
    again = rewrap.rewrap_sheets(vault, "clinic", D1, lambda _, entry: entry.leaf != "1")
    assert again == generations


@pytest.mark.parametrize("act", [rotate_root, rotate_keks, erase])
def test_killed_at_any_step_the_same_steps_again_finish_it(
    act: Callable[[KeyVault], None], vault: KeyVault, tmp_path: Path
) -> None:
    before = all_keys(vault)

    def copy(n: int) -> Path:
        for name in ("vault", "roots"):
            shutil.copytree(tmp_path / name, tmp_path / str(n) / name)
        return tmp_path / str(n)

    def attempt(n: int) -> None:
        act(opened(tmp_path / str(n) / "vault", tmp_path / str(n) / "roots"))

    copy(0)
    for n, _ in enumerate(killed_at_each_step(attempt)):
        again = opened(tmp_path / str(n) / "vault", tmp_path / str(n) / "roots")
        assert all_keys(again) == before
        act(again)
        assert all_keys(again) == before
        assert not rewrap.holdings(again, "clinic").unfinished
        copy(n + 1)
