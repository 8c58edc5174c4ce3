"""How long the lineage graph takes to walk 14 steps over three million edges that were claimed.

A layered graph of random edges is projected from claims, as OpenLineage events bring it; then it
is walked down and up, and a chain of 14 steps within it. Wall-clock medians, once warm.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.lineage.projection import Projection
from gateway.lineage.trace import Walk, trace

EDGES, EDGES_QUICK = 3_000_000, 100_000
RUNS, PER_EVENT, DEPTH, WIDTH = 5, 2000, 14, 10_000
NAMES_PER_EVENT = 500


@dataclass(slots=True)
class Happened:
    """A claim as the projection reads it."""

    index: int
    facts: dict[str, Any]
    kind: str = "LineageClaimed"
    time: float = 1_780_000_000.0
    owner_tenant: str = "startup"
    actor_tenant: str = "startup"
    actor_tag: str = "ab" * 16


def node(number: int) -> dict[str, Any]:
    return {"kind": "dataset", "namespace": "s3://lake", "name": f"/t/{number:07d}",
            "version": None}  # fmt: skip


def claims(edges: int) -> Iterator[Happened]:
    chance, layers = random.Random(7), DEPTH + 1
    chain = [WIDTH * layers * 2 + step for step in range(DEPTH + 1)]
    yield claim(0, chain, [(n, n + 1) for n in range(DEPTH)])
    for index in range(1, edges // PER_EVENT + 1):
        layer, half = chance.randrange(layers), NAMES_PER_EVENT // 2
        layer = {1: 0, 2: DEPTH - 1}.get(index, layer)  # the walks begin in these
        names = [layer * WIDTH + n for n in chance.sample(range(WIDTH), half)]
        names += [(layer + 1) * WIDTH + n for n in chance.sample(range(WIDTH), half)]
        if index in (1, 2):
            names[0], names[half] = layer * WIDTH + 7, (layer + 1) * WIDTH + 7
        pairs = [(chance.randrange(half), half + chance.randrange(half)) for _ in range(PER_EVENT)]
        yield claim(index, names, pairs)


def claim(index: int, names: list[int], pairs: list[tuple[int, int]]) -> Happened:
    return Happened(index, {
        "claim": "ab" * 32, "type": "dataset", "state": None, "claimed_at": 1, "about": None,
        "things": [node(n) for n in names], "columns": [],
        "edges": [{"source": a, "target": b} for a, b in pairs],
    })  # fmt: skip


def measure(edges: int) -> Iterator[tuple[str, float, str, str, bool, int]]:
    with tempfile.TemporaryDirectory() as place:
        made = Projection(Path(place), b"k" * 32)
        batch = []
        for event in claims(edges):
            batch.append((event, "ab" * 32))
            if len(batch) == 200:
                made.append(batch)
                batch = []
        made.append(batch)
        made.seal()
        end = WIDTH * (DEPTH + 1) * 2 + DEPTH
        for name, number, way in (
            ("down", 7, "down"), ("up", WIDTH * DEPTH + 7, "up"), ("along a chain", end, "up"),
        ):  # fmt: skip
            took = statistics.median([walked(made, number, way) for _ in range(RUNS + 1)][1:])
            metric = f"graph {name}, depth {DEPTH}, over {edges:,} edges"
            yield metric, took * 1000, "ms", "<= 300", took <= 0.3, RUNS
        made.close()


def walked(made: Projection, number: int, way: str) -> float:
    with made.reading() as cursor:
        begin = time.perf_counter()
        found = trace(cursor, f"dataset:s3://lake:/t/{number:07d}", tenant="startup",
                      walk=Walk(depth=DEPTH, direction=way))  # fmt: skip
        took = time.perf_counter() - begin
    assert found["edges"]
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{EDGES_QUICK:,} edges")
    args = parser.parse_args()
    missed = 0
    for metric, value, unit, goal, ok, runs in measure(EDGES_QUICK if args.quick else EDGES):
        missed += not ok
        fact = {"bench": "graph", "metric": metric, "value": round(value, 1), "unit": unit,
                "goal": goal, "ok": ok, "runs": runs}  # fmt: skip
        print(json.dumps(fact) if args.json else fact, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
