"""Write the vectors of view-v0 (nonces are random: run it only after a change)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway.crypto.pages import seal_frame

HERE = Path(__file__).parent / "view-v0"
KEY, VIEW, DIGEST = bytes(range(32)), "view-1", "ab" * 32


def frames(batches: list[Any], count: int | None = None) -> list[bytes]:
    place = {"view": VIEW, "plan_digest": DIGEST, "count": count or len(batches)}
    return [
        seal_frame(KEY, batch.serialize().to_pybytes(), number=number, **place)
        for number, batch in enumerate(batches)
    ]


def write(name: str, sealed: list[bytes], schema: Any, **changes: Any) -> None:
    value = {
        "key": KEY.hex(), "view": VIEW, "plan_digest": DIGEST, "count": len(sealed),
        "schema": schema.serialize().to_pybytes().hex(), "frames": [f.hex() for f in sealed],
    }  # fmt: skip
    (HERE / f"{name}.json").write_text(json.dumps({**value, **changes}, indent=1) + "\n")


def main() -> None:
    table = pa.table({"age": [1, 2, 3], "name": ["x", None, "é"]})
    batches = table.to_batches(max_chunksize=2)
    good, schema = frames(batches), table.schema
    write("ok-two-frames", good, schema)
    write("ok-one-frame", frames(table.to_batches()), schema)
    write("ok-no-frame", [], schema)
    write("bad-integrity-swapped", good[::-1], schema)
    write("bad-integrity-last-missing", good[:1], schema)
    write("bad-integrity-not-marked-last", frames(batches, count=3), schema)
    write("bad-integrity-other-view", good, schema, view="view-2")
    write("bad-integrity-other-plan", good, schema, plan_digest="cd" * 32)
    write("bad-integrity-other-key", good, schema, key=bytes(32).hex())
    write("bad-integrity-cut-off", [good[0], good[1][:-1]], schema)


if __name__ == "__main__":
    main()
