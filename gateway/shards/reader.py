"""Read sealed shards: the one guarded way in. Decoder children only.

pyarrow takes a plaintext file where it expects an encrypted one, aborts the process when it
touches the metadata of a column whose key it lacks, and hangs on a filter over one. Hence it
never gets the sealed file nor a key: everything believed comes from the Manifest, the modules
of the columns asked for are opened by us (opened.py), pyarrow decodes those pages and knows of
no other column, and filters run on our side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.crypto.envelope import commitment
from gateway.domain.field_metadata import TENSOR
from gateway.domain.manifest import Leaf, Manifest, Shard
from gateway.errors import IntegrityError, InvalidInput
from gateway.shards.opened import OpenedShard
from gateway.shards.shard_file import FilePlan
from gateway.shards.types import from_direct, retyped
from gateway.shards.written import MAGIC, read_tail

_FAULTS = (pa.ArrowException, OSError, ValueError, LookupError, InvalidInput)


def file_plan(manifest: Manifest) -> FilePlan:
    """How the files of a version are laid out, from its Manifest; raises IntegrityError."""
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(manifest.schema_bytes))
    except (pa.ArrowException, ValueError, OSError) as cause:
        raise IntegrityError("the manifest's schema cannot be read") from cause
    if schema.names != [column.name for column in manifest.columns]:
        raise IntegrityError("the manifest's schema has other columns than the manifest")
    return FilePlan(
        dataset_id=manifest.dataset_id,
        version=manifest.version,
        profile=manifest.profile,
        schema=_described(schema, manifest),
        field_ids=tuple(column.field_id for column in manifest.columns),
        direct=frozenset(manifest.direct),
    )


def _described(schema: Any, manifest: Manifest) -> Any:
    """The schema with what the Manifest keeps of the columns' metadata."""
    fields = []
    for field, column in zip(schema, manifest.columns, strict=True):
        texts = dict(manifest.metadata.get(str(column.field_id), {}))
        texts.pop(TENSOR, None)  # stands in the type
        fields.append(field.with_metadata(texts or None))
    return pa.schema(fields)


class ShardReader:
    """One open shard, for some of its columns."""

    def __init__(
        self, path: str | Path, plan: FilePlan, shard: Shard, keys: Mapping[str, bytes]
    ) -> None:
        """Open the file that the Manifest calls `shard`.

        Args:
            path: of the sealed file on this host.
            plan: see `file_plan`.
            shard: the Manifest's entry.
            keys: DEK id -> key; of the footer and of every column that will be read.

        Raises:
            IntegrityError: the file is not that shard, or a key is not the recorded one.
        """
        self._plan, self._shard = plan, shard
        held = _held(shard, keys)
        self._keys = frozenset(held)
        self._source = pa.OSFile(str(path), "rb")
        tail = _checked_tail(self._source, shard)
        try:
            self._opened = OpenedShard(self._source, shard, tail, held)
            found = pq.read_schema(self._opened.without_rows())
        except _FAULTS as cause:
            raise IntegrityError(f"shard `{shard.id}` does not open") from cause
        if not found.equals(plan.physical_schema(), check_metadata=False):
            raise IntegrityError(f"shard `{shard.id}` has another schema than its manifest")

    def batches(self, field_ids: tuple[int, ...], *, rows: int) -> Iterator[Any]:
        """Yield batches of these columns under their logical names and types, in file order.

        Args:
            field_ids: columns of the version whose keys were given.
            rows: per batch; the last of a row group may be shorter.

        Raises:
            IntegrityError: a page is not the one that was sealed, or a key is missing.
        """
        fields = {
            i: (n, f)
            for n, (i, f) in enumerate(zip(self._plan.field_ids, self._plan.schema, strict=True))
        }
        wanted = sorted(field_ids, key=lambda i: fields[i][0])
        self._check_keys(wanted)
        schema = pa.schema([fields[i][1] for i in wanted])
        seen = 0
        try:
            for batch in self._decoded(wanted, rows):
                seen += len(batch)
                columns = [
                    self._logical(batch.column(f"f{i}"), i, fields[i][1].type) for i in wanted
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except _FAULTS as cause:
            raise IntegrityError(f"shard `{self._shard.id}` does not decrypt") from cause
        if seen != self._shard.rows:
            raise IntegrityError(f"shard `{self._shard.id}` has another number of rows")

    def close(self) -> None:
        """Close the file and let go of its keys."""
        self._opened.forget()
        self._source.close()

    def _decoded(self, field_ids: list[int], rows: int) -> Iterator[Any]:
        whole = self._plan.physical_schema()
        schema = pa.schema([whole.field(f"f{i}") for i in field_ids])
        for group in self._opened.groups(schema):
            with pq.ParquetFile(pa.BufferReader(group)) as file:
                yield from file.iter_batches(rows, use_threads=False)

    def _logical(self, column: Any, field_id: int, kind: Any) -> Any:
        return from_direct(column, kind) if field_id in self._plan.direct else retyped(column, kind)

    def _check_keys(self, field_ids: list[int]) -> None:
        missing = [
            leaf for leaf in self._shard.leaves_of(set(field_ids)) if leaf.dek not in self._keys
        ]
        known = {leaf.field_id for leaf in self._shard.leaves}
        if missing or not field_ids or not set(field_ids) <= known:
            raise IntegrityError("a column was asked for without its key")


def _held(shard: Shard, keys: Mapping[str, bytes]) -> dict[str, bytes]:
    leaves: dict[str, Leaf] = {leaf.dek: leaf for leaf in shard.leaves}
    held = {name: key for name, key in keys.items() if name in leaves}
    for name, key in held.items():
        if commitment(key) != leaves[name].commitment:
            raise IntegrityError(f"the key `{name}` is not the one that the manifest names")
    if shard.footer.dek not in held:
        raise IntegrityError(f"the footer key of shard `{shard.id}` was not given")
    return held


def _checked_tail(source: Any, shard: Shard) -> bytes:
    size = source.size()
    if size != shard.bytes:
        raise IntegrityError(f"shard `{shard.id}` has another size than its manifest says")
    tail = source.read_at(shard.footer_bytes, size - shard.footer_bytes)
    if source.read_at(4, 0) != MAGIC or tail[-4:] != MAGIC:
        raise IntegrityError(f"shard `{shard.id}` is not an encrypted file")
    if hashlib.sha256(tail).hexdigest() != shard.footer_sha256:
        raise IntegrityError(f"shard `{shard.id}` has another footer than its manifest says")
    if read_tail(tail)[0].hex() != shard.aad_file_unique:
        raise IntegrityError(f"shard `{shard.id}` is another file than its manifest says")
    return bytes(tail)
