"""The vault refuses every key that is older, elsewhere, edited or destroyed."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import key_sheet, rewrap
from gateway.crypto import vault as vault_module
from gateway.crypto.keyring import Keyring
from gateway.crypto.vault import SYSTEM_TENANT, Dek, KeyVault
from gateway.errors import ConfigError, IntegrityError, InvalidInput, KeyUnavailable, NotFound

D1, D2 = "0" * 32, "1" * 32


def dek(n: int, dataset: str = D1, version: int = 1, group: str = "data") -> Dek:
    shard = f"{n:032x}"
    return Dek(
        id=f"{dataset}/{shard}/{n}",
        key=bytes([n]) * 32,
        shard=shard,
        leaf=str(n),
        origin_version=version,
        group=group,
    )


def sheet_of(*deks: Dek) -> dict[str, Dek]:
    return {d.id: d for d in deks}


@pytest.fixture
def kms(tmp_path: Path) -> LocalFileKms:
    return LocalFileKms(tmp_path / "roots")


@pytest.fixture
def vault(tmp_path: Path, kms: LocalFileKms) -> KeyVault:
    made = KeyVault(tmp_path / "vault", kms)
    for tenant in (SYSTEM_TENANT, "clinic", "startup"):
        made.add_tenant(tenant)
    return made


def reopened(tmp_path: Path) -> KeyVault:
    return KeyVault(tmp_path / "vault", LocalFileKms(tmp_path / "roots"))


def ring_of(tmp_path: Path, tenant: str = "clinic") -> Path:
    return tmp_path / "vault" / "rings" / f"{tenant}.json"


def path_of(tmp_path: Path, version: int = 1, dataset: str = D1) -> Path:
    return tmp_path / "vault" / "sheets" / dataset / f"{version}.json"


def test_a_version_without_a_sheet_has_no_keys(vault: KeyVault) -> None:
    with pytest.raises(NotFound):
        vault.open_deks("clinic", D1, 1, 1, [])
    with pytest.raises(NotFound):
        vault.dek_ids("clinic", D1, 1)


def test_an_older_sheet_put_back_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1), dek(2)))
    old = path_of(tmp_path).read_bytes()
    assert vault.new_sheet("clinic", D1, 1, sheet_of(dek(1))) == 2
    path_of(tmp_path).write_bytes(old)
    with pytest.raises(IntegrityError, match="generation 1"):
        reopened(tmp_path).open_deks("clinic", D1, 1, 2, [dek(1).id])


def test_an_older_sheet_that_claims_to_be_newer_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    fields = json.loads(path_of(tmp_path).read_text())
    fields["generation"] = 2
    path_of(tmp_path).write_text(json.dumps(fields))
    with pytest.raises(IntegrityError, match="edited"):
        reopened(tmp_path).open_deks("clinic", D1, 1, 2, [dek(1).id])


def test_the_sheet_of_another_version_or_dataset_is_refused(
    vault: KeyVault, tmp_path: Path
) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    vault.new_sheet("clinic", D1, 2, sheet_of(dek(1)))
    vault.new_sheet("clinic", D2, 1, sheet_of(dek(1, D2)))
    shutil.copy(path_of(tmp_path, 1), path_of(tmp_path, 2))
    shutil.copy(path_of(tmp_path, 1), path_of(tmp_path, 1, D2))
    for dataset, version in ((D1, 2), (D2, 1)):
        with pytest.raises(IntegrityError, match="another version"):
            reopened(tmp_path).open_deks("clinic", dataset, version, 1, [])


def test_the_keys_of_one_tenant_do_not_open_for_another(vault: KeyVault) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    with pytest.raises(IntegrityError):
        vault.open_deks("startup", D1, 1, 1, [dek(1).id])


def test_entries_cannot_be_swapped_removed_or_added(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1), dek(2)))
    good = json.loads(path_of(tmp_path).read_text())
    first, second = good["entries"]
    swapped = {first: good["entries"][second], second: good["entries"][first]}
    for entries in (swapped, {first: good["entries"][first]}, {**good["entries"], "x": {}}):
        path_of(tmp_path).write_text(json.dumps({**good, "entries": entries}))
        with pytest.raises(IntegrityError):
            reopened(tmp_path).open_deks("clinic", D1, 1, 1, [first])


def test_every_flipped_byte_of_a_sheet_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    good = path_of(tmp_path).read_bytes()
    for at in range(len(good)):
        path_of(tmp_path).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises((IntegrityError, InvalidInput)):
            reopened(tmp_path).open_deks("clinic", D1, 1, 1, [dek(1).id])


def test_a_missing_id_opens_nothing(vault: KeyVault) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    with pytest.raises(IntegrityError, match="lacks"):
        vault.open_deks("clinic", D1, 1, 1, [dek(1).id, dek(2).id])


def test_a_ring_moved_edited_or_lost_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    path = ring_of(tmp_path)
    kept = path.read_bytes()
    record = json.loads(kept)
    foreign = ring_of(tmp_path, "startup").read_bytes()
    for forged in (
        foreign,
        json.dumps({**json.loads(foreign), "tenant": "clinic"}).encode(),
        json.dumps({**record, "generation": record["generation"] + 1}).encode(),
        json.dumps({**record, "root": 7}).encode(),
        json.dumps({**record, "sealed": json.loads(foreign)["sealed"]}).encode(),
        json.dumps({**record, "more": 1}).encode(),
        json.dumps({**record, "format": "key-vault-v2"}).encode(),
    ):
        path.write_bytes(forged)
        with pytest.raises((IntegrityError, KeyUnavailable)):
            vault.open_deks("clinic", D1, 1, 1, [dek(1).id])
    path.unlink()
    with pytest.raises(IntegrityError, match="missing") as refusal:
        vault.open_deks("clinic", D1, 1, 1, [dek(1).id])
    assert "newest copy" in refusal.value.advice
    path.write_bytes(kept)
    path.chmod(0o600)
    assert vault.open_deks("clinic", D1, 1, 1, [dek(1).id])


def test_every_flipped_byte_of_a_ring_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    good = ring_of(tmp_path).read_bytes()
    for at in range(len(good)):
        ring_of(tmp_path).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises((IntegrityError, KeyUnavailable, InvalidInput)):
            vault.ring("clinic")


def test_an_older_ring_put_back_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    old = ring_of(tmp_path).read_bytes()
    rewrap.renew_keks(vault, "clinic")
    ring_of(tmp_path).write_bytes(old)
    with pytest.raises(IntegrityError, match="was there already"):
        vault.ring("clinic")
    restarted = reopened(tmp_path)
    restarted.require("clinic", 3)  # what the journal recorded
    with pytest.raises(IntegrityError, match="was there already"):
        restarted.ring("clinic")


def test_nothing_that_is_missing_is_made_anew_in_silence(vault: KeyVault, tmp_path: Path) -> None:
    vault.detail_key("clinic", "2026-11")
    for tenant, use in (
        (SYSTEM_TENANT, lambda v: v.secret("order")),
        ("clinic", lambda v: v.detail_key("clinic", "2026-11")),
        ("clinic", lambda v: v.new_sheet("clinic", D1, 1, sheet_of(dek(1)))),
    ):
        ring_of(tmp_path, tenant).unlink(missing_ok=True)
        with pytest.raises(IntegrityError, match="missing"):
            use(reopened(tmp_path))
        assert not ring_of(tmp_path, tenant).exists()
    with pytest.raises(NotFound):
        vault.known_detail_key("startup", "2026-11")


def test_after_the_root_is_destroyed_nothing_opens(
    vault: KeyVault, kms: LocalFileKms, tmp_path: Path
) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    kms.destroy_root("clinic", 1)
    for opened in (vault, reopened(tmp_path)):
        with pytest.raises(KeyUnavailable):
            opened.open_deks("clinic", D1, 1, 1, [dek(1).id])


def test_when_the_kms_is_away_no_new_key_can_be_had(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    (tmp_path / "roots").rename(tmp_path / "away")
    with pytest.raises(KeyUnavailable):
        vault.open_deks("clinic", D1, 1, 1, [dek(1).id])


def test_wrapped_key_files_that_others_can_read_are_refused(
    vault: KeyVault, tmp_path: Path
) -> None:
    ring_of(tmp_path, SYSTEM_TENANT).chmod(0o644)
    with pytest.raises(ConfigError):
        reopened(tmp_path).secret("order")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x\n", "."])
def test_names_that_could_leave_the_vault_are_refused(vault: KeyVault, name: str) -> None:
    for use in (
        lambda: vault.secret(name),
        lambda: vault.new_sheet("clinic", D1, 1, sheet_of(dek(1, group=name))),
        lambda: vault.new_sheet("clinic", name, 1, {}),
        lambda: vault.new_sheet(name, D1, 1, {}),
        lambda: vault.add_tenant(name),
        lambda: vault.detail_key(name, "2026-11"),
        lambda: vault.detail_key("clinic", name),
    ):
        with pytest.raises(InvalidInput):
            use()


def test_a_dek_that_could_not_be_bound_is_refused() -> None:
    good = {"id": "a", "key": b"k" * 32, "shard": "s", "leaf": "1", "origin_version": 1}
    for bad in ({"key": b"k"}, {"id": ""}, {"leaf": "a b"}, {"origin_version": 0}):
        with pytest.raises(InvalidInput):
            Dek(**{**good, **bad})  # type: ignore[arg-type]


def test_no_key_shows_in_the_files_or_in_words(vault: KeyVault, tmp_path: Path) -> None:
    secret = vault.secret("order")
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(7)))
    for path in (tmp_path / "vault").rglob("*.json"):
        assert path.stat().st_mode & 0o777 == 0o600
        for key in (secret, dek(7).key):
            assert key not in path.read_bytes()
    assert "key" not in repr(dek(7)).replace("dek", "")


def test_what_was_sealed_opens_after_a_restart(vault: KeyVault, tmp_path: Path) -> None:
    deks = sheet_of(dek(1), dek(2, version=1), dek(3, version=2, group="pii"))
    assert vault.new_sheet("clinic", D1, 2, deks) == 1
    opened = reopened(tmp_path).open_deks("clinic", D1, 2, 1, deks)
    assert opened == {d.id: d.key for d in deks.values()}
    assert vault.dek_ids("clinic", D1, 2) == tuple(sorted(deks))


def test_an_append_carries_old_keys_with_their_origin(vault: KeyVault, tmp_path: Path) -> None:
    first = sheet_of(dek(1), dek(2, group="pii"))
    vault.new_sheet("clinic", D1, 1, first)
    carried = vault.deks("clinic", D1, 1, 1, first)
    assert carried == first
    vault.new_sheet("clinic", D1, 2, {**carried, dek(3).id: dek(3, version=2)})
    opened = reopened(tmp_path).open_deks("clinic", D1, 2, 1, [dek(1).id, dek(3).id])
    assert opened == {dek(1).id: dek(1).key, dek(3).id: dek(3).key}


def test_many_threads_get_the_same_secret(vault: KeyVault) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(vault.secret, ["order"] * 32))) == 1
        generations = pool.map(
            lambda _: vault.new_sheet("clinic", D1, 1, sheet_of(dek(1))), range(8)
        )
        assert sorted(generations) == list(range(1, 9))


def test_when_the_root_directory_is_away_nothing_new_is_made(
    vault: KeyVault, tmp_path: Path
) -> None:
    (tmp_path / "roots").rename(tmp_path / "away")
    with pytest.raises(KeyUnavailable):
        vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    assert not path_of(tmp_path).exists()


def test_a_newer_sheet_than_the_journal_knows_opens(vault: KeyVault) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    assert vault.open_deks("clinic", D1, 1, 1, [dek(1).id]) == {dek(1).id: dek(1).key}


def test_a_new_kek_generation_serves_new_sheets_only(vault: KeyVault, tmp_path: Path) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    assert rewrap.renew_keks(vault, "clinic") == 2  # `data` and `sheet`
    vault.new_sheet("clinic", D1, 2, sheet_of(dek(1)))
    keks = [
        {e["kek"] for e in json.loads(path_of(tmp_path, v).read_text())["entries"].values()}
        for v in (1, 2)
    ]
    assert keks == [{f"{D1}/data/1"}, {f"{D1}/data/2"}]
    assert vault.open_deks("clinic", D1, 1, 1, [dek(1).id])


def test_secrets_and_detail_keys_stay_the_same_and_differ(vault: KeyVault, tmp_path: Path) -> None:
    made = [
        vault.secret("order"),
        vault.secret("tags"),
        vault.detail_key("clinic", "2026-11"),
        vault.detail_key("clinic", "2026-12"),
        vault.detail_key("startup", "2026-11"),
    ]
    assert len(set(made)) == 5
    again = reopened(tmp_path)
    assert again.secret("order") == made[0]
    assert again.detail_key("clinic", "2026-11") == made[2]


def test_an_impossible_kek_or_entry_is_refused_even_when_signed(
    vault: KeyVault, tmp_path: Path
) -> None:
    vault.new_sheet("clinic", D1, 1, sheet_of(dek(1)))
    path = path_of(tmp_path)
    good = json.loads(path.read_text())
    mac_key = vault.ring("clinic").kek(good["mac_key"])
    entry = good["entries"][dek(1).id]
    for change in (
        {"kek": "x"},
        {"kek": f"{D1}/data/x"},
        {"kek": f"{D1}/../x/1"},
        {"kek": f"{D1}/data/0007"},
        {"kek": 1},
        {"origin_version": True},
        {"wrapped": "*"},
        {"wrapped": ""},
        {"more": 1},
    ):
        body = {**good, "entries": {dek(1).id: {**entry, **change}}}
        del body["mac"]
        path.write_text(json.dumps({**body, "mac": key_sheet._mac(mac_key, body)}))
        with pytest.raises(IntegrityError):
            reopened(tmp_path).open_deks("clinic", D1, 1, 1, [dek(1).id])
    for change in ({"mac_key": 1}, {"mac_key": f"{D1}/data/1"}, {"mac": 1}, {"mac": "\u00e4"}):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(IntegrityError):
            reopened(tmp_path).open_deks("clinic", D1, 1, 1, [dek(1).id])


def test_a_dek_listed_under_another_id_is_not_wrapped(vault: KeyVault) -> None:
    with pytest.raises(InvalidInput):
        vault.new_sheet("clinic", D1, 1, {"other": dek(1)})
    for version in (0, -1, 10**9):
        with pytest.raises(InvalidInput):
            vault.new_sheet("clinic", D1, version, {})


def test_a_ring_that_holds_no_keys_is_refused_even_when_sealed(
    vault: KeyVault, kms: LocalFileKms, tmp_path: Path
) -> None:
    for keys in ({"kek/x": b"short"}, {"../x": b"k" * 32}):
        ring = Keyring(tenant="clinic", generation=9, root=1, keys=keys)
        ring_of(tmp_path).write_bytes(ring.seal(kms))
        with pytest.raises(IntegrityError):
            vault.ring("clinic")
    for add in ({"kek/x": b"short"}, {"../x": b"k" * 32}):
        with pytest.raises(InvalidInput):
            Keyring(tenant="clinic", generation=9, root=1).next(add=add)
    for generation in (0, -1, True):
        with pytest.raises((IntegrityError, InvalidInput)):
            Keyring.open(
                Keyring(tenant="clinic", generation=generation, root=1).seal(kms), "clinic", kms
            )


def test_a_kms_that_returns_another_key_is_refused(vault: KeyVault, tmp_path: Path) -> None:
    class Faulty(LocalFileKms):
        def unwrap_key(self, *_: object, **__: object) -> bytes:
            return b"short"

    with pytest.raises(IntegrityError, match="length"):
        KeyVault(tmp_path / "vault", Faulty(tmp_path / "roots")).secret("order")


def test_what_is_kept_in_memory_is_bounded(
    vault: KeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "KEYS_KEPT_MAX", 2)
    made = [vault.detail_key("clinic", f"2026-0{n}") for n in range(1, 6)]
    assert len(vault._kept) <= 2
    assert [vault.detail_key("clinic", f"2026-0{n}") for n in range(1, 6)] == made
    for version in range(1, 20):
        vault.new_sheet("clinic", D1, version, sheet_of(dek(1)))
    assert len(vault._sheets) == vault_module.SHEETS_KEPT
    assert vault.open_deks("clinic", D1, 1, 1, [dek(1).id]) == {dek(1).id: dek(1).key}
