"""Write one shard: a sealed Parquet file, its block table, and the keys that were made.

After closing, the file is read again from the page cache: its digest is taken and the place of
every direct page found and proved (written.py).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.crypto.envelope import commitment
from gateway.crypto.key_sheet import Dek
from gateway.crypto.pages import OVERHEAD_BYTES, PageOpener
from gateway.domain.block_table import BlockTable, TableColumn
from gateway.domain.manifest import FOOTER, Leaf, Shard, dek_id, leaf_names
from gateway.errors import IntegrityError, TooLarge
from gateway.shards import pme
from gateway.shards.geometry import Geometry
from gateway.shards.types import direct_type, physical_type, retyped, to_direct
from gateway.shards.written import DirectColumn, WrittenFile

MODULES_PER_DEK_MAX = 1 << 28  # far below what random 96-bit nonces allow under one key
_NEVER = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """What every shard of one version has in common."""

    dataset_id: str
    version: int
    profile: str
    schema: Any  # logical pa.Schema; direct columns are non-nullable
    field_ids: tuple[int, ...]
    direct: frozenset[int]  # field ids

    def physical_schema(self) -> Any:
        """The schema in the file."""
        return pa.schema(
            [self._physical(f, n) for f, n in zip(self.schema, self.field_ids, strict=True)]
        )

    def _physical(self, field: Any, field_id: int) -> Any:
        if field_id in self.direct:
            return pa.field(f"f{field_id}", direct_type(field.type), nullable=False)
        return pa.field(f"f{field_id}", physical_type(field.type), nullable=field.nullable)

    def physical(self, batch: Any) -> list[Any]:
        """The batch's columns as they go into the file."""
        schema = self.physical_schema()
        return [
            to_direct(column) if field_id in self.direct else retyped(column, field.type)
            for column, field, field_id in zip(batch.columns, schema, self.field_ids, strict=True)
        ]

    def leaves(self) -> dict[str, str]:
        """Leaf name -> physical path, in file order."""
        sink = io.BytesIO()
        pq.write_table(self.physical_schema().empty_table(), sink)
        schema = pq.ParquetFile(sink).schema
        return leaf_names([schema.column(n).path for n in range(len(schema))])


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """One finished shard in the staging directory."""

    shard: Shard
    table: bytes
    deks: tuple[Dek, ...]


