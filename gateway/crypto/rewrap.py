"""Wrap the keys of a vault anew: rotation of KEKs and roots, and what erasure destroys.

Each function is one durable step that may be repeated: killed anywhere, the vault opens with
what is there, and the same steps again finish the work. What is unfinished shows in the vault
itself: a KEK with two generations, a root newer than the one that wraps the ring, a root
older than it that still exists. No byte of data is touched; DEKs stay what they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.crypto import private_files
from gateway.crypto.envelope import KEY_BYTES
from gateway.crypto.key_sheet import Entry, KeySheet
from gateway.crypto.keyring import KekId, Keyring
from gateway.crypto.vault import KeyVault, newest_keks

Keep = Callable[[int, Entry], bool]  # (version, entry): whether the DEK survives in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a tenant's part of the vault holds: names and generations, no key."""

    tenant: str
    generation: int  # of the ring
    root: int
    roots: tuple[int, ...]  # that the KMS can use
    keks: tuple[KekId, ...]
    months: tuple[str, ...]  # with a detail key

    @property
    def unfinished(self) -> bool:
        """Whether a rotation or erasure was cut short."""
        return self.roots != (self.root,) or bool(_older(self.keks))


def holdings(vault: KeyVault, tenant: str) -> Holdings:
    """Read the ring once, and ask the KMS which roots there are."""
    ring = vault.ring(tenant)
    months = (name.removeprefix("detail/") for name in ring.keys if name.startswith("detail/"))
    return Holdings(
        tenant=tenant,
        generation=ring.generation,
        root=ring.root,
        roots=vault.kms.generations(tenant),
        keks=tuple(ring.keks()),
        months=tuple(sorted(months)),
    )


def renew_keks(vault: KeyVault, tenant: str, dataset_ids: Iterable[str] | None = None) -> int:
    """Give every KEK (of these datasets) a next generation, in one write; how many are new.

    A KEK that has a newer generation already is being rotated: it gets no third one.
    """
    with vault.lock:
        ring = vault.ring(tenant)
        wanted = None if dataset_ids is None else set(dataset_ids)
        keks = [kek for kek in ring.keks() if wanted is None or kek.dataset_id in wanted]
        rotating = {(kek.dataset_id, kek.group) for kek in _older(keks)}
        add = {
            f"kek/{KekId(dataset_id=k.dataset_id, group=k.group, generation=k.generation + 1)}": (
                os.urandom(KEY_BYTES)
            )
            for k in keks
            if (k.dataset_id, k.group) not in rotating
        }
        if add:
            vault.put_ring(ring.next(add=add))
        return len(add)


def rewrap_sheets(
    vault: KeyVault, tenant: str, dataset_id: str, keep: Keep | None = None
) -> Mapping[int, int]:
    """Wrap the sheets of a dataset under its newest KEKs, without the DEKs that go.

    Returns:
        The generation of each version's sheet as it stands now; one that was wrapped so
        already is left as it is.
    """
    with vault.lock:
        ring = vault.ring(tenant)
        keks = newest_keks(ring, dataset_id)
        generations: dict[int, int] = {}
        written: dict[Path, tuple[KeySheet, bytes]] = {}
        for version in sheet_versions(vault, dataset_id):
            sheet = vault.read_sheet(tenant, dataset_id, version, ring.kek)
            if sheet is None:
                continue
            renewed = _rewrapped(sheet, ring, keks, keep)
            if renewed is not None:
                written[vault.sheet_path(dataset_id, version)] = renewed
            generations[version] = (renewed[0] if renewed else sheet).generation
        private_files.replace_all_private({path: data for path, (_, data) in written.items()})
        for path, (sheet, _) in written.items():
            vault.keep_sheet(path, sheet)
        return generations


def _rewrapped(
    sheet: KeySheet, ring: Keyring, keks: Mapping[str, tuple[str, bytes]], keep: Keep | None
) -> tuple[KeySheet, bytes] | None:
    kept = [
        dek_id
        for dek_id, entry in sheet.entries.items()
        if keep is None or keep(sheet.version, entry)
    ]
    newest = {kek_id for kek_id, _ in keks.values()}
    used = {sheet.mac_key, *(sheet.entries[dek_id].kek for dek_id in kept)}
    if used <= newest and len(kept) == len(sheet.entries):
        return None
    opened = sheet.unwrap(kept, ring.kek)
    deks = {dek_id: sheet.dek(dek_id, key) for dek_id, key in opened.items()}
    identity = (sheet.tenant, sheet.dataset_id, sheet.version)
    return KeySheet.seal(identity, sheet.generation + 1, deks, keks)


def sheet_versions(vault: KeyVault, dataset_id: str) -> list[int]:
    """Versions of a dataset that have a sheet, ascending."""
    names = (path.stem for path in vault.sheet_dir(dataset_id).glob("*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def remove_sheets(vault: KeyVault, dataset_id: str, versions: Iterable[int] | None) -> None:
    """Remove the sheets of erased versions (None = all there are), durably."""
    with vault.lock:
        gone = sheet_versions(vault, dataset_id) if versions is None else list(versions)
        for version in gone:
            path = vault.sheet_path(dataset_id, version)
            if path.exists():
                private_files.remove_durably(path)
            vault.keep_sheet(path, None)
        if versions is None:
            shutil.rmtree(vault.sheet_dir(dataset_id), ignore_errors=True)


def drop_months(vault: KeyVault, tenant: str, months: Iterable[str]) -> int:
    """Take the detail keys of these months out of the ring, in one write; how many were there.

    Copies of the old ring open until its root is destroyed, too.
    """
    with vault.lock:
        ring = vault.ring(tenant)
        drop = {name for name in (f"detail/{month}" for month in months) if name in ring.keys}
        if drop:
            vault.put_ring(ring.next(drop=drop))
        return len(drop)


def renew_root(vault: KeyVault, tenant: str) -> int:
    """A root generation newer than the one in use; one that a killed rotation made is taken."""
    with vault.lock:
        newest = max(vault.kms.generations(tenant), default=0)
        return newest if newest > vault.ring(tenant).root else vault.kms.create_root(tenant)


def move_ring(
    vault: KeyVault, tenant: str, *, root: int | None = None, without: Iterable[str] = ()
) -> Keyring:
    """Write the ring under `root`, with only the newest KEK of each kind, in one rename.

    Args:
        vault: whose.
        tenant: whose.
        root: generation that wraps it from now on; None = as before.
        without: datasets whose KEKs go altogether.
    """
    with vault.lock:
        ring = vault.ring(tenant)
        erased = set(without)
        drop = {f"kek/{kek}" for kek in ring.keks() if kek.dataset_id in erased}
        drop |= {f"kek/{kek}" for kek in _older(ring.keks())}
        if not drop and root in (None, ring.root):
            return ring
        moved = ring.next(root=root, drop=drop)
        vault.put_ring(moved)
        return moved


def destroy_older_roots(vault: KeyVault, tenant: str) -> dict[int, int | None]:
    """Destroy every root older than the one in use; when each is beyond recall."""
    root = vault.ring(tenant).root
    older = [generation for generation in vault.kms.generations(tenant) if generation < root]
    return {generation: vault.kms.destroy_root(tenant, generation) for generation in older}


def _older(keks: Iterable[KekId]) -> list[KekId]:
    """Those that have a newer generation."""
    newest: dict[tuple[str, str], int] = {}
    known = list(keks)
    for kek in known:
        place = (kek.dataset_id, kek.group)
        newest[place] = max(kek.generation, newest.get(place, 0))
    return [kek for kek in known if kek.generation < newest[kek.dataset_id, kek.group]]
