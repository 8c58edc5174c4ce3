"""Our governed, encrypted stream against the loaders people use, unprotected.

Policy, lease, encryption, lineage, confirmations and acknowledgements are all on; the server is
a real `gateway serve`. Each peer comes from the package index into an environment of its own
(peers/requirements) with its best settings, and reads the same rows from warm files. Rounds
interleave all loaders, every other one backwards; a ratio is the median over the rounds of the
rates in one round. Processor time is of all processes of a side, the server's included.

The first run installs the peers and writes the data: about 15 GB in `--place`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.crypto.certificates import self_signed
from tests.journeys.home import Home

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
ROUNDS = 5
TICK = os.sysconf("SC_CLK_TCK")
FULL = {"tokens": 262_144, "blobs": 20_480, "people": 4_000_000}
QUICK = {"tokens": 16_384, "blobs": 1_024, "people": 200_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """One loader: its program, its environment (None: ours), its words for people."""

    program: str
    environment: str | None
    label: str
    delivery: str | None = None  # of ours: `ring` or `http`


@dataclass(frozen=True, slots=True)
class Goal:
    """`ours` must be at least `least` times as fast as `peer`; None: reported only."""

    ours: str
    peer: str
    least: float | None


LOADERS = {
    "gateway": Loader(program="gateway_client", environment=None, label="gateway"),
    "gateway-http": Loader(program="gateway_client", environment=None,
                           label="gateway over HTTP", delivery="http"),
    "gateway-https": Loader(program="gateway_client", environment=None,
                            label="gateway over HTTP under TLS", delivery="http"),
    "gateway-shuffled": Loader(program="gateway_client", environment=None,
                               label="gateway, shuffled"),
    "gateway-blobs": Loader(program="gateway_client", environment=None, label="gateway"),
    "gateway-people": Loader(program="gateway_client", environment=None, label="gateway"),
    "memmap": Loader(program="peer_arrow", environment="arrow", label="np.memmap"),
    "memmap-shuffled": Loader(program="peer_arrow", environment="arrow",
                              label="np.memmap, np.take of a global order"),
    "ipc-tokens": Loader(program="peer_arrow", environment="arrow", label="Arrow IPC mmap"),
    "ipc-blobs": Loader(program="peer_arrow", environment="arrow", label="Arrow IPC mmap"),
    "parquet-fsb": Loader(program="peer_arrow", environment="arrow",
                          label="pyarrow Parquet, plain, FIXED_SIZE_BINARY"),
    "parquet-fsl": Loader(program="peer_arrow", environment="arrow",
                          label="pyarrow Parquet, plain, FIXED_SIZE_LIST"),
    "pme-fsl": Loader(program="peer_arrow", environment="arrow",
                      label="pyarrow encrypted Parquet, FIXED_SIZE_LIST"),
    "pme-people": Loader(program="peer_arrow", environment="arrow",
                         label="pyarrow encrypted Parquet, filter and mask"),
    "lance": Loader(program="peer_lance", environment="lance", label="Lance torch"),
    "hf-loader": Loader(program="peer_hf", environment="hf", label="HF datasets, DataLoader"),
    "hf-arrow": Loader(program="peer_hf", environment="hf", label="HF datasets, Arrow batches"),
    "litdata": Loader(program="peer_litdata", environment="litdata", label="litData"),
    "litdata-shuffled": Loader(program="peer_litdata", environment="litdata",
                               label="litData, shuffled"),
    "litdata-blobs": Loader(program="peer_litdata", environment="litdata", label="litData"),
    "webdataset": Loader(program="peer_webdataset", environment="webdataset",
                         label="webdataset"),
    "webdataset-blobs": Loader(program="peer_webdataset", environment="webdataset",
                               label="webdataset"),
    "mosaic": Loader(program="peer_mosaic", environment="mosaic", label="mosaicml-streaming"),
    "flight": Loader(program="peer_flight", environment="arrow", label="Arrow Flight, plain"),
    "flight-tls": Loader(program="peer_flight", environment="arrow",
                         label="Arrow Flight under TLS"),
    "naive-http": Loader(program="peer_http", environment="http",
                         label="naive FastAPI Arrow stream of encrypted Parquet"),
}  # fmt: skip
SETS: dict[str, tuple[str, tuple[Goal, ...]]] = {
    "tokens": ("tokens, sequential", (
        Goal("gateway", "memmap", 1.0),
        Goal("gateway", "ipc-tokens", 0.9),
        Goal("gateway", "pme-fsl", 6.0),
        Goal("gateway", "parquet-fsl", None),
        Goal("gateway", "parquet-fsb", None),
        Goal("gateway", "hf-arrow", None),
        Goal("gateway", "lance", 2.5),
        Goal("gateway", "hf-loader", 8.0),
        Goal("gateway", "litdata", 14.0),
        Goal("gateway", "webdataset", 60.0),
        Goal("gateway", "mosaic", 60.0),
    )),
    "shuffled": ("tokens, shuffled", (
        Goal("gateway-shuffled", "memmap-shuffled", 1.2),
        Goal("gateway-shuffled", "litdata-shuffled", 9.0),
    )),
    "blobs": ("blobs", (
        Goal("gateway-blobs", "ipc-blobs", 1.0),
        Goal("gateway-blobs", "litdata-blobs", 1.5),
        Goal("gateway-blobs", "webdataset-blobs", 12.0),
    )),
    "http": ("tokens over loopback", (
        Goal("gateway-http", "naive-http", 2.5),
        Goal("gateway-http", "flight", 1.0),
    )),
    "tls": ("tokens over loopback, TLS", (Goal("gateway-https", "flight-tls", None),)),
    "people": ("filter and mask", (Goal("gateway-people", "pme-people", 4.0),)),
}  # fmt: skip
CPU_GOAL = 0.2  # processor seconds per GiB of tokens, client and server


@dataclass(slots=True)
class Runner:
    """One loader in its process, answering line by line."""

    name: str
    process: subprocess.Popen[str]
    server: Home | None
    version: str = ""
    rates: list[float] = field(default_factory=list)  # MiB/s
    costs: list[float] = field(default_factory=list)  # processor seconds per GiB

    def ask(self, word: str) -> dict[str, Any]:
        """One pass."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the loader `{self.name}` ended: see its words above")
        found: dict[str, Any] = json.loads(answer)
        return found

    def go(self) -> None:
        """One timed pass, with the processor time of everybody who worked for it."""
        before = self._cpu()
        done = self.ask("go")
        used = self._cpu() - before
        self.rates.append(done["bytes"] / done["seconds"] / (1 << 20))
        self.costs.append(used / done["bytes"] * (1 << 30))

    def _cpu(self) -> float:
        sessions = [self.process.pid, *(self.server.sessions if self.server else ())]
        return sum(_cpu_of(sessions))


