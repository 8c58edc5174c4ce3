"""Sealed files against plain ones: reading, direct pages, sealing, rotation, flipped bits.

In this process, with one thread, both sides of a ratio by turns over the same rows in files
with the same settings: the median over the rounds of the ratio of processor times. "Plain" is
pyarrow without encryption, as a user calls it. Flipped bits run in a child, so that a crash is
a number here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import rewrap
from gateway.crypto.key_sheet import Dek
from gateway.crypto.vault import SYSTEM_TENANT, KeyVault
from gateway.delivery.sources import DirectReader, Maps, Piece
from gateway.delivery.spec import DirectColumn, DirectShard, DirectSource
from gateway.shards import geometry
from gateway.shards.memory import keep_small
from gateway.shards.reader import ShardReader
from gateway.shards.shard_file import FilePlan, SealedFile, ShardFile

ROOT = Path(__file__).resolve().parents[2]
ROWS = 65_536
Side = Callable[[], None]


class Lz4File(ShardFile):
    """As the archive profile, with lz4: what the reader costs where unpacking is cheap."""

    @staticmethod
    def settings(profile: str, shape: geometry.Geometry) -> dict[str, Any]:
        """The archive's, but lz4."""
        return ShardFile.settings(profile, shape) | {
            "compression": "lz4",
            "compression_level": None,
        }


def people(rows: int) -> Any:
    """Whole numbers, fractions, words, missing values."""
    random = np.random.default_rng(7)
    names = pa.array([f"person number {n}" for n in range(5000)])
    gaps = random.random(rows) < 0.1
    return pa.table(
        {
            "id": np.arange(rows),
            "name": names.take(pa.array(random.integers(0, 5000, rows))),
            "age": pa.array(random.integers(0, 100, rows), mask=gaps),
            **{f"x{n}": random.normal(100, 15, rows).round(2) for n in range(5)},
        }
    )


def tokens(rows: int) -> Any:
    """Rows of 1,024 token ids."""
    values = np.random.default_rng(7).integers(0, 50_000, rows * 1024, dtype="i4")
    return pa.table({"tokens": pa.FixedSizeListArray.from_arrays(pa.array(values), 1024)})


def shape_of(table: Any, widest: int) -> geometry.Geometry:
    return geometry.plan(
        widest_bytes=widest,
        row_bytes=table.nbytes // len(table),
        rows=len(table),
        shard_bytes=1 << 40,
        row_group_bytes=geometry.ROW_GROUP_BYTES,
    )


def plan_of(table: Any, profile: str) -> FilePlan:
    ids = tuple(range(1, table.num_columns + 1))
    train = profile == "train"
    schema = pa.schema([f.with_nullable(not train) for f in table.schema])
    return FilePlan(
        dataset_id=uuid.uuid4().hex, version=1, profile=profile, schema=schema, field_ids=ids,
        direct=frozenset(ids if train else ()),
    )  # fmt: skip


def seal(path: Path, table: Any, plan: FilePlan, made_by: type[ShardFile]) -> SealedFile:
    shape = shape_of(table, 4096)
    file = made_by(path, plan, shape, shard_id=uuid.uuid4().hex, split="all")
    for batch in table.cast(plan.schema).to_batches(max_chunksize=ROWS):
        file.add(batch)
    return file.finish()


def write_plain(path: Path, table: Any, settings: dict[str, Any], rows: int) -> None:
    with pq.ParquetWriter(str(path), table.schema, **settings) as writer:
        writer.write_table(table, row_group_size=rows)


