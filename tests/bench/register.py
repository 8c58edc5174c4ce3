"""How fast files are registered, and how much memory parser and sealer need together.

Rate: Arrow bytes per CPU second of both children (megabytes of 10^6), without what starting
them costs, which is a line of its own. Memory: sum of the two
peaks of resident memory, as the kernel counts them. The source never lies in clear or in
memory: it is generated into sealed parts as an upload would be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import secrets
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from gateway.config import Settings
from gateway.shards.ingest import SealJob, UploadedFile, seal_upload
from gateway.shards.parts import PartWriter, part_place

RATE_GOAL, MEMORY_GOAL = 100, 600
INDEX_BYTES = 500_000_000
INDEX_GOAL = 10  # percent, where ids are a fifth of the bytes and each is another one
BATCH_ROWS = 65_536
PART_BYTES = Settings().part_bytes_max


class Upload:
    """A file object that seals what is written to it, in parts as a client uploads them."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder, self.key, self.count = folder, key, 0
        self.at, self.closed = 0, False
        self.begin()

    def begin(self) -> None:
        path, place = self.folder / f"{self.count}.part", part_place(0, self.count)
        self.part, self.room = PartWriter(path, self.key, place=place), PART_BYTES
        self.count += 1

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.at += len(view)
        while len(view):
            if not self.room:
                self.part.finish()
                self.begin()
            piece, view = view[: self.room], view[self.room :]
            self.part.write(piece)
            self.room -= len(piece)
        return len(data)

    def tell(self) -> int:
        return self.at

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def numbers(random: Any, rows: int) -> Any:
    columns = {f"x{n}": random.random(rows) for n in range(6)}
    return pa.record_batch(
        {**columns, "id": random.integers(0, 1 << 40, rows), "label": random.integers(0, 2, rows)}
    )


def tokens(random: Any, rows: int) -> Any:
    rows //= 64
    values = pa.array(random.integers(0, 50_000, rows * 1024, dtype="i4"))
    return pa.record_batch({"tokens": pa.FixedSizeListArray.from_arrays(values, 1024)})


def people(random: Any, rows: int) -> Any:
    names = pa.array([f"person number {n}" for n in range(1000)])
    ages = pa.array(random.integers(0, 100, rows), mask=random.random(rows) < 0.1)
    picked = names.take(pa.array(random.integers(0, 1000, rows)))
    return pa.record_batch({"name": picked, "age": ages, "weight": random.random(rows)})


def blobs(random: Any, rows: int) -> Any:
    """Images, say: pyarrow writes 26 MB of them into one page."""
    rows //= 128
    return pa.record_batch({"blob": pa.array([random.bytes(51_000) for _ in range(rows)])})


def stays(random: Any, rows: int) -> Any:
    """Each row about another person, with an id of 16 characters: the worst case of the index."""
    ids = pa.array([f"{n:016x}" for n in random.integers(1 << 60, 1 << 62, rows)])
    return pa.record_batch({"patient": ids, **{f"x{n}": random.random(rows) for n in range(8)}})


def write(
    folder: Path, make: Callable[[Any, int], Any], size: int, *, kind: str
) -> tuple[bytes, int]:
    """Generate about `size` Arrow bytes into sealed parts; returns its key and the bytes."""
    key, random, done = secrets.token_bytes(32), np.random.default_rng(7), 0
    upload = Upload(folder, key)
    batch = make(random, BATCH_ROWS)
    sink = pa.PythonFile(upload, mode="w")
    writers: dict[str, Callable[[], Any]] = {
        "parquet": lambda: pq.ParquetWriter(sink, batch.schema),
        "arrow": lambda: pa.ipc.new_stream(sink, batch.schema),
        "csv": lambda: pc.CSVWriter(sink, batch.schema),
    }
    with writers[kind]() as writer:
        while done < size:
            writer.write_batch(batch)
            done += batch.nbytes
    upload.part.finish()
    return key, done


