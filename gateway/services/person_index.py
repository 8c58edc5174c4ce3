"""Who may be in which block: the person index of a version, as control keeps and opens it.

Its key per shard stands in the KeySheet under the leaf `<field id>.persons`, so that it is
rotated, carried by an append, and destroyed with the data keys of that column; the tags are
made under a key per dataset. docs/formats/person-index-v1.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import gateway.wire as W
from gateway.crypto.envelope import derive
from gateway.crypto.key_sheet import Dek
from gateway.crypto.person_index import Place, blocks_with, field_of
from gateway.crypto.person_tags import Tagger
from gateway.domain.dataset import DatasetRef, DatasetVersion
from gateway.domain.manifest import Manifest, Shard
from gateway.domain.person import canonical_id
from gateway.errors import Conflict, IntegrityError, NotFound
from gateway.services.house import House


def key_of(house: House, dataset_id: str) -> bytes:
    """The key that tags persons of a dataset, the same in all its versions."""
    return derive(house.vault.secret("person-index"), "person-index", dataset_id)


def leaves_of(house: House, version: DatasetVersion) -> dict[str, tuple[str, int]]:
    """Shard id -> DEK id of its index and the column that it is of; only shards that have one."""
    found = {}
    known = house.vault.dek_ids(version.ref.tenant, version.dataset_id, version.ref.version or 0)
    for dek in known:
        _, shard, leaf = dek.split("/")
        field_id = field_of(leaf)
        if field_id is not None:
            found[shard] = (dek, field_id)
    return found


def deks_of(house: House, version: DatasetVersion) -> dict[str, Dek]:
    """The keys of its indexes, for the sheet of a version that takes its shards over."""
    return house.vault.deks(
        version.ref.tenant,
        version.dataset_id,
        version.ref.version or 0,
        version.sheet_generation,
        [dek for dek, _ in leaves_of(house, version).values()],
    )


def as_appended(
    house: House, ref: DatasetRef, wanted: W.RegistrationRequest
) -> W.RegistrationRequest:
    """An append is indexed by the same column as the version that it extends.

    Raises:
        Conflict: it names another one.
    """
    if not wanted.append:
        return wanted
    try:
        version = house.catalog.version(ref)
    except NotFound:
        return wanted
    names = {column.field_id: column.name for column in version.columns}
    indexed = {names.get(field_id) for _, field_id in leaves_of(house, version).values()}
    before = next(iter(indexed), None)
    if before is not None and wanted.person_column not in (None, before):
        raise Conflict(
            f"persons of `{ref}` are those of the column `{before[:80]}`",
            advice="leave --person-column out, or register a whole new version",
        )
    return wanted if before is None else replace(wanted, person_column=before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where rows of one person are in a version, to the block."""

    blocks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by shard id, if any
    unknown: frozenset[str] = frozenset()  # shards registered without a column of persons
    tag: int = 0  # of the person, in this dataset
    field_id: int | None = None  # the column of persons; None when there is no index at all


def rows_of(house: House, version: DatasetVersion, manifest: Manifest, person: str) -> Rows:
    """Look a person up in the index of every shard; blocking.

    Raises:
        InvalidInput: the column of persons can hold no such id.
        IntegrityError: an index is missing, or not what was written.
        KeyUnavailable: the KMS does not answer.
    """
    indexed = leaves_of(house, version)
    field_id = next((field_id for _, field_id in indexed.values()), None)
    blocks: dict[str, tuple[int, ...]] = {}
    tag = 0
    if field_id is not None:
        tagger = Tagger(key_of(house, version.dataset_id))
        tag = tagger.tag(canonical_id(person, manifest.column(field_id).type))
        deks = deks_of(house, version)
        for shard in manifest.shards:
            if shard.id in indexed:
                found = _blocks(house, shard, deks[indexed[shard.id][0]], manifest, tag)
                blocks |= {shard.id: found} if found else {}
    without = frozenset(shard.id for shard in manifest.shards if shard.id not in indexed)
    return Rows(blocks=blocks, unknown=without, tag=tag, field_id=field_id)


def _blocks(house: House, shard: Shard, dek: Dek, manifest: Manifest, tag: int) -> tuple[int, ...]:
    key = shard.persons_key
    try:
        size = house.store.size(key)
    except NotFound as cause:
        raise IntegrityError("a person index is missing in the store") from cause
    place = Place(dataset_id=manifest.dataset_id, shard=shard.id, leaf=dek.leaf)
    found = blocks_with(
        tag, lambda at, length: house.store.read(key, at, length), size, dek.key, place=place
    )
    if any(block * shard.block_rows >= shard.rows for block in found):
        raise IntegrityError("a person index names a block that there is not")
    return tuple(found)
