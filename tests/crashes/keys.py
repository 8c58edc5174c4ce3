"""What a vault must hold when nothing is under way: each key that something needs, no other.

Rings, KEKs, KeySheets and roots are compared with the catalogue, both ways.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gateway.crypto import rewrap
from gateway.crypto.vault import SYSTEM_TENANT
from gateway.domain.dataset import DatasetVersion
from gateway.domain.events import EventKind
from gateway.domain.manifest import Leaf, Shard
from gateway.services.house import House
from gateway.services.storage import load_manifest
from gateway.services.sweep import CERTIFICATES


@dataclass(slots=True)
class SeenKeys:
    """What no later look at a ring may miss."""

    months: dict[str, set[str]] = field(default_factory=dict)  # by tenant: detail keys
    generations: dict[str, int] = field(default_factory=dict)  # by tenant: of the ring


def check_keys(house: House, seen: SeenKeys) -> None:
    """Every ring is whole, finished, not older than before, and without keys of nobody."""
    tenants = {tenant.name for tenant in house.catalog.tenants()}
    rings = {path.stem for path in (house.vault.directory / "rings").iterdir()}
    assert rings == tenants | {SYSTEM_TENANT}
    recorded = {ring.tenant: ring for ring in house.catalog.rings()}
    for tenant in rings:
        held = rewrap.holdings(house.vault, tenant)
        assert not held.unfinished, f"{held}"
        assert {str(kek) for kek in held.keks} == _keks_named(house, tenant)
        if tenant in recorded:
            assert recorded[tenant].root == held.root
            assert recorded[tenant].generation <= held.generation
        assert seen.months.get(tenant, set()) <= set(held.months), "a detail key is lost"
        assert seen.generations.get(tenant, 0) <= held.generation, "an older ring is there"
        seen.months[tenant] = set(held.months)
        seen.generations[tenant] = held.generation


def _keks_named(house: House, tenant: str) -> set[str]:
    """Those that the sheets of a tenant need; each sheet has the DEKs of its version's columns."""
    named: set[str] = set()
    for dataset in house.catalog.datasets():
        for version in dataset.versions if dataset.tenant == tenant else ():
            number = version.ref.version or 0
            sheet = house.vault.read_sheet(
                tenant, dataset.dataset_id, number, house.vault.ring(tenant).kek
            )
            assert sheet is not None, f"`{version.ref}` has no sheet"
            assert sheet.generation == version.sheet_generation
            shards = load_manifest(house, version.ref).shards
            deks = {leaf.dek for shard in shards for leaf in leaves_of(version, shard)}
            assert set(sheet.entries) == deks, f"keys of `{version.ref}` are missing, or too many"
            named |= {sheet.mac_key, *(entry.kek for entry in sheet.entries.values())}
    return named


def leaves_of(version: DatasetVersion, shard: Shard) -> list[Leaf]:
    """Of the columns that the version still has, and the footer."""
    there = {None, *(column.field_id for column in version.columns)}
    return [leaf for leaf in shard.leaves if leaf.field_id in there]


def certificates_of(house: House) -> set[str]:
    """Objects of the certificates; there is exactly one for each erasure."""
    told = Counter(
        event.facts["erasure"]
        for event in house.journal.read(0)
        if event.kind == EventKind.ErasureCertified
    )
    erasures = house.catalog.erasures()
    assert told == Counter({erasure.id: 1 for erasure in erasures}), "not one certificate each"
    keys = {erasure.certificate_key or "none" for erasure in erasures}
    assert keys == {f"{CERTIFICATES}{erasure.id}.json" for erasure in erasures}
    return keys