def _cpu_of(sessions: list[int]) -> Iterator[float]:
    """Processor seconds of each process of these sessions, its ended children included."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[3]) in sessions:
                yield sum(int(word) for word in words[11:15]) / TICK


def write_sources(place: Path, sizes: dict[str, int]) -> None:
    """The rows everybody reads, once as plain arrays and once as what is registered."""
    if (place / "whole").exists():
        return
    random = np.random.default_rng(7)
    rows = random.zipf(1.3, (sizes["tokens"], 1024)).clip(max=50_000).astype("i4")
    np.save(place / "tokens.npy", rows)
    cells = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 1024)
    schema = pa.schema([pa.field("tokens", cells.type, nullable=False)])
    pq.write_table(pa.table([cells], schema=schema), place / "tokens.parquet",
                   compression="none", use_dictionary=False)  # fmt: skip
    ends = random.integers(40_000, 62_000, sizes["blobs"]).cumsum()
    data = np.frombuffer(random.bytes(int(ends[-1])), np.uint8)
    np.save(place / "blobs.npy", data)
    np.save(place / "blobs-ends.npy", ends)
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype("i8"))
    blobs = pa.Array.from_buffers(pa.large_binary(), len(ends), [None, offsets, pa.py_buffer(data)])
    pq.write_table(pa.table({"blob": blobs}), place / "blobs.parquet", compression="none",
                   use_dictionary=False, row_group_size=512)  # fmt: skip
    count = sizes["people"]
    names = pa.array([f"person number {n}" for n in range(5000)])
    people = {
        "id": np.arange(count),
        "name": names.take(pa.array(random.integers(0, 5000, count))),
        "age": random.integers(0, 100, count),
        **{f"x{n}": random.normal(100, 15, count) for n in range(5)},
    }
    pq.write_table(pa.table(people), place / "people.parquet")
    (place / "whole").touch()


@contextmanager
def gateway(place: Path) -> Iterator[Home]:
    """A gateway with its datasets; nothing of it is left, even if they cannot be registered."""
    with tempfile.TemporaryDirectory(prefix="gateway-", dir=place) as root:
        home = Home.make(Path(root))
        try:
            set_up(home, place)
            yield home
        finally:
            home.end()


def set_up(home: Home, place: Path) -> None:
    """`gateway serve`, three datasets, three rules: as an owner does it."""
    home.start()
    for name, more in (("tokens", ()), ("blobs", ()), ("people", ())):
        home.run("dataset", "register", f"home/{name}", str(place / f"{name}.parquet"),
                 "--profile", "train", *more)  # fmt: skip
    rules = {"tokens": ("tokens",), "blobs": ("blob",), "people": ("id", "age", "x0", "x1", "name")}
    limits = {"people": ("--mask", "age=x-bucket:10", "--where", "age >= 18")}
    for name, columns in rules.items():
        home.run("policy", "new", f"home/{name}", "--to", "home/role:owner", "--purpose",
                 "product-training", "--columns", ",".join(columns), *limits.get(name, ()),
                 "--push")  # fmt: skip


def environment(place: Path, name: str) -> str:
    """The interpreter of a peer's own environment, made with the versions that are written down."""
    at = place / "environments" / name
    python = at / "bin" / "python"
    if not (at / "whole").exists():
        wanted = str(PEERS / "requirements" / f"{name}.txt")
        print(f"installing {name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(at)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        uv = shutil.which("uv")
        tool = [uv, "pip", "install", "-p", str(python)] if uv else [*pip, "install"]
        if subprocess.run([*tool, "-q", "-r", wanted], check=False).returncode:
            raise SystemExit(f"the peer `{name}` cannot be installed")
        (at / "whole").touch()
    return str(python)


@contextmanager
def running(place: Path, name: str, home: Home | None) -> Iterator[Runner]:
    """Start a loader and wait until its data is ready."""
    loader = LOADERS[name]
    ours = loader.environment is None
    python = (
        sys.executable if loader.environment is None else environment(place, loader.environment)
    )
    variables = {"HOME": str(place), "PATH": os.environ["PATH"]}
    if ours:
        assert home is not None
        delivery = {"GATEWAY_DELIVERY": loader.delivery} if loader.delivery else {}
        variables = {**home.environment, "PYTHONPATH": str(ROOT), **delivery}
    kind = "gateway" if loader.delivery else name
    process = subprocess.Popen(
        [python, str(PEERS / f"{loader.program}.py"), kind, str(place)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables,
        start_new_session=True,
    )  # fmt: skip
    runner = Runner(name, process, home if ours else None)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            raise SystemExit(f"the loader `{name}` does not start: see its words above")
        runner.version = json.loads(first)["ready"]
        yield runner
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def measure(place: Path, home: Home, wanted: list[str], rounds: int) -> list[dict[str, Any]]:
    """All wanted sets; TLS comes last, since it is another server of the same gateway."""
    facts = [f for which in wanted if which != "tls" for f in compare(place, home, which, rounds)]
    if "tls" in wanted:
        home.stop()
        self_signed(place, "localhost", now=time.time())  # for Flight
        with home.serving("--tls-auto", "--data-workers", str(home.workers)):
            facts += compare(place, home, "tls", rounds)
    return facts


def compare(place: Path, home: Home, which: str, rounds: int) -> list[dict[str, Any]]:
    """All loaders of one set: checked once, then timed in turns."""
    _, goals = SETS[which]
    names = list(dict.fromkeys(name for goal in goals for name in (goal.ours, goal.peer)))
    with ExitStack() as stack:
        runners = {name: stack.enter_context(running(place, name, home)) for name in names}
        check(runners, {goal.ours for goal in goals})
        for turn in range(rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                runners[name].go()
        return report(which, runners, rounds)


def check(runners: dict[str, Runner], ours: set[str]) -> None:
    """Every loader delivers the same bytes, in whatever order; a part of them where it is slow."""
    found = {name: runner.ask("check") for name, runner in runners.items()}
    whole = next(found[name] for name in ours)
    for name, seen in found.items():
        if seen != whole and (name in ours or seen["bytes"] >= whole["bytes"]):
            raise SystemExit(f"`{name}` read other rows: {seen}, we {whole}")


def report(which: str, runners: dict[str, Runner], rounds: int) -> list[dict[str, Any]]:
    """One fact per goal, then the rates and costs of everybody."""
    label, goals = SETS[which]
    facts = []
    for goal in goals:
        ours, peer = runners[goal.ours], runners[goal.peer]
        value = statistics.median(a / b for a, b in zip(ours.rates, peer.rates, strict=True))
        facts.append(fact(f"{label}: gateway / {LOADERS[goal.peer].label} ({peer.version})",
                          round(value, 2), "x", goal.least, rounds))  # fmt: skip
    for name, runner in runners.items():
        rate, cost = statistics.median(runner.rates), statistics.median(runner.costs)
        who = f"{label}: {LOADERS[name].label}"
        facts.append(fact(f"{who}, rate", round(rate), "MiB/s", None, rounds))
        most = CPU_GOAL if name == "gateway" else None
        facts.append(
            fact(f"{who}, processor", round(cost, 3), "CPU s/GiB", most, rounds, most=True)
        )
    return facts


def fact(metric: str, value: float, unit: str, goal: float | None, runs: int, *,
         most: bool = False) -> dict[str, Any]:  # fmt: skip
    """One line of output."""
    met = goal is None or (value <= goal if most else value >= goal)
    said = "-" if goal is None else f"{'<=' if most else '>='} {goal}"
    return {"bench": "loaders", "metric": metric, "value": value, "unit": unit, "goal": said,
            "ok": met, "runs": runs}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON line per metric")
    parser.add_argument("--quick", action="store_true", help="small data, one round, no goals")
    parser.add_argument("--only", choices=sorted(SETS), action="append", help="repeatable")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} unless told")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--place", type=Path, default=cache / "dataset-gateway-bench")
    args = parser.parse_args()
    place = args.place / ("quick" if args.quick else "full")
    place.mkdir(parents=True, exist_ok=True)
    environments = args.place / "environments"
    environments.mkdir(exist_ok=True)
    link = place / "environments"
    if not link.exists():
        link.symlink_to(environments, target_is_directory=True)
    write_sources(place, QUICK if args.quick else FULL)
    rounds = args.rounds or (1 if args.quick else ROUNDS)
    with gateway(place) as home:
        facts = measure(place, home, args.only or list(SETS), rounds)
    for found in facts:
        if args.quick:
            found |= {"goal": "-", "ok": True}
        said = f"{found['metric']}: {found['value']} {found['unit']} (goal {found['goal']})"
        print(json.dumps(found) if args.json else said)
    return 0 if all(found["ok"] for found in facts) else 1


if __name__ == "__main__":
    sys.exit(main())
