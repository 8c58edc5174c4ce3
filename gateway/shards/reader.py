"""Read sealed shards: the one guarded way in. Decoder children only.

pyarrow takes a plaintext file where it expects an encrypted one, aborts the process when it
touches the metadata of a column whose key it lacks, and hangs on a filter over one. Hence:
everything believed comes from the Manifest, only columns whose keys are at hand are ever
named to pyarrow, no metadata is touched, filters run on our side, and after opening the
footer key must have been asked for.
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
from gateway.domain.manifest import Leaf, Manifest, Shard, dek_id
from gateway.errors import IntegrityError
from gateway.shards import pme
from gateway.shards.shard_file import FilePlan
from gateway.shards.types import from_direct, retyped
from gateway.shards.written import MAGIC, read_tail

_BUFFER_BYTES = 1 << 20


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
        self._held = _held(shard, keys)
        self._source = pa.OSFile(str(path), "rb")
        _check_file(self._source, shard)
        prefix = dek_id(plan.dataset_id, shard.id, "")
        properties, self._client = pme.reading(prefix, self._held)
        try:
            self._file = pq.ParquetFile(
                self._source,
                decryption_properties=properties,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
            )
        except (pa.ArrowException, OSError, ValueError) as cause:
            raise IntegrityError(f"shard `{shard.id}` does not open") from cause
        if shard.footer.dek not in self._client.asked:
            raise IntegrityError(f"shard `{shard.id}` is not encrypted")
        self._check_schema()

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
            for batch in self._file.iter_batches(
                rows, columns=[f"f{i}" for i in wanted], use_threads=False
            ):
                seen += len(batch)
                columns = [
                    self._logical(batch.column(f"f{i}"), i, fields[i][1].type) for i in wanted
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except (pa.ArrowException, OSError, ValueError) as cause:
            raise IntegrityError(f"shard `{self._shard.id}` does not decrypt") from cause
        if seen != self._shard.rows:
            raise IntegrityError(f"shard `{self._shard.id}` has another number of rows")

    def close(self) -> None:
        """Close the file and wipe its keys."""
        self._client.wipe()
        self._held.clear()
        self._file.close(force=True)
        self._source.close()

    def _logical(self, column: Any, field_id: int, kind: Any) -> Any:
        return from_direct(column, kind) if field_id in self._plan.direct else retyped(column, kind)

    def _check_keys(self, field_ids: list[int]) -> None:
        missing = [
            leaf for leaf in self._shard.leaves_of(set(field_ids)) if leaf.dek not in self._held
        ]
        known = {leaf.field_id for leaf in self._shard.leaves}
        if missing or not field_ids or not set(field_ids) <= known:
            raise IntegrityError("a column was asked for without its key")

    def _check_schema(self) -> None:
        # schema_arrow needs only the footer key; column metadata is never touched.
        found, expected = self._file.schema_arrow, self._plan.physical_schema()
        if not found.equals(expected, check_metadata=False):
            raise IntegrityError(f"shard `{self._shard.id}` has another schema than its manifest")


def _held(shard: Shard, keys: Mapping[str, bytes]) -> dict[str, bytes]:
    leaves: dict[str, Leaf] = {leaf.dek: leaf for leaf in shard.leaves}
    held = {name: key for name, key in keys.items() if name in leaves}
    for name, key in held.items():
        if commitment(key) != leaves[name].commitment:
            raise IntegrityError(f"the key `{name}` is not the one that the manifest names")
    if shard.footer.dek not in held:
        raise IntegrityError(f"the footer key of shard `{shard.id}` was not given")
    return held


def _check_file(source: Any, shard: Shard) -> None:
    size = source.size()
    if size != shard.bytes:
        raise IntegrityError(f"shard `{shard.id}` has another size than its manifest says")
    tail = source.read_at(shard.footer_bytes, size - shard.footer_bytes)
    if source.read_at(4, 0) != MAGIC or tail[-4:] != MAGIC:
        raise IntegrityError(f"shard `{shard.id}` is not an encrypted file")
    if hashlib.sha256(tail).hexdigest() != shard.footer_sha256:
        raise IntegrityError(f"shard `{shard.id}` has another footer than its manifest says")
    if read_tail(tail).hex() != shard.aad_file_unique:
        raise IntegrityError(f"shard `{shard.id}` is another file than its manifest says")
