"""What governance costs: the same stream with and without policy, lease, records and lineage.

Both sides read the same sealed shards with the same client, encryption, frames and delivery.
One side is a real `gateway serve`, and each pass opens its lease there; the other is a worker
built of the same parts whose gate admits at once and whose control records nothing
(peers/bare_worker.py; the product has no such switch). Passes take turns; the tax is the median
over the rounds of the time of one over that of the other, from the first batch to the last. A
pass here is an epoch of 1 GiB; what its opening costs (token, lease, keys, tables) until the
first batch is told beside it in milliseconds, since it costs as much for an epoch of any size.
Every batch is touched by one copy. Processor time is of all processes of a side, the client's
included, of whole passes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import pickle
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway import bootstrap
from gateway.client.leases import LeaseTerms
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.delivery.geometry import manifest_of, segments_of
from gateway.delivery.spec import LeaseSpec
from gateway.domain.lease import OrderSpec
from gateway.process import status_page
from gateway.process.unix_socket import bind_private
from gateway.services.sources import direct_source
from gateway.services.storage import load_manifest
from gateway.wire import codec
from gateway.wire.leases import LeaseRequest
from tests.bench.loaders import _cpu_of
from tests.journeys.home import Home

ROOT = Path(__file__).resolve().parents[2]
ROWS, ROWS_QUICK = 262_144, 16_384  # of 4 KiB
ROUNDS, ROUNDS_QUICK = 15, 3
BATCH_ROWS = 256
TAX_GOAL = 5.0  # percent
ASK: Any = {"purpose": "product-training", "columns": ["tokens"]}


def open_home(place: Path, rows: int) -> Home:
    tokens = np.random.default_rng(7).integers(0, 50_000, rows * 1024, dtype="i4")
    cells = pa.FixedSizeListArray.from_arrays(pa.array(tokens), 1024)
    schema = pa.schema([pa.field("tokens", cells.type, nullable=False)])
    pq.write_table(pa.table([cells], schema=schema), place / "tokens.parquet")
    home = Home.make(place / "home")
    home.start()
    home.run("dataset", "register", "home/tokens", str(place / "tokens.parquet"),
             "--profile", "train")  # fmt: skip
    home.run("policy", "new", "home/tokens", "--to", "home/role:owner", "--purpose",
             "product-training", "--columns", "tokens", "--push")  # fmt: skip
    return home


class Bare:
    """A worker of one lease, and the Transport that hands it out to whoever asks."""

    def __init__(self, home: Home, grant: str, place: Path) -> None:
        """The server of the home is stopped: its state is opened here, once."""
        spec, manifest = _lease_of(home, grant)
        listening = socket.create_server(("127.0.0.1", 0))
        ring = bind_private(place / "ring", "bare.sock")
        if ring is None:
            raise SystemExit("there are no Unix sockets here")
        descriptors = [listening.fileno(), ring.fileno()]
        program = ROOT / "tests" / "bench" / "peers" / "bare_worker.py"
        self.process = subprocess.Popen(
            [sys.executable, str(program), *map(str, descriptors)], stdin=subprocess.PIPE,
            pass_fds=descriptors, start_new_session=True, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdin is not None
        pickle.dump(spec, self.process.stdin)
        self.process.stdin.close()
        payload = base64.b64encode(json.dumps(codec.encode(manifest)).encode()).decode()
        self._view = {
            "lease": spec.lease, "state": "open", "expires_at": spec.expires_at,
            "data_url": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "ring": str(place / "ring" / "bare.sock"),
            "lease_key": base64.b64encode(spec.key).decode(),
            "manifest": {"payload": payload, "signature": "", "key_id": ""},
        }  # fmt: skip
        listening.close()
        ring.close()

    status = 200

    def request(self, *_: Any, **__: Any) -> Bare:
        """Whatever is asked: the lease."""
        return self

    def json(self) -> Any:
        return self._view

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def _lease_of(home: Home, grant: str) -> tuple[LeaseSpec, Any]:
    """What the gateway would have its worker serve for a Grant."""
    house = bootstrap.build(
        home.settings, page=status_page.create(), url="http://localhost", on_failure=sys.exit
    )
    plan = house.catalog.grant(grant).plan
    source, geometry = direct_source(house, load_manifest(house, plan.dataset), plan)
    spec = LeaseSpec(
        lease="lease_bare", key=secrets.token_bytes(32), boot="bare", plan_digest="ab" * 32,
        policy_epoch=1, expires_at=int(time.time()) + 86_400, order=OrderSpec(),
        order_key=secrets.token_bytes(32), source=source,
    )  # fmt: skip
    manifest = manifest_of(spec, segments_of(spec), dataset=str(plan.dataset), split=plan.split,
                           columns=geometry.columns)  # fmt: skip
    asyncio.run(bootstrap.close(house))
    return spec, manifest


@dataclass(frozen=True, slots=True)
class Pass:
    """Seconds of one pass."""

    opening: float  # until the first batch
    rest: float  # from there to the last
    processor: float  # of all processes of the side


def timed(open_one: Callable[[], Stream], rows: int, sessions: list[int]) -> Pass:
    """One pass: copy every batch once; all rows must have come."""
    used = sum(_cpu_of(sessions)) + time.process_time()
    began = first = time.perf_counter()
    out = np.empty((BATCH_ROWS, 1024), dtype="i4")
    seen = 0
    with open_one() as stream:
        for batch in stream:
            if not seen:
                first = time.perf_counter()
            tokens = batch["tokens"]
            np.copyto(out[: len(tokens)], tokens)
            seen += len(tokens)
        last = time.perf_counter()
    if seen != rows:
        raise SystemExit(f"{seen} rows came, {rows} were stored")
    used = sum(_cpu_of(sessions)) + time.process_time() - used
    return Pass(first - began, last - first, used)


def measure(home: Home, bare: Bare, grant: str, rows: int, rounds: int) -> list[dict[str, Any]]:
    facts = []
    for delivery in ("ring", "http"):
        gateway = home.client(delivery=delivery)
        terms = LeaseTerms(delivery=delivery)
        options = StreamOptions(batch_size=BATCH_ROWS, terms=terms)
        sides: dict[str, tuple[Callable[[], Stream], list[int]]] = {
            "governed": (lambda g=gateway: g.stream(grant=grant, batch_size=BATCH_ROWS),  # type: ignore[misc]
                         home.sessions),
            "bare": (lambda o=options: open_stream(bare, LeaseRequest(), o),  # type: ignore[misc, arg-type]
                     [bare.process.pid]),
        }  # fmt: skip
        taken: dict[str, list[Pass]] = {name: [] for name in sides}
        for turn in range(rounds + 1):  # the first warms
            for name in sides if turn % 2 else reversed(sides):
                taken[name].append(timed(sides[name][0], rows, sides[name][1]))
        pairs = list(zip(taken["governed"][1:], taken["bare"][1:], strict=True))
        label = f"governance tax over {delivery}"
        time_tax = statistics.median(100 * (one.rest / other.rest - 1) for one, other in pairs)
        facts.append(fact(f"{label}, time", time_tax, "%", TAX_GOAL, rounds))
        used = statistics.median(
            100 * (one.processor / other.processor - 1) for one, other in pairs
        )
        facts.append(fact(f"{label}, processor time", used, "%", None, rounds))
        more = statistics.median(1e3 * (one.opening - other.opening) for one, other in pairs)
        facts.append(fact(f"{label}, opening of an epoch", more, "ms", None, rounds))
    return facts


def fact(metric: str, value: float, unit: str, goal: float | None, runs: int) -> dict[str, Any]:
    return {"bench": "governance", "metric": metric, "value": round(value, 1), "unit": unit,
            "goal": "-" if goal is None else f"<= {goal}", "ok": goal is None or value <= goal,
            "runs": runs}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON line per metric")
    parser.add_argument("--quick", action="store_true", help="small data, few rounds, no goals")
    args = parser.parse_args()
    rows, rounds = (ROWS_QUICK, ROUNDS_QUICK) if args.quick else (ROWS, ROUNDS)
    place = Path(tempfile.mkdtemp(prefix="gateway-governance-"))
    home, bare = open_home(place, rows), None
    try:
        grant = str(home.client().tokens.request("home/tokens", **ASK).grant)
        home.stop()
        bare = Bare(home, grant, place)
        home.start()
        facts = measure(home, bare, grant, rows, rounds)
    finally:
        if bare is not None:
            bare.close()
        home.end()
        shutil.rmtree(place)
    for found in facts:
        if args.quick:
            found.update({"goal": "-", "ok": True})
        print(json.dumps(found) if args.json else found)
    return 0 if all(found["ok"] for found in facts) else 1


if __name__ == "__main__":
    sys.exit(main())
