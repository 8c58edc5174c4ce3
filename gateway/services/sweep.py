"""After a restart: what a dead predecessor left half done is closed, removed, and recorded.

A registration is one event: objects, key sheets and parts of one that never became an event
belong to nobody and go; leases of a dead control are over, because their keys died with it.
`gateway doctor` looks for the same without a server and tells; with `--repair` it removes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway import failpoints
from gateway.catalog.catalog import Catalog
from gateway.crypto.keyring import KekId
from gateway.crypto.strays import SheetFile, drop_keks, sheets_in
from gateway.crypto.vault import KeyVault
from gateway.domain.events import EventKind
from gateway.errors import GatewayError, Unavailable
from gateway.ports import ObjectStore
from gateway.services.granted import granted
from gateway.services.house import House, Places
from gateway.services.storage import read_manifest

CERTIFICATES = "certificates/"  # of erasures: kept for ever
ATTESTATIONS = "attestations/"  # of finished runs: kept for ever
_log = logging.getLogger("gateway.sweep")


def close_leases(house: House) -> int:
    """Record the end of every lease that the journal still shows open; how many."""
    open_leases = list(house.catalog.leases())
    for lease in open_leases:
        grant = house.catalog.grant(lease.grant)
        house.record(
            granted(
                EventKind.LeaseClosed,
                grant,
                {"lease": lease.id, "reason_code": "restart"},
            )
        )
    return len(open_leases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What is stored, and the catalogue that says what of it is somebody's."""

    catalog: Catalog
    store: ObjectStore
    vault: KeyVault
    places: Places
    manifest_key: bytes  # public

    @classmethod
    def of(cls, house: House) -> Stock:
        """That of an open house."""
        return cls(
            catalog=house.catalog,
            store=house.store,
            vault=house.vault,
            places=house.places,
            manifest_key=house.signers.manifest.public_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What belongs to nobody."""

    objects: tuple[str, ...] = ()
    sheets: tuple[SheetFile, ...] = ()
    keks: tuple[tuple[str, KekId], ...] = ()  # with their tenant
    files: tuple[Path, ...] = ()  # parts, staging directories, views

    @property
    def count(self) -> int:
        """How many things there are."""
        return len(self.objects) + len(self.sheets) + len(self.keks) + len(self.files)

    def __str__(self) -> str:
        """In words."""
        named = {
            "object(s)": self.objects,
            "key sheet(s)": self.sheets,
            "key(s)": self.keks,
            "temporary file(s)": self.files,
        }
        return ", ".join(f"{len(found)} {name}" for name, found in named.items() if found)


def find(stock: Stock, open_uploads: frozenset[str] = frozenset()) -> Leftovers:
    """Everything that no recorded version and no open registration refers to.

    A directory of the object store is listed and every Manifest read: seconds on a large one.
    """
    objects = _orphans(stock)
    known = {(v.dataset_id, v.ref.version) for d in stock.catalog.datasets() for v in d.versions}
    sheets = (s for s in sheets_in(stock.vault) if (s.dataset_id, s.version) not in known)
    files = tuple(_files(stock.places, open_uploads))
    if objects is None:  # a damaged store: nothing goes that could be needed to mend it
        return Leftovers(files=files)
    return Leftovers(
        objects=objects, sheets=tuple(sheets), keks=tuple(_stray_keks(stock)), files=files
    )


def _stray_keks(stock: Stock) -> Iterator[tuple[str, KekId]]:
    known = {dataset.dataset_id for dataset in stock.catalog.datasets()}
    for tenant in stock.catalog.tenants():
        try:
            keks = stock.vault.ring(tenant.name).keks()
        except GatewayError:  # without its root nobody can say; the doctor tells elsewhere
            _log.warning("a keyring cannot be searched", extra={"tenant": tenant.name})
            continue
        yield from ((tenant.name, kek) for kek in keks if kek.dataset_id not in known)


def _orphans(stock: Stock) -> tuple[str, ...] | None:
    known: set[str] = set()
    for dataset in stock.catalog.datasets():
        for version in dataset.versions:
            known.add(version.manifest_key)
            try:
                manifest = read_manifest(stock.store, stock.manifest_key, version)
            except Unavailable:
                raise
            except GatewayError:
                # Unreadable is not unreferenced: nothing is removed on a damaged store.
                _log.exception("a manifest cannot be read", extra={"version": str(version.ref)})
                return None
            for shard in manifest.shards:
                known |= {shard.object_key, shard.table_key, shard.persons_key}
    kept = (CERTIFICATES, ATTESTATIONS)
    return tuple(key for key in stock.store.list() if key not in known and not key.startswith(kept))


def _files(places: Places, open_uploads: frozenset[str]) -> Iterator[Path]:
    yield from (path for path in places.parts.iterdir() if path.name not in open_uploads)
    yield from places.views.iterdir()
    yield from places.staging.iterdir()


def remove(stock: Stock, found: Leftovers) -> None:
    """Remove it all; killed in the middle, the next start goes on.

    A staging directory says that there may be objects and sheets of nobody, so it goes last.
    """
    for key in found.objects:
        stock.store.delete(key)
        failpoints.reach("start.object-gone")
    for sheet in found.sheets:
        sheet.remove()
        failpoints.reach("start.sheet-gone")
    for tenant in sorted({tenant for tenant, _ in found.keks}):
        drop_keks(stock.vault, tenant, [kek for of, kek in found.keks if of == tenant])
        failpoints.reach("start.keks-gone")
    for path in found.files:
        _remove(path)
        failpoints.reach("start.file-gone")


def remove_leftovers(house: House, *, thorough: bool) -> Leftovers:
    """At a start, or offline: remove what the dead left.

    Without `thorough` (`doctor --repair`) store and vault are searched only when a registration
    was cut short: its staging directory is there as long as it may have written to them.
    """
    stock, uploads = Stock.of(house), frozenset(house.uploads)
    found = Leftovers(files=tuple(_files(house.places, uploads)))
    try:
        if thorough or any(house.places.staging.iterdir()):
            found = find(stock, uploads)
        remove(stock, found)
    except Unavailable:  # nothing of it goes, staging least of all: the next start looks again
        if thorough:
            raise
        _log.exception("the store does not answer: what may be left there stays")
    return found


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
