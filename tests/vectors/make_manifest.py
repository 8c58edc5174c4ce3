"""Write the vectors of manifest-v1 and block-table-v1 (run it after a change of the format)."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from gateway.domain.block_table import BlockTable, TableColumn
from gateway.domain.dataset import Column, Split
from gateway.domain.manifest import FOOTER, Leaf, Manifest, Shard, dek_id

HERE = Path(__file__).parent
DATASET = "0123456789abcdef0123456789abcdef"


def _hex(text: str, digits: int = 64) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _shard(name: str, split: str, rows: int, leaves: tuple[str, ...]) -> Shard:
    uuid = _hex(name, 32)
    return Shard(
        id=uuid,
        origin_version=1,
        split=split,
        rows=rows,
        bytes=rows * 16 + 4000,
        block_rows=64,
        sha256=_hex(name + "file"),
        footer_sha256=_hex(name + "footer"),
        footer_bytes=900,
        table_sha256=_hex(name + "table"),
        aad_file_unique=_hex(name, 16),
        leaves=tuple(
            Leaf(name=leaf, dek=dek_id(DATASET, uuid, leaf), commitment=_hex(name + leaf))
            for leaf in (FOOTER, *leaves)
        ),
    )


def manifest() -> Manifest:
    columns = (
        Column(field_id=1, name="age", type="int32", nullable=False),
        Column(field_id=3, name="größe, cm", type="double"),
    )
    shards = (_shard("a", "train", 130, ("1", "3")), _shard("b", "test", 64, ("1", "3")))
    return Manifest(
        dataset="clinic/icu",
        dataset_id=DATASET,
        version=2,
        profile="train",
        columns=columns,
        direct=(1,),
        schema=base64.b64encode(b"arrow schema").decode(),
        splits=(Split(name="train", rows=130), Split(name="test", rows=64)),
        shards=shards,
        card={"title": "ICU stays", "licence": "none"},
    )


def table() -> BlockTable:
    blocks = ((0, 0, 64), (0, 1, 64), (1, 0, 2))
    return BlockTable(
        rows=130,
        block_rows=64,
        columns=(
            TableColumn(field_id=1, width=4, ordinal=0),
            TableColumn(field_id=2, width=8, ordinal=1),
        ),
        blocks=blocks,
        places=(
            ((60, 288), (404, 288), (1600, 40)),
            ((700, 544), (1300, 544), (1900, 48)),
        ),
    )


def write_manifests() -> None:
    good = manifest()
    plain = json.loads(good.to_bytes())

    def changed(**changes: object) -> bytes:
        value = {**plain, **changes}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    shard = plain["shards"][0]
    swapped = [shard["leaves"][0], {**shard["leaves"][1], "dek": shard["leaves"][2]["dek"]}]
    vectors = {
        "ok-two-splits": good.to_bytes(),
        "ok-archive-nested": replace(
            good,
            profile="archive",
            direct=(),
            splits=(Split(name="all", rows=64),),
            shards=(_shard("c", "all", 64, ("1", "3.0", "3.1")),),
        ).to_bytes(),
        "ok-append": replace(good, version=9).to_bytes(),
        "ok-metadata": replace(good, metadata={"3": {"unit": "cm", "label": "Größe"}}).to_bytes(),
        "bad-integrity-metadata-of-no-column": changed(metadata={"2": {"unit": "cm"}}),
        "bad-integrity-metadata-of-another-key": changed(metadata={"3": {"pandas": "x"}}),
        "bad-integrity-metadata-empty": changed(metadata={"3": {}}),
        "bad-integrity-not-canonical": json.dumps(plain).encode(),
        "bad-integrity-other-format": changed(format="manifest-v2"),
        "bad-integrity-unknown-key": changed(extra=1),
        "bad-integrity-rows-of-split": changed(splits=[{"name": "train", "rows": 130}]),
        "bad-integrity-shard-twice": changed(shards=[shard, shard]),
        "bad-integrity-key-of-another-leaf": changed(
            shards=[{**shard, "leaves": swapped}, plain["shards"][1]]
        ),
        "bad-integrity-shard-from-the-future": changed(version=0),
        "bad-integrity-direct-of-no-column": changed(direct=[2]),
    }
    for name, data in vectors.items():
        (HERE / "manifest-v1" / f"{name}.json").write_bytes(data)


def write_tables() -> None:
    good = table()
    data = good.to_bytes()
    one = replace(
        good,
        rows=64,
        columns=good.columns[:1],
        blocks=good.blocks[:1],
        places=(good.places[0][:1],),
    )
    longer = replace(good, places=(((60, 289), *good.places[0][1:]), good.places[1]))
    backwards = replace(good, places=(((404, 288), (60, 288), (1600, 40)), good.places[1]))
    skipping = replace(good, blocks=((0, 0, 64), (0, 2, 64), (1, 0, 2)))
    shorter = replace(good, blocks=((0, 0, 64), (0, 1, 63), (1, 0, 2)))
    vectors = {
        "ok-two-columns": data,
        "ok-one-block": one.to_bytes(),
        "ok-archive": replace(good, columns=(), places=()).to_bytes(),
        "bad-integrity-other-magic": b"GWB2" + data[4:],
        "bad-integrity-cut-off": data[:-1],
        "bad-integrity-length-of-page": longer.to_bytes(),
        "bad-integrity-backwards": backwards.to_bytes(),
        "bad-integrity-skipped-page": skipping.to_bytes(),
        "bad-integrity-short-block": shorter.to_bytes(),
        "bad-integrity-field-twice": replace(good, columns=(good.columns[0],) * 2).to_bytes(),
    }
    for name, content in vectors.items():
        (HERE / "block-table-v1" / f"{name}.bin").write_bytes(content)


if __name__ == "__main__":
    write_manifests()
    write_tables()
