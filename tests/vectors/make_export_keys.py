"""Write the vectors of export-keys-v1."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import gateway.wire as W
from gateway.client.export_keys import key_file

HERE = Path(__file__).parent / "export-keys-v1"
SHARD, DATASET = "5" * 32, "d" * 32
LEAVES = {"1": "f1", "3.0": "f3.list.element"}


def name(leaf: str) -> str:
    return f"ref:{DATASET}/{SHARD}/{leaf}"


def released(**changes: Any) -> W.Export:
    """A release of one shard: a plain column, and a nested one with an odd name."""
    fields: dict[str, Any] = {
        "id": "grant_" + "a" * 26,
        "decision": "dec_" + "a" * 26,
        "dataset": "clinic/icu@3",
        "dataset_id": DATASET,
        "purpose": "health-research",
        "split": "train",
        "recipient": "startup/ml",
        "released_at": "2026-12-01T00:00:00Z",
        "columns": (
            W.ExportedColumn(name="age", field_id=1, physical="f1", type="int32"),
            W.ExportedColumn(
                name="gr\u00f6\u00dfe, in: cm", field_id=3, physical="f3", type="list<item: double>"
            ),
        ),
        "shards": (
            W.ExportedShard(
                id=SHARD,
                split="train",
                rows=7,
                bytes=1000,
                sha256="ab" * 32,
                footer_key=name("footer"),
                column_keys={leaf: name(leaf) for leaf in LEAVES},
            ),
        ),
        "keys": {
            name(leaf): base64.b64encode(bytes([n]) * 32).decode()
            for n, leaf in enumerate(("footer", *LEAVES), 1)
        },
    }
    return W.Export(**{**fields, **changes})


def main() -> None:
    HERE.mkdir(exist_ok=True)
    text = json.dumps(key_file(released(), LEAVES), indent=1)
    (HERE / "ok-nested.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
