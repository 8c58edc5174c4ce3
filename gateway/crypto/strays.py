"""What lies in a vault, and taking out what belongs to no version: sheets and KEKs of nobody.

A registration writes them before its event; killed in between, they stay behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.crypto.keyring import KekId
from gateway.crypto.private_files import remove_durably
from gateway.crypto.vault import KeyVault


@dataclass(frozen=True, slots=True, order=True)
class SheetFile:
    """One KeySheet, named by what it is of."""

    dataset_id: str
    version: int
    path: Path

    def remove(self) -> None:
        """Remove it durably; harmless when it is not there."""
        remove_durably(self.path)


def sheets_in(vault: KeyVault) -> Iterator[SheetFile]:
    """Every sheet of the vault, sorted; read from the names alone."""
    for path in sorted(vault.directory.glob("sheets/*/*.json")):
        if path.stem.isdecimal():
            yield SheetFile(path.parent.name, int(path.stem), path)


def drop_keks(vault: KeyVault, tenant: str, keks: Iterable[KekId]) -> None:
    """Take KEKs out of a tenant's ring, in one durable write."""
    with vault.lock:
        vault.put_ring(vault.ring(tenant).next(drop=[f"kek/{kek}" for kek in keks]))
