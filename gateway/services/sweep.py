"""After a restart: what a dead predecessor left half done is closed, removed, and recorded.

A registration is one event: objects, key sheets and parts of one that never became an event
belong to nobody and go; leases of a dead control are over, because their keys died with it.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from gateway.domain.events import EventDraft, EventKind
from gateway.errors import GatewayError, Unavailable
from gateway.services.house import House
from gateway.services.storage import load_manifest

_log = logging.getLogger("gateway.sweep")


def close_leases(house: House) -> int:
    """Record the end of every lease that the journal still shows open; how many."""
    open_leases = list(house.catalog.leases())
    for lease in open_leases:
        grant = house.catalog.grant(lease.grant)
        house.record(
            EventDraft(
                kind=EventKind.LeaseClosed,
                owner_tenant=grant.owner_tenant,
                actor_tenant=grant.subject_tenant,
                actor=grant.subject,
                facts={"lease": lease.id, "reason_code": "restart"},
            )
        )
    return len(open_leases)


def remove_leftovers(house: House) -> list[str]:
    """Delete what the dead left: objects, parts, staging files, views; returns what was removed.

    A staging directory is there exactly as long as its registration may have put objects.
    Before anything else it is what says that there may be some, so it goes after them.
    """
    removed = []
    places = [house.places.parts, house.places.views]
    try:
        if any(house.places.staging.iterdir()):
            removed += remove_orphans(house)
        places.append(house.places.staging)
    except Unavailable:  # the next start looks again
        _log.exception("the store does not answer: what may be left there stays")
    for directory in places:
        for path in directory.iterdir():
            if directory == house.places.parts and path.name in house.uploads:
                continue  # an upload that goes on
            _remove(path)
            removed.append(path.name)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def orphans(house: House) -> list[str]:
    """Object keys that no recorded version refers to."""
    known: set[str] = set()
    for dataset in house.catalog.datasets():
        for version in dataset.versions:
            known.add(house.catalog.manifest_key(version.ref))
            try:
                manifest = load_manifest(house, version.ref)
            except Unavailable:
                raise
            except GatewayError:
                # Unreadable is not unreferenced: nothing is removed on a damaged store.
                _log.exception("a manifest cannot be read", extra={"version": str(version.ref)})
                return []
            for shard in manifest.shards:
                known |= {shard.object_key, shard.table_key}
    return [key for key in house.store.list() if key not in known]


def remove_orphans(house: House) -> list[str]:
    """Delete what `orphans` finds; safe only while no registration runs (at start, offline)."""
    found = orphans(house)
    for key in found:
        house.store.delete(key)
    return found
