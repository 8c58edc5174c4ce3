"""Write the vectors of docs/formats/order-v0.md; run from the repository root, once per version."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.domain.lease import OrderSpec
from gateway.domain.order import Deal, GlobalOrder, lay_out, order_id, permutation, window_key

HERE = Path(__file__).parent / "order-v0"
KEY = bytes(range(32))
ORDER = OrderSpec(shuffle=True, lanes=8, window_blocks=64)
POSITION = {
    "v": 0, "order": order_id(KEY, ORDER), "seed": 7, "epoch": 2, "shuffle": True, "lanes": 8,
    "window": 64, "rows": 123_456,
}  # fmt: skip


def write(name: str, **value: Any) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


def ok() -> None:
    for name, key, label, count in (
        ("zero", bytes(32), 0, 8),
        ("counting", KEY, 0, 33),
        ("label", KEY, 5, 12),
        ("one", KEY, 1 << 40, 1),
    ):
        found = permutation(key, label, count).tolist()
        write(f"ok-permutation-{name}", kind="permutation", key=key.hex(), label=label,
              count=count, permutation=found)  # fmt: skip
    write("ok-keys", kind="keys", order_key=KEY.hex(), window_key=window_key(KEY).hex(),
          spec=asdict(ORDER), order_id=order_id(KEY, ORDER))  # fmt: skip
    spec = OrderSpec(shuffle=True, lanes=3, window_blocks=4)
    rows, sizes = [64] * 30 + [17], [1 << 20] * 30 + [20 << 20]
    segments = [asdict(s) for s in lay_out(KEY, spec, rows, sizes)]
    write("ok-segments", kind="segments", order_key=KEY.hex(), spec=asdict(spec), rows=rows,
          sizes=sizes, segments=segments)  # fmt: skip
    lanes = [7, 0, 12, 5]
    steps = []
    for position in (0, 8, 16):
        ranks = [GlobalOrder(lanes).batch(position, Deal(rank=r, world=2, batch_rows=4))
                 for r in range(2)]  # fmt: skip
        steps.append([[[s.lane, s.start, s.count] for s in rank] for rank in ranks])
    write("ok-batches", kind="batches", lane_rows=lanes, world=2, batch_rows=4, uneven="pad",
          steps=steps)  # fmt: skip
    write("ok-position", kind="position", position=POSITION, order=POSITION["order"],
          order_rows=200_000)  # fmt: skip


def bad() -> None:
    write("bad-invalid-input-key-length", kind="permutation", key="00" * 31, label=0, count=4,
          error="invalid-input")  # fmt: skip
    batches = {"kind": "batches", "steps": [], "error": "invalid-input"}
    write("bad-invalid-input-world", **batches, lane_rows=[4, 4], world=3, batch_rows=1,
          uneven="pad")  # fmt: skip
    write("bad-invalid-input-uneven", **batches, lane_rows=[4, 3], world=2, batch_rows=2,
          uneven="error")  # fmt: skip
    for name, change, error in (
        ("version", {"v": 1}, "invalid-input"),
        ("member", {"rank": 0}, "invalid-input"),
        ("negative", {"rows": -1}, "invalid-input"),
        ("text", {"rows": "5"}, "invalid-input"),
        ("order", {"order": "0" * 16}, "plan-changed"),
        ("beyond", {"rows": 200_001}, "plan-changed"),
    ):
        write(f"bad-{error}-position-{name}", kind="position", position={**POSITION, **change},
              order=POSITION["order"], order_rows=200_000, error=error)  # fmt: skip


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    ok()
    bad()