class ShardFile:
    """Collects rows and writes them in row groups of whole blocks."""

    def __init__(
        self, path: Path, plan: FilePlan, geometry: Geometry, *, shard_id: str, split: str
    ) -> None:
        """Open the file for writing at `path`."""
        self.path, self.plan, self.geometry = path, plan, geometry
        self.shard_id, self.split, self.rows = shard_id, split, 0
        self._schema = plan.physical_schema()
        self._leaves = plan.leaves()
        properties, self._keys = pme.writing(plan.dataset_id, shard_id, self._leaves)
        self._writer = pq.ParquetWriter(
            str(path),
            self._schema,
            encryption_properties=properties,
            **self.settings(plan.profile, geometry),
        )
        self._pending: list[Any] = []
        self._pending_rows = 0

    @staticmethod
    def settings(profile: str, geometry: Geometry) -> dict[str, Any]:
        """What pyarrow's writer is told, besides the keys."""
        train = profile == "train"
        return {
            "compression": "none" if train else "zstd",
            "compression_level": None if train else 1,
            "use_dictionary": not train,
            "write_statistics": not train,
            "data_page_size": _NEVER if train else 1 << 20,
            "max_rows_per_page": geometry.block_rows if train else 131_072,
            "write_batch_size": min(geometry.block_rows, 65_536) if train else 1024,
            "data_page_version": "1.0",
            "write_page_checksum": False,
            "write_page_index": False,
            "store_schema": True,
        }

    def room(self) -> int:
        """Rows that still fit."""
        return self.geometry.shard_rows - self.rows

    def add(self, batch: Any) -> None:
        """Take a batch of the logical schema, no longer than `room()`."""
        self._pending.append(
            pa.RecordBatch.from_arrays(self.plan.physical(batch), schema=self._schema)
        )
        self._pending_rows += len(batch)
        self.rows += len(batch)
        while self._pending_rows >= self.geometry.row_group_rows:
            self._write(self.geometry.row_group_rows)

    def _write(self, rows: int) -> None:
        table = pa.Table.from_batches(self._pending, self._schema)
        self._writer.write_table(table.slice(0, rows), row_group_size=rows)
        # Every module has its overhead: a smaller file has fewer of them under any of its keys.
        if self.path.stat().st_size >= MODULES_PER_DEK_MAX * OVERHEAD_BYTES:
            raise TooLarge("a shard would need more modules under one key than are safe")
        rest = table.slice(rows)
        self._pending = rest.to_batches() if len(rest) else []
        self._pending_rows = len(rest)

    def abort(self) -> None:
        """Close and forget the keys; the file is worthless from now on."""
        self._keys.wipe()

    def finish(self) -> SealedFile:
        """Write what is left, close, check the layout; raises IntegrityError."""
        if self._pending_rows:
            self._write(self._pending_rows)
        self._writer.close()
        deks = self._deks()
        metadata = self._metadata()
        file = WrittenFile(str(self.path))
        try:
            tail = file.tail()
            table = self._table(metadata, file, tail.aad_file_unique)
            shard = Shard(
                id=self.shard_id,
                origin_version=self.plan.version,
                split=self.split,
                rows=self.rows,
                bytes=file.bytes,
                block_rows=self.geometry.block_rows,
                sha256=file.sha256(),
                footer_sha256=tail.sha256,
                footer_bytes=tail.length,
                table_sha256=table.digest,
                aad_file_unique=tail.aad_file_unique.hex(),
                leaves=tuple(
                    Leaf(name=dek.leaf, dek=dek.id, commitment=commitment(dek.key)) for dek in deks
                ),
            )
        finally:
            file.close()
        self._keys.wipe()
        return SealedFile(shard=shard, table=table.to_bytes(), deks=deks)

    def _deks(self) -> tuple[Dek, ...]:
        names = (FOOTER, *self._leaves)
        keys = self._keys.keys
        if len(keys) != len(names):
            raise IntegrityError("a leaf of the file has no key of its own")
        ids = {name: dek_id(self.plan.dataset_id, self.shard_id, name) for name in names}
        return tuple(
            Dek(id=ids[name], key=keys[ids[name]], shard=self.shard_id, leaf=name,
                origin_version=self.plan.version)
            for name in names
        )  # fmt: skip

    def _metadata(self) -> Any:
        prefix = dek_id(self.plan.dataset_id, self.shard_id, "")
        properties, client = pme.reading(prefix, self._keys.keys)
        try:
            # Every key is at hand: the only place where column metadata may be touched.
            metadata = pq.read_metadata(str(self.path), decryption_properties=properties)
            if metadata.num_rows != self.rows:
                raise IntegrityError("the written file has another number of rows")
            if not metadata.schema.to_arrow_schema().equals(self._schema):
                raise IntegrityError("the written file has another schema than it was given")
            return [
                [_chunk(metadata.row_group(g).column(c)) for c in range(metadata.num_columns)]
                for g in range(metadata.num_row_groups)
            ]
        finally:
            client.wipe()

    def _table(
        self, metadata: list[list[tuple[int, int]]], file: WrittenFile, unique: bytes
    ) -> BlockTable:
        block_rows, blocks, left = self.geometry.block_rows, [], self.rows
        for group in range(len(metadata)):
            in_group = min(left, self.geometry.row_group_rows)
            left -= in_group
            counts = [min(block_rows, in_group - at) for at in range(0, in_group, block_rows)]
            blocks += [(group, page, rows) for page, rows in enumerate(counts)]
        columns, places = [], []
        for ordinal, name in enumerate(self._leaves):
            if not name.isdigit() or int(name) not in self.plan.direct:
                continue
            width = _width(self._schema.field(f"f{name}").type)
            key = self._keys.keys[dek_id(self.plan.dataset_id, self.shard_id, name)]
            pages = DirectColumn(file, PageOpener(key, unique), ordinal, width)
            chunks = [row_group[ordinal] for row_group in metadata]
            columns.append(TableColumn(field_id=int(name), width=width, ordinal=ordinal))
            places.append(pages.places(chunks, blocks))
        return BlockTable(
            rows=self.rows,
            block_rows=block_rows,
            columns=tuple(columns),
            blocks=tuple(blocks),
            places=tuple(places),
        )


def _width(kind: Any) -> int:
    return int(kind.byte_width if pa.types.is_fixed_size_binary(kind) else kind.bit_width // 8)


def _chunk(column: Any) -> tuple[int, int]:
    start = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset is not None:
        start = min(start, column.dictionary_page_offset)
    return start, column.total_compressed_size
