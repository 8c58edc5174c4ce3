"""What kills or hangs pyarrow kills or hangs a child, and our reader never gets there.

Reproduced on purpose: should a newer pyarrow behave, the first tests fail and the guard can
become simpler (research: columns without keys).
"""

from __future__ import annotations

import select
from pathlib import Path

import pyarrow as pa
import pytest

from gateway.errors import IntegrityError
from gateway.process.spawn import Child, Confinement, Launch, spawn
from gateway.shards.reader import ShardReader, file_plan
from tests.shards.kit import Registered, parquet_bytes, register


@pytest.fixture(scope="module")
def two_columns(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    table = pa.table({"secret": range(1000), "open": range(1000)})
    return register(tmp_path_factory.mktemp("killers"), parquet_bytes(table), profile="archive")


def keys_of_open(registered: Registered) -> dict[str, bytes]:
    shard = registered.manifest.shards[0]
    return {leaf.dek: registered.keys[leaf.dek] for leaf in (shard.footer, *shard.leaves_of({2}))}


def provoke(path: str, act: str, keys: dict[str, bytes]) -> Child:
    launch = Launch(
        module="tests.shards.killers",
        confinement=Confinement(sandboxed=False, open_files_max=256),
        options={"path": path, "act": act},
    )
    child = spawn(launch)
    child.channel.send("go", keys={name: key.hex() for name, key in keys.items()})
    return child


def test_metadata_of_a_column_without_key_aborts_the_process(two_columns: Registered) -> None:
    with provoke(two_columns.path(), "metadata", keys_of_open(two_columns)) as child:
        assert child.process.wait(timeout=60) == -6


def test_a_filter_over_a_column_without_key_hangs_or_aborts(two_columns: Registered) -> None:
    with provoke(two_columns.path(), "filter", keys_of_open(two_columns)) as child:
        ready = select.poll()
        ready.register(child.channel.socket, select.POLLIN)
        answered = ready.poll(3000)
        assert not answered or child.process.wait(timeout=60) == -6


def test_a_plaintext_file_is_read_as_if_it_were_sealed(tmp_path: Path) -> None:
    path = tmp_path / "plain.parquet"
    path.write_bytes(parquet_bytes(pa.table({"f1": [1]})))
    with provoke(str(path), "plain", {}) as child:
        assert child.channel.receive().kind == "done"


def test_our_reader_refuses_all_three_before_pyarrow_sees_them(
    two_columns: Registered, tmp_path: Path
) -> None:
    shard, plan = two_columns.manifest.shards[0], file_plan(two_columns.manifest)
    reader = ShardReader(two_columns.path(), plan, shard, keys_of_open(two_columns))
    assert sum(len(batch) for batch in reader.batches((2,), rows=100)) == 1000
    with pytest.raises(IntegrityError, match="without its key"):
        next(reader.batches((1,), rows=100))
    with pytest.raises(IntegrityError, match="without its key"):
        next(reader.batches((1, 2), rows=100))
    reader.close()
    plain = tmp_path / "plain.parquet"
    plain.write_bytes(parquet_bytes(pa.table({"f1": [1]})))
    with pytest.raises(IntegrityError):
        ShardReader(plain, plan, shard, two_columns.keys)
