"""A key seals few enough modules that random nonces never meet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from gateway.crypto.pages import OVERHEAD_BYTES
from gateway.errors import TooLarge
from gateway.shards import shard_file
from gateway.shards.geometry import Geometry
from gateway.shards.shard_file import FilePlan, ShardFile


def kit_file(path: Path, table: pa.Table) -> ShardFile:
    plan = FilePlan(
        dataset_id="0" * 32,
        version=1,
        profile="train",
        schema=pa.schema([pa.field("n", pa.int64(), nullable=False)]),
        field_ids=(1,),
        direct=frozenset({1}),
    )
    geometry = Geometry(block_rows=64, row_group_rows=1024, shard_rows=4096)
    made = ShardFile(path, plan, geometry, shard_id="1" * 32, split="all")
    for batch in table.to_batches():
        made.add(batch)
    return made


def test_the_writer_refuses_more_modules_than_one_key_may_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shard_file.MODULES_PER_DEK_MAX == 2**28
    table = pa.table({"n": list(range(4096))})
    written = kit_file(tmp_path / "fits", table)
    written.abort()
    monkeypatch.setattr(shard_file, "MODULES_PER_DEK_MAX", 64)
    assert 64 * OVERHEAD_BYTES < 4096 * 8
    with pytest.raises(TooLarge, match="under one key"):
        kit_file(tmp_path / "refused", table)
