"""What one registration asks of the sealer, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gateway.crypto.key_sheet import Dek
from gateway.crypto.person_index import leaf_of
from gateway.domain.dataset import Column, Split
from gateway.domain.field_metadata import FieldMetadata
from gateway.domain.manifest import Leaf, Manifest, Shard, dek_id
from gateway.domain.proposals import Hint
from gateway.errors import IntegrityError
from gateway.shards.geometry import SHARD_BYTES

if TYPE_CHECKING:
    from gateway.shards.persons import ShardPersons  # needs pyarrow, which control does without

KEY_BYTES = 32
EXPANSION_MAX = 200  # Arrow bytes per uploaded byte, beyond EXPANSION_FREE_BYTES
EXPANSION_FREE_BYTES = 256 << 20
_KEYS = ("parts_key", "split_key", "person_key")  # cross the channel as payload


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """One file as the client sent it: sealed parts in order (shards/parts.py)."""

    name: str  # for messages only
    parts: tuple[str, ...]  # paths; part n of file f is sealed for part_place(f, n)
    partition: dict[str, str] = field(default_factory=dict)  # columns of one value for all rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SealJob:
    """One registration."""

    dataset_id: str  # uuid hex
    version: int
    files: tuple[UploadedFile, ...]  # rows are taken in this order
    parts_key: bytes = field(repr=False)
    staging: str  # an empty directory; shard files and nothing else are written here
    split_key: bytes = field(repr=False)  # of the dataset: the same value falls into one split
    person_key: bytes = field(default=bytes(KEY_BYTES), repr=False)  # tags ids, of the dataset
    person_column: str | None = None  # says whom a row is about; None: no index is made
    profile: str | None = None  # `train` | `archive` | None: chosen by the data
    splits: tuple[tuple[str, float], ...] = ()
    split_by: str | None = None
    split_column: str | None = None
    known: tuple[Column, ...] = ()  # of the newest version: same name and type, same field id
    next_field_id: int = 1
    required: tuple[Column, ...] = ()  # an append: exactly these names and types
    shard_bytes: int = SHARD_BYTES

    def to_message(self) -> tuple[dict[str, Any], bytes]:
        """Body and payload for the channel; keys go into the payload."""
        body = asdict(self)
        return body, b"".join(body.pop(name) for name in _KEYS)

    @classmethod
    def from_message(cls, body: Mapping[str, Any], payload: bytes) -> Self:
        """Undo `to_message`."""
        value = dict(body)
        value["files"] = tuple(
            UploadedFile(**{**file, "parts": tuple(file["parts"])}) for file in value["files"]
        )
        value["splits"] = tuple((name, float(share)) for name, share in value["splits"])
        for name in ("known", "required"):
            value[name] = tuple(Column(**{**column, "tags": ()}) for column in value[name])
        for place, name in enumerate(_KEYS):
            value[name] = payload[place * KEY_BYTES : (place + 1) * KEY_BYTES]
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShard:
    """One shard in the staging directory."""

    shard: Shard
    path: str  # of the sealed file, to be stored at shard.object_key
    table_path: str  # of the block table, to be stored at shard.table_key
    persons_path: str | None = None  # of the person index, to be stored at shard.persons_key

    @property
    def paths(self) -> dict[str, str]:
        """Object key -> path of the file to be stored there."""
        shard = self.shard
        found = {shard.object_key: self.path, shard.table_key: self.table_path}
        return found if self.persons_path is None else found | {
            shard.persons_key: self.persons_path
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedVersion:
    """A registration's result; nothing of it is registered yet."""

    version: int
    dataset_id: str
    profile: str
    columns: tuple[Column, ...]
    direct: tuple[int, ...]
    schema: str  # base64, as in the Manifest
    shards: tuple[SealedShard, ...]
    deks: Mapping[str, Dek] = field(repr=False)  # DEK id -> key
    source_bytes: int
    formats: tuple[str, ...]  # of each file: `parquet`, `csv`, `jsonl`, `arrow`
    metadata: Mapping[str, FieldMetadata] = field(default_factory=dict)  # as in the Manifest
    hints: tuple[Hint, ...] = ()  # what a sample of the values looks like

    @property
    def rows(self) -> int:
        """Rows over all splits."""
        return sum(sealed.shard.rows for sealed in self.shards)

    @property
    def bytes(self) -> int:
        """Sealed bytes over all shards."""
        return sum(sealed.shard.bytes for sealed in self.shards)

    @property
    def splits(self) -> tuple[Split, ...]:
        """Rows of each split that has some, in the order of their first shard."""
        return splits_of(tuple(sealed.shard for sealed in self.shards))

    def manifest(
        self,
        dataset: str,
        *,
        card: Mapping[str, Any],
        earlier: tuple[Shard, ...] = (),
        splits: tuple[str, ...] = (),
    ) -> Manifest:
        """The version's Manifest.

        Args:
            dataset: `tenant/name`.
            card: provenance.
            earlier: shards that an append keeps.
            splits: names that stand in it though no row may have fallen into them.
        """
        shards = (*earlier, *(sealed.shard for sealed in self.shards))
        return Manifest(
            dataset=dataset,
            dataset_id=self.dataset_id,
            version=self.version,
            profile=self.profile,
            columns=self.columns,
            direct=self.direct,
            schema=self.schema,
            splits=splits_of(shards, splits),
            shards=shards,
            card=card,
            metadata=self.metadata,
        )


