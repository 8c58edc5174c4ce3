"""Flip bits of every kind of stored object, one at a time, and read each with all its keys.

`python -m tests.shards.flips COUNT` prints `{"flips", "silent", "refused"}`. Silent is a flip
after which something was read, without an error, that is not what was stored.
`tests/bench/sealed.py`
runs it in a child, where a crash shows as the child's end.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.kms.local_file import LocalFileKms
from gateway.crypto.vault import SYSTEM_TENANT, KeyVault
from gateway.delivery.sources import DirectReader, Maps, Piece
from gateway.domain.block_table import BlockTable
from gateway.domain.dataset import Column, Split
from gateway.domain.manifest import Manifest
from gateway.errors import GatewayError
from gateway.shards.reader import ShardReader
from gateway.shards.shard_file import FilePlan, SealedFile, ShardFile
from tests.bench.sealed import direct_source, people, plan_of, seal, tokens

Read = Callable[[bytes], Any]  # of the stored bytes; an error, or what a reader gets


def whole_file(path: Path, plan: FilePlan, sealed: SealedFile) -> Read:
    """Every column through the guarded reader."""
    keys = {dek.id: dek.key for dek in sealed.deks}

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        reader = ShardReader(path, plan, sealed.shard, keys)
        try:
            return [b.to_pydict() for b in reader.batches(plan.field_ids, rows=4096)]
        finally:
            reader.close()

    return read


def pages(path: Path, plan: FilePlan, sealed: SealedFile) -> Read:
    """Every page of the first column, straight from the mapped file."""
    source, block = direct_source(path, sealed, plan, 4096), sealed.shard.block_rows
    rows = sealed.shard.rows

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        reader, out = DirectReader(source, Maps()), bytearray(rows * 4096)
        for n, at in enumerate(range(0, rows, block)):
            size = min(block, rows - at) * 4096
            reader.open(Piece(size, n, 0), memoryview(out)[at * 4096 :][:size])
        return out

    return read


def sheet(folder: Path, sealed: SealedFile, dataset: str) -> tuple[bytes, Read]:
    """Every key of a version's KeySheet."""
    vault = KeyVault(folder / "vault", LocalFileKms(folder / "roots"))
    for tenant in (SYSTEM_TENANT, "clinic"):
        vault.add_tenant(tenant)
    vault.new_sheet("clinic", dataset, 1, {dek.id: dek for dek in sealed.deks})
    path, ids = vault.sheet_path(dataset, 1), [dek.id for dek in sealed.deks]

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        again = KeyVault(folder / "vault", LocalFileKms(folder / "roots"))
        return again.open_deks("clinic", dataset, 1, 1, ids)

    return path.read_bytes(), read


def objects(folder: Path) -> list[tuple[bytes, Read]]:
    """The bytes of each stored object, and how it is read."""
    found: list[tuple[bytes, Read]] = []
    archive, train = people(400), tokens(24)
    for name, table, profile in (("archive", archive, "archive"), ("train", train, "train")):
        plan, path = plan_of(table, profile), folder / name
        sealed = seal(path, table, plan, ShardFile)
        data, footer = path.read_bytes(), sealed.shard.footer_bytes
        read = whole_file(path, plan, sealed)
        found += [(data, read), (data[-footer:], _footer_of(data, footer, read))]
    found.append((data, pages(path, plan, sealed)))
    digest, size = sealed.shard.table_sha256, len(data)
    found.append((sealed.table, lambda d: BlockTable.from_bytes(d, digest=digest, file_bytes=size)))
    manifest = manifest_of(plan, sealed)
    stands = manifest.digest
    found.append((manifest.to_bytes(), lambda d: Manifest.from_bytes(d, digest=stands)))
    return [*found, sheet(folder, sealed, plan.dataset_id)]


def _footer_of(data: bytes, length: int, read: Read) -> Read:
    return lambda footer: read(data[:-length] + footer)


def manifest_of(plan: FilePlan, sealed: SealedFile) -> Manifest:
    """A Manifest of one shard."""
    return Manifest(
        dataset="clinic/tokens",
        dataset_id=plan.dataset_id,
        version=1,
        profile=plan.profile,
        columns=(Column(field_id=1, name="tokens", type="fixed_size_list<int32>[1024]"),),
        direct=(1,),
        schema=base64.b64encode(plan.schema.serialize()).decode(),
        splits=(Split(name="all", rows=sealed.shard.rows),),
        shards=(sealed.shard,),
    )


def campaign(folder: Path, count: int, seed: int = 7) -> dict[str, int]:
    """Flip `count` bits, spread evenly over the objects."""
    chance = random.Random(seed)
    stored = [(data, read, read(data)) for data, read in objects(folder)]
    silent = refused = 0
    for n in range(count):
        data, read, right = stored[n % len(stored)]
        bit = chance.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            silent += read(bytes(flipped)) != right
        except GatewayError:
            refused += 1
    return {"flips": count, "silent": silent, "refused": refused}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(campaign(Path(temporary), int(sys.argv[1]))))
