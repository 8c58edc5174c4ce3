"""Manifest: the immutable list of a version's shards, and all a reader may believe about them.

Readers take sizes, digests, key ids and page places from the Manifest whose digest the
journal recorded, never from the files. Bytes: docs/formats/manifest-v1.md; the pages of each
shard: block_table.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain import field_metadata
from gateway.domain.block_table import BlockTable, Page
from gateway.domain.dataset import COLUMN_NAME_CHARS_MAX, Column, Split, parse_name
from gateway.errors import GatewayError, IntegrityError

__all__ = ["FORMAT", "BlockTable", "Leaf", "Manifest", "Page", "Shard", "dek_id", "leaf_names"]

FORMAT = "manifest-v1"
FOOTER = "footer"  # the leaf name of a file's footer key
MANIFEST_BYTES_MAX = 256 << 20
PROFILES = ("train", "archive")
_UUID = re.compile(r"[0-9a-f]{32}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_UNIQUE = re.compile(r"[0-9a-f]{16}\Z")
_LEAF = re.compile(r"(?:footer|[1-9][0-9]{0,8}(?:\.[0-9]{1,4})?)\Z")


def dek_id(dataset_id: str, shard_id: str, leaf: str) -> str:
    """Name the data key of one leaf of one shard; a shard id is never used twice."""
    return f"{dataset_id}/{shard_id}/{leaf}"


def leaf_names(paths: Sequence[str]) -> dict[str, str]:
    """Leaf name -> path in the file; `paths` are all leaves in file order, roots `f<field id>`."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for path in paths:
        root = path.partition(".")[0]
        number = counts.get(root, 0)
        counts[root] = number + 1
        names[root[1:] if path == root else f"{root[1:]}.{number}"] = path
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One encrypted leaf column of a shard, or its footer, and the key that opens it."""

    name: str  # `footer`, `<field id>`, or `<field id>.<n>` for the n-th leaf of a nested column
    dek: str  # DEK id
    commitment: str  # hex; of the key, since GCM does not commit to it

    @property
    def field_id(self) -> int | None:
        """The column it belongs to; None for the footer."""
        return None if self.name == FOOTER else int(self.name.partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One sealed Parquet file."""

    id: str  # uuid hex, never used twice
    origin_version: int  # the version that wrote it; an append refers to older shards
    split: str
    rows: int
    bytes: int
    block_rows: int
    sha256: str  # of the file, for transfer and verify; streaming relies on the GCM tags
    footer_sha256: str  # of the file's tail: crypto metadata, footer module, length, magic
    footer_bytes: int
    table_sha256: str  # of the block table object
    aad_file_unique: str  # 8 bytes hex
    leaves: tuple[Leaf, ...]  # footer first, then by column and leaf; every leaf of the file

    @property
    def object_key(self) -> str:
        """Where the file lies in the object store."""
        return f"shards/{self.id}.parquet"

    @property
    def table_key(self) -> str:
        """Where its block table lies in the object store."""
        return f"shards/{self.id}.blocks"

    @property
    def persons_key(self) -> str:
        """Where its person index lies, if it has one (crypto/person_index.py)."""
        return f"shards/{self.id}.persons"

    @property
    def footer(self) -> Leaf:
        """The leaf of the footer key."""
        return self.leaves[0]

    def leaves_of(self, field_ids: set[int] | frozenset[int]) -> tuple[Leaf, ...]:
        """The leaves of these columns (never the footer)."""
        return tuple(leaf for leaf in self.leaves if leaf.field_id in field_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything fixed about one version; its digest stands in the journal."""

    dataset: str  # `tenant/name`, as it was called when the version was registered
    dataset_id: str
    version: int
    profile: str
    columns: tuple[Column, ...]  # by position, without tags
    direct: tuple[int, ...]  # field ids whose pages are nothing but values (layout.py)
    schema: str  # Arrow schema of the logical columns as IPC message, base64
    splits: tuple[Split, ...]
    shards: tuple[Shard, ...]  # in reading order
    card: Mapping[str, Any] = field(default_factory=dict)  # provenance; JSON
    # By field id as text: what is kept of a column's metadata (field_metadata.py).
    metadata: Mapping[str, field_metadata.FieldMetadata] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows over all splits."""
        return sum(shard.rows for shard in self.shards)

    @property
    def sealed_bytes(self) -> int:
        """Sealed bytes over all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def schema_bytes(self) -> bytes:
        """The Arrow schema as an encapsulated IPC message."""
        return base64.b64decode(self.schema)

    def column(self, field_id: int) -> Column:
        """One column; raises IntegrityError when the version has none of that id."""
        for column in self.columns:
            if column.field_id == field_id:
                return column
        raise IntegrityError(f"the manifest has no column {field_id}")

    def shards_of(self, split: str | None) -> tuple[Shard, ...]:
        """The shards of one split (None = all), in reading order."""
        return tuple(s for s in self.shards if split is None or s.split == split)

    def to_bytes(self) -> bytes:
        """Canonical JSON: ASCII, sorted keys, no spaces; the bytes that are signed."""
        value = {
            "format": FORMAT,
            "dataset": self.dataset,
            "dataset_id": self.dataset_id,
            "version": self.version,
            "profile": self.profile,
            "columns": [
                {"field_id": c.field_id, "name": c.name, "type": c.type, "nullable": c.nullable}
                for c in self.columns
            ],
            "direct": list(self.direct),
            "schema": self.schema,
            "splits": [{"name": s.name, "rows": s.rows} for s in self.splits],
            "shards": [_shard_to_json(shard) for shard in self.shards],
            "card": dict(self.card),
        }
        if self.metadata:  # absent when empty, as before there was any
            value["metadata"] = {key: dict(texts) for key, texts in self.metadata.items()}
        return _canonical(value)

    @property
    def digest(self) -> str:
        """SHA-256 hex of the canonical bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str) -> Manifest:
        """Read canonical bytes whose SHA-256 the journal recorded; raises IntegrityError."""
        if len(data) > MANIFEST_BYTES_MAX:
            raise IntegrityError("the manifest is larger than any manifest may be")
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError("the manifest is not the one that the journal recorded")
        return cls.parse(data)

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read canonical bytes without knowing their digest; raises IntegrityError."""
        try:
            value = json.loads(data)
            if _canonical(value) != data:
                raise IntegrityError("the manifest is not in canonical form")
            manifest = _manifest_from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as cause:
            raise IntegrityError("the manifest cannot be read") from cause
        except GatewayError as cause:
            raise IntegrityError(f"the manifest cannot be read: {cause.message}") from cause
        _check(manifest)
        return manifest


def _canonical(value: Any) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _shard_to_json(shard: Shard) -> dict[str, Any]:
    names = ("id", "origin_version", "split", "rows", "bytes", "block_rows", "sha256",
             "footer_sha256", "footer_bytes", "table_sha256", "aad_file_unique")  # fmt: skip
    value: dict[str, Any] = {name: getattr(shard, name) for name in names}
    value["leaves"] = [
        {"name": leaf.name, "dek": leaf.dek, "commitment": leaf.commitment} for leaf in shard.leaves
    ]
    return value


def _shard_from_json(value: Mapping[str, Any]) -> Shard:
    leaves = tuple(Leaf(**leaf) for leaf in value["leaves"])
    return Shard(**{**value, "leaves": leaves})


def _manifest_from_json(value: Mapping[str, Any]) -> Manifest:
    fields = dict(value)
    if fields.pop("format") != FORMAT:
        raise IntegrityError("the manifest is of another format version")
    fields["columns"] = tuple(Column(**column) for column in fields["columns"])
    fields["direct"] = tuple(fields["direct"])
    fields["splits"] = tuple(Split(**split) for split in fields["splits"])
    fields["shards"] = tuple(_shard_from_json(shard) for shard in fields["shards"])
    return Manifest(**fields)


def _refuse_unless(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise IntegrityError(f"the manifest contradicts itself: {what}")


def _whole(*numbers: object, least: int = 0) -> bool:
    return all(type(n) is int and least <= n < 1 << 53 for n in numbers)


def _check(manifest: Manifest) -> None:
    tenant, _, name = manifest.dataset.partition("/")
    parse_name(tenant, what="tenant")
    parse_name(name, what="dataset")
    _refuse_unless(bool(_UUID.match(manifest.dataset_id)), "dataset id")
    _refuse_unless(_whole(manifest.version, least=1), "version")
    _refuse_unless(manifest.profile in PROFILES, "profile")
    _refuse_unless(isinstance(manifest.card, dict), "card")
    try:
        base64.b64decode(manifest.schema, validate=True)
    except (binascii.Error, ValueError, TypeError) as cause:
        raise IntegrityError("the manifest contradicts itself: schema") from cause
    _check_columns(manifest)
    field_metadata.check(manifest.metadata)
    known = {str(column.field_id) for column in manifest.columns}
    _refuse_unless(manifest.metadata.keys() <= known, "metadata of no column")
    _check_shards(manifest)


def _check_columns(manifest: Manifest) -> None:
    ids = [column.field_id for column in manifest.columns]
    names = {column.name for column in manifest.columns}
    _refuse_unless(bool(ids) and _whole(*ids, least=1), "field ids")
    _refuse_unless(len(set(ids)) == len(ids) == len(names), "columns occur twice")
    _refuse_unless(set(manifest.direct) <= set(ids), "direct columns")
    for column in manifest.columns:
        fits = isinstance(column.name, str) and len(column.name) <= COLUMN_NAME_CHARS_MAX
        _refuse_unless(fits and isinstance(column.type, str), "a column")
        _refuse_unless(isinstance(column.nullable, bool), "a column")


def _check_shards(manifest: Manifest) -> None:
    rows = {split.name: 0 for split in manifest.splits}
    _refuse_unless(len(rows) == len(manifest.splits), "a split occurs twice")
    ids = {shard.id for shard in manifest.shards}
    _refuse_unless(len(ids) == len(manifest.shards), "a shard occurs twice")
    columns = {column.field_id for column in manifest.columns}
    for shard in manifest.shards:
        _check_shard(shard, manifest, columns)
        _refuse_unless(shard.split in rows, "a shard of no split")
        rows[shard.split] += shard.rows
    for split in manifest.splits:
        _refuse_unless(_whole(split.rows) and rows[split.name] == split.rows, "rows of a split")


def _check_shard(shard: Shard, manifest: Manifest, columns: set[int]) -> None:
    numbers = (shard.rows, shard.bytes, shard.block_rows, shard.footer_bytes, shard.origin_version)
    _refuse_unless(_whole(*numbers, least=1), "numbers of a shard")
    _refuse_unless(shard.origin_version <= manifest.version, "a shard from the future")
    _refuse_unless(shard.footer_bytes < shard.bytes, "numbers of a shard")
    digests = (shard.sha256, shard.footer_sha256, shard.table_sha256)
    _refuse_unless(all(_SHA256.match(d) for d in digests), "a digest")
    _refuse_unless(bool(_UNIQUE.match(shard.aad_file_unique)), "a file's unique id")
    _refuse_unless(bool(_UUID.match(shard.id)), "a shard id")
    names = [leaf.name for leaf in shard.leaves]
    _refuse_unless(bool(names) and names[0] == FOOTER, "the footer leaf comes first")
    _refuse_unless(len(set(names)) == len(names), "a leaf occurs twice")
    for leaf in shard.leaves:
        _refuse_unless(bool(_LEAF.match(leaf.name)), "a leaf")
        expected = dek_id(manifest.dataset_id, shard.id, leaf.name)
        _refuse_unless(leaf.dek == expected, "a key of another leaf")
        _refuse_unless(bool(_SHA256.match(leaf.commitment)), "a key commitment")
    _refuse_unless({leaf.field_id for leaf in shard.leaves[1:]} <= columns, "a leaf of no column")