def peaks(stop: threading.Event, found: dict[str, int]) -> None:
    """Sample the peak resident memory of every child until told to stop."""
    while not stop.wait(0.02):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                for pid in (task / "children").read_text().split():
                    with contextlib.suppress(OSError, IndexError, ValueError):
                        status = Path(f"/proc/{pid}/status").read_text()
                        peak = int(status.split("VmHWM:")[1].split()[0]) << 10
                        found[pid] = max(found.get(pid, 0), peak)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(folder: Path, key: bytes, person: str | None = None) -> tuple[float, float, int]:
    """Register once; returns CPU seconds, wall seconds and peak bytes of both children."""
    parts = sorted(folder.glob("*.part"), key=lambda path: int(path.stem))
    staging = folder / uuid.uuid4().hex
    staging.mkdir()
    job = SealJob(
        dataset_id=uuid.uuid4().hex,
        version=1,
        files=(UploadedFile(name="source", parts=tuple(map(str, parts))),),
        parts_key=key,
        split_key=bytes(32),
        person_column=person,
        staging=str(staging),
    )
    stop, found = threading.Event(), dict[str, int]()
    sampler = threading.Thread(target=peaks, args=(stop, found))
    sampler.start()
    cpu, wall = cpu_seconds(), time.perf_counter()
    try:
        seal_upload(job, lambda _f, _t: None)
    finally:
        stop.set()
        sampler.join()
    wall = time.perf_counter() - wall
    for path in staging.iterdir():
        path.unlink()
    return cpu_seconds() - cpu, wall, sum(sorted(found.values())[-2:])


def start_seconds(runs: int) -> float:
    """CPU seconds of registering next to nothing."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        key, _ = write(folder, numbers, 1, kind="parquet")
        return statistics.median(run(folder, key)[0] for _ in range(runs))


def index_facts(size: int, runs: int, start: float) -> list[dict[str, Any]]:
    """What an index of persons adds to a registration, by turns with and without it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        key, done = write(folder, stays, size, kind="parquet")
        turns = [(run(folder, key), run(folder, key, "patient")) for _ in range(runs)]
    added = [100 * ((b[0] - start) / max(a[0] - start, 0.01) - 1) for a, b in turns]
    memory = max(b[2] for _, b in turns) / 1e6
    goal = INDEX_GOAL if done >= INDEX_BYTES else None  # less of it is noise
    label = f"index of persons, another in each row ({done // 10**6} MB)"
    return [
        fact(f"{label}: more CPU", statistics.median(added), "%", goal, runs),
        fact(f"{label}: parser + sealer", memory, "MB", MEMORY_GOAL, runs),
    ]


def fact(metric: str, value: float, unit: str, goal: float | None, runs: int) -> dict[str, Any]:
    held = goal is None or (value >= goal if unit == "MB/s" else value <= goal)
    sign = "-" if goal is None else f">= {goal}" if unit == "MB/s" else f"<= {goal}"
    return {
        "bench": "register", "metric": metric, "value": round(value, 1), "unit": unit,
        "goal": sign, "ok": held, "runs": runs,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="small sources, one run each")
    parser.add_argument("--megabytes", type=int, help="size of each source")
    args = parser.parse_args()
    size = (args.megabytes or (200 if args.quick else 6000)) * 10**6
    runs = 1 if args.quick or size > 10**9 else 3
    cases: list[tuple[str, Callable[[Any, int], Any], str, int, bool]] = [
        ("numeric set, Parquet", numbers, "parquet", size, True),
        ("token set, Arrow", tokens, "arrow", size // 4, True),
        ("numeric set, CSV", numbers, "csv", size // 8, False),
        ("text and numbers, Parquet", people, "parquet", size // 8, False),
    ]
    facts = []
    start = start_seconds(runs=3)
    facts.append(fact("start of both children", start, "CPU s", None, 3))
    print(json.dumps(facts[0]) if args.json else facts[0], flush=True)
    for name, make, kind, wanted, has_goal in cases:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            key, done = write(folder, make, wanted, kind=kind)
            results = [run(folder, key) for _ in range(runs)]
        cpu, wall, memory = (statistics.median(column) for column in zip(*results, strict=True))
        label = f"{name} ({done // 10**6} MB)"
        rate = done / max(cpu - start, 0.01) / 1e6
        facts += [
            fact(f"{label}: per core", rate, "MB/s", RATE_GOAL if has_goal else None, runs),
            fact(f"{label}: on the clock", done / wall / 1e6, "MB/s", None, runs),
            fact(f"{label}: parser + sealer", memory / 1e6, "MB", MEMORY_GOAL, runs),
        ]
        for line in facts[-3:]:
            print(json.dumps(line) if args.json else line, flush=True)
    for line in index_facts(size // 8, max(runs, 5), start):
        facts.append(line)
        print(json.dumps(line) if args.json else line, flush=True)
    return 0 if all(line["ok"] for line in facts) else 1


if __name__ == "__main__":
    sys.exit(main())