def splits_of(shards: tuple[Shard, ...], named: tuple[str, ...] = ()) -> tuple[Split, ...]:
    """Sum up rows by split; those `named` stand first, with or without rows."""
    rows = dict.fromkeys(named, 0)
    for shard in shards:
        rows[shard.split] = rows.get(shard.split, 0) + shard.rows
    return tuple(Split(name=name, rows=count) for name, count in rows.items())


def shard_to_message(
    shard: Shard, deks: tuple[Dek, ...], path: Path, table: Path, persons: ShardPersons | None
) -> tuple[dict[str, Any], bytes]:
    """Body and payload (the keys, in the order of the leaves) of one finished shard."""
    body: dict[str, Any] = {"shard": asdict(shard), "path": str(path), "table_path": str(table)}
    keys = [dek.key for dek in deks]
    if persons is not None:
        body |= {"persons": persons.field_id, "persons_path": str(persons.path)}
        keys.append(persons.key)
    return body, b"".join(keys)


def shard_from_message(
    body: Mapping[str, Any], payload: bytes, job: SealJob
) -> tuple[SealedShard, dict[str, Dek]]:
    """Undo `shard_to_message`, with keys bound to the job's dataset."""
    value = dict(body["shard"])
    value["leaves"] = tuple(Leaf(**leaf) for leaf in value["leaves"])
    shard = Shard(**value)
    keys = [bytes(payload[at : at + KEY_BYTES]) for at in range(0, len(payload), KEY_BYTES)]
    leaves = [leaf.name for leaf in shard.leaves]
    if (job.person_column is None) != ("persons" not in body):
        raise IntegrityError("a person index is where none is wanted, or missing")
    if "persons" in body:
        leaves.append(leaf_of(int(body["persons"])))
    deks = {}
    for leaf, key in zip(leaves, keys, strict=True):
        name = dek_id(job.dataset_id, shard.id, leaf)
        deks[name] = Dek(
            id=name, key=key, shard=shard.id, leaf=leaf, origin_version=shard.origin_version
        )
    paths = {name: body[name] for name in ("path", "table_path", "persons_path") if name in body}
    return SealedShard(shard=shard, **paths), deks


def fraction_of(body: Mapping[str, Any]) -> float:
    """How much is done, 0…1, as a child says that may say anything."""
    fraction = body.get("fraction")
    return min(1.0, fraction) if isinstance(fraction, float) and fraction > 0 else 0.0