def by_turns(sides: dict[str, Side], runs: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; the first round is not counted.

    Every other round goes backwards, so that no side always comes after the same other.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(runs + 1):
        order = list(sides.items())
        for name, side in reversed(order) if number % 2 else order:
            start = time.process_time()
            side()
            taken[name].append(time.process_time() - start)
    return {name: times[1:] for name, times in taken.items()}


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Median over the rounds: both sides of each were measured one after the other."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def fact(metric: str, value: float, unit: str, goal: str, runs: int) -> dict[str, Any]:
    sign, _, bound = goal.partition(" ")
    held = value >= float(bound) if sign == ">=" else value <= float(bound)
    return {
        "bench": "sealed", "metric": metric, "value": round(value, 3), "unit": unit,
        "goal": goal, "ok": held, "runs": runs,
    }  # fmt: skip


def reading(folder: Path, rows: int, runs: int, codec: str) -> dict[str, Any]:
    """The guarded reader over an archive, against pyarrow over the same without encryption."""
    table, made_by = people(rows), {"zstd": ShardFile, "lz4": Lz4File}[codec]
    plan, sealed_path, plain = plan_of(table, "archive"), folder / "sealed", folder / "plain"
    sealed = seal(sealed_path, table, plan, made_by)
    shape = shape_of(table, 4096)
    write_plain(plain, table, made_by.settings("archive", shape), shape.row_group_rows)
    keys = {dek.id: dek.key for dek in sealed.deks}

    def ours() -> None:
        reader = ShardReader(sealed_path, plan, sealed.shard, keys)
        assert sum(len(b) for b in reader.batches(plan.field_ids, rows=ROWS)) == rows
        reader.close()

    def theirs() -> None:
        with pq.ParquetFile(plain) as file:
            assert sum(len(b) for b in file.iter_batches(ROWS, use_threads=False)) == rows

    took = by_turns({"ours": ours, "theirs": theirs}, runs)
    goal = {"zstd": ">= 0.95", "lz4": ">= 0.9"}[codec]
    metric = f"archive, {codec}: our encrypted read / pyarrow {pa.__version__} plaintext read"
    return fact(metric, ratio(took["theirs"], took["ours"]), "x", goal, runs)


def sealing(folder: Path, rows: int, runs: int) -> dict[str, Any]:
    """Sealing and checking a file, against pyarrow writing it without encryption."""
    table = people(rows)
    plan, shape = plan_of(table, "archive"), shape_of(table, 4096)
    settings = ShardFile.settings("archive", shape)

    def ours() -> None:
        seal(folder / "sealed", table, plan, ShardFile)

    def theirs() -> None:
        write_plain(folder / "plain", table, settings, shape.row_group_rows)

    took = by_turns({"ours": ours, "theirs": theirs}, runs)
    metric = f"archive, zstd: sealing / pyarrow {pa.__version__} plaintext write"
    return fact(metric, ratio(took["theirs"], took["ours"]), "x", ">= 0.85", runs)


def direct_source(path: Path, sealed: SealedFile, plan: FilePlan, width: int) -> DirectSource:
    shard = sealed.shard
    leaf = shard.leaves_of({1})[0]
    keys = {dek.id: dek.key for dek in sealed.deks}
    return DirectSource(
        columns=(DirectColumn(field_id=1, name=plan.schema.names[0], width=width),),
        shards=(
            DirectShard(
                path=str(path), file_bytes=shard.bytes, table=sealed.table,
                table_sha256=shard.table_sha256, aad_file_unique=shard.aad_file_unique,
                deks={1: keys[leaf.dek]},
            ),
        ),
    )  # fmt: skip


def direct(folder: Path, rows: int, runs: int) -> list[dict[str, Any]]:
    """The page reader over tokens, against pyarrow over both plain layouts of the same values."""
    table, path, width = tokens(rows), folder / "sealed", 4096
    plan = plan_of(table, "train")
    sealed = seal(path, table, plan, ShardFile)
    shape = shape_of(table, width)
    settings = ShardFile.settings("train", shape)
    values = table["tokens"].combine_chunks().flatten().buffers()[1]
    binary = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, values])
    one = pa.schema([pa.field("tokens", pa.binary(width), nullable=False)])
    write_plain(folder / "fsb", pa.table([binary], one), settings, shape.row_group_rows)
    write_plain(folder / "fsl", table.cast(plan.schema), settings, shape.row_group_rows)
    reader = DirectReader(direct_source(path, sealed, plan, width), Maps())
    block, count = sealed.shard.block_rows, -(-rows // sealed.shard.block_rows)
    out = memoryview(bytearray(block * width))

    def ours() -> None:
        for n in range(count):
            here = min(block, rows - n * block) * width
            reader.open(Piece(here, n, 0), out[:here])

    def theirs(name: str) -> Side:
        def read() -> None:
            with pq.ParquetFile(folder / name) as file:
                groups = range(file.num_row_groups)
                got = (file.read_row_group(g, use_threads=False) for g in groups)
                assert sum(len(t) for t in got) == rows

        return read

    took = by_turns({"ours": ours, "fsl": theirs("fsl"), "fsb": theirs("fsb")}, runs)
    text = f"direct pages of tokens ({rows:,} x 1,024 int32) / pyarrow {pa.__version__} plaintext"
    goals = {"fsl": ("FIXED_SIZE_LIST", ">= 3"), "fsb": ("FIXED_SIZE_BINARY", ">= 1")}
    return [
        fact(f"{text} {kind}", ratio(took[name], took["ours"]), "x", goal, runs)
        for name, (kind, goal) in goals.items()
    ]


def rotation(folder: Path, keys: int, runs: int) -> list[dict[str, Any]]:
    """New keys that wrap the data keys of ten versions; then a new root."""
    vault = KeyVault(folder / "vault", LocalFileKms(folder / "roots"))
    for tenant in (SYSTEM_TENANT, "clinic"):
        vault.add_tenant(tenant)
    dataset, each = uuid.uuid4().hex, keys // 10
    for version in range(1, 11):
        shards = [uuid.uuid4().hex for _ in range(each)]
        deks = [
            Dek(id=f"{dataset}/{s}/1", key=bytes(32), shard=s, leaf="1", origin_version=version)
            for s in shards
        ]
        vault.new_sheet("clinic", dataset, version, {dek.id: dek for dek in deks})

    def keks() -> None:
        rewrap.renew_keks(vault, "clinic")
        rewrap.rewrap_sheets(vault, "clinic", dataset)
        rewrap.move_ring(vault, "clinic")

    def root() -> None:
        rewrap.move_ring(vault, "clinic", root=rewrap.renew_root(vault, "clinic"))
        rewrap.destroy_older_roots(vault, "clinic")

    took = by_turns({"keks": keks, "root": root}, runs)
    text = f"local keyring: {keys:,} data keys under a new"
    return [
        fact(f"{text} KEK", statistics.median(took["keks"]), "s", "<= 1", runs),
        fact(f"{text} root", statistics.median(took["root"]), "s", "<= 1", runs),
    ]


def flips(count: int) -> list[dict[str, Any]]:
    """In a child: bits of every kind of stored object, one at a time."""
    command = [sys.executable, "-m", "tests.shards.flips", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    said = json.loads(done.stdout) if done.returncode == 0 else {"flips": 0, "silent": -1}
    text = f"{said['flips']:,} flipped bits of data, footer, manifest, sheet, block table"
    return [
        fact(f"{text}: silent changes", abs(said["silent"]), "", "<= 0", 1),
        fact(f"{text}: crashes", int(done.returncode != 0), "", "<= 0", 1),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="small tables, few flips")
    args = parser.parse_args()
    keep_small()  # as the processes do that read and seal
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    rows, runs, bits = (400_000, 5, 300) if args.quick else (2_000_000, 9, 10_000)
    rounds = 21 if args.quick else 81  # of reading: short, and the ratio is near its goal
    benches: list[Callable[[Path], dict[str, Any] | list[dict[str, Any]]]] = [
        lambda folder: reading(folder, rows, rounds, "zstd"),
        lambda folder: reading(folder, rows, rounds, "lz4"),
        lambda folder: direct(folder, 32_768 if args.quick else 262_144, runs),
        lambda folder: sealing(folder, rows, runs),
        lambda folder: rotation(folder, 10_000, runs),
        lambda _folder: flips(bits),
    ]
    held = True
    for bench in benches:
        with tempfile.TemporaryDirectory() as folder:
            found = bench(Path(folder))
        for line in found if isinstance(found, list) else [found]:
            held &= line["ok"]
            print(json.dumps(line) if args.json else line, flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
