"""How long a trainer waits: for the first batch, after a resume, when a data worker dies.

A real `gateway serve` with two data workers and a real client, governance fully on. Memory is
what the processes of the server hold for themselves (PSS) with 64 open streams, above idle.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.client import GatewayClient
from tests.journeys.home import Home

ROWS, ROWS_QUICK = 65_536, 8_192  # of 4 KiB
RUNS, RUNS_QUICK = 15, 3
STREAMS, STREAMS_QUICK = 64, 8
ASK: Any = {"purpose": "product-training", "columns": ["tokens"], "batch_size": 256}


def open_home(place: Path, rows: int) -> Home:
    tokens = np.random.default_rng(7).integers(0, 50_000, rows * 1024, dtype="i4")
    cells = pa.FixedSizeListArray.from_arrays(pa.array(tokens), 1024)
    schema = pa.schema([pa.field("tokens", cells.type, nullable=False)])
    pq.write_table(pa.table([cells], schema=schema), place / "tokens.parquet")
    home = Home.make(place / "home", workers=2)
    home.start()
    home.run("dataset", "register", "home/tokens", str(place / "tokens.parquet"),
             "--profile", "train")  # fmt: skip
    home.run("policy", "new", "home/tokens", "--to", "home/role:owner", "--purpose",
             "product-training", "--columns", "tokens", "--push")  # fmt: skip
    return home


def first_batch(gateway: GatewayClient, grant: str, position: Any, **how: Any) -> float:
    """Milliseconds from asking for the lease to the first batch; the Grant stands already."""
    began = time.perf_counter()
    with gateway.stream(grant=grant, position=position, batch_size=256, **how) as stream:
        next(stream)
        return (time.perf_counter() - began) * 1e3


def halfway(gateway: GatewayClient, grant: str, rows: int, **how: Any) -> Any:
    with gateway.stream(grant=grant, batch_size=256, **how) as stream:
        for _ in range(rows // 512):
            next(stream)
        return stream.state_dict()


def gap_when_a_worker_dies(home: Home, gateway: GatewayClient, grant: str, rows: int) -> float:
    """The longest wait for a batch, in seconds, when the worker of the stream is killed."""
    longest, seen = 0.0, 0
    with gateway.stream(grant=grant, batch_size=256) as stream:
        last = time.perf_counter()
        for number, batch in enumerate(stream):
            now = time.perf_counter()
            longest, seen = max(longest, now - last), seen + len(batch["tokens"])
            if number == 8:
                for process in home.processes():
                    if process.kind == "worker":
                        process.kill()
            last = time.perf_counter()
    if seen != rows:
        raise SystemExit(f"{seen} rows came, {rows} were stored")
    return longest


def memory(home: Home) -> int:
    """Proportional resident bytes of all processes of the server."""
    total = 0
    for process in home.processes():
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += int(text.split("Pss:")[1].split()[0]) << 10
    return total


def held_by(home: Home, gateway: GatewayClient, grant: str, count: int) -> float:
    """MB that so many streams, each with its first batch, cost the server."""
    idle = memory(home)
    with ExitStack() as stack:
        for _ in range(count):
            stream = stack.enter_context(gateway.stream(grant=grant, batch_size=256))
            next(stream)
        return (memory(home) - idle) / 1e6


def fact(metric: str, value: float, unit: str, goal: float, runs: int) -> dict[str, Any]:
    return {"bench": "streams", "metric": metric, "value": round(value, 1), "unit": unit,
            "goal": f"<= {goal}", "ok": value <= goal, "runs": runs}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON line per metric")
    parser.add_argument("--quick", action="store_true", help="small data, few runs")
    args = parser.parse_args()
    rows = ROWS_QUICK if args.quick else ROWS
    runs = RUNS_QUICK if args.quick else RUNS
    count = STREAMS_QUICK if args.quick else STREAMS
    place = Path(tempfile.mkdtemp(prefix="gateway-streams-"))
    home = open_home(place, rows)
    try:
        facts = measure(home, rows, runs, count)
    finally:
        home.end()
        shutil.rmtree(place)
    for found in facts:
        print(json.dumps(found) if args.json else found)
    return 0 if all(found["ok"] for found in facts) else 1


def measure(home: Home, rows: int, runs: int, count: int) -> list[dict[str, Any]]:
    gateway = home.client()
    grant = gateway.tokens.request("home/tokens", purpose=ASK["purpose"], columns=ASK["columns"])
    asked = str(grant.grant)
    facts = []
    for label, how in (("in order", {}), ("shuffled", {"shuffle": True, "seed": 7})):
        first_batch(gateway, asked, None, **how)
        position = halfway(gateway, asked, rows, **how)
        for what, at in (("first batch, warm", None), ("resume in the middle", position)):
            taken = [first_batch(gateway, asked, at, **how) for _ in range(runs)]
            facts.append(fact(f"{what}, {label}", statistics.median(taken), "ms", 50, runs))
    held = held_by(home, gateway, asked, count)
    facts.append(fact(f"server memory of {count} streams above idle", held, "MB", 1000, 1))
    gaps = [gap_when_a_worker_dies(home, gateway, asked, rows) for _ in range(3)]
    longest = max(gaps)
    facts.append(fact("longest wait when the data worker is killed", longest, "s", 2, len(gaps)))
    return facts


if __name__ == "__main__":
    sys.exit(main())
