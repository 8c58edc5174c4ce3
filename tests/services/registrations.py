"""Register real tables with the real children, and read back what was sealed, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.domain.manifest import Manifest
from gateway.services import register, uploads
from gateway.services.house import House
from gateway.services.operations import Operation
from gateway.services.request_access import Caller
from gateway.services.storage import load_manifest, open_keys
from gateway.shards.reader import ShardReader, file_plan
from tests.shards.kit import ipc_bytes


async def uploaded(
    house: House, owner: Caller, dataset: str, table: Any, **options: Any
) -> W.Registration:
    """An upload whose parts have all arrived."""
    data = ipc_bytes(table)
    files = (W.SourceFile(name="t.arrow", bytes=len(data)),)
    wanted = W.RegistrationRequest(dataset=dataset, files=files, **options)
    begun = await uploads.begin(house, owner, wanted)

    async def body() -> AsyncIterator[bytes]:
        yield data

    await uploads.put_part(house, owner, begun.id, (0, 0), body())
    return begun


async def ended(operation: Operation) -> dict[str, Any]:
    """The result of an Operation, or its error raised."""
    assert operation.task is not None
    await asyncio.wait((operation.task,))
    if operation.error is not None:
        raise operation.error
    return operation.result


async def registered(
    house: House, owner: Caller, dataset: str, table: Any, **options: Any
) -> dict[str, Any]:
    begun = await uploaded(house, owner, dataset, table, **options)
    return await ended(await register.commit(house, owner, begun.id))


def manifest_of(house: House, ref: str) -> Manifest:
    return load_manifest(house, DatasetRef.parse(ref))


def rows_of(house: House, ref: str, split: str | None = None) -> Any:
    """All rows of a version, opened with the keys of its own sheet, in reading order."""
    manifest = manifest_of(house, ref)
    ids = tuple(column.field_id for column in manifest.columns)
    found = []
    for shard in manifest.shards_of(split):
        keys = open_keys(house, house.catalog.version(DatasetRef.parse(ref)), shard.leaves)
        path = house.store.local_path(shard.object_key)
        assert path is not None
        reader = ShardReader(path, file_plan(manifest), shard, keys)
        found += list(reader.batches(ids, rows=1 << 16))
        reader.close()
    return pa.Table.from_batches(found)
