"""How every loader of the benchmark takes its turns: `python peer_X.py LOADER DIRECTORY`.

Runs in the peer's own environment, hence only the standard library and numpy. The loader gets
its data ready, says so, and then reads one pass for every line on standard input: `go` (timed)
or `check` (untimed, says what it read). Each batch is copied once into 1 MiB of memory that is
reused, as a copy to an accelerator would: nobody wins by not touching the rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PIECE = 1 << 20
_slot = np.empty(PIECE, np.uint8)
Pass = Callable[[], Iterable[Any]]


def flat(batch: Any) -> np.ndarray:
    """The payload of a batch as bytes, without a copy where its memory is in one piece."""
    if hasattr(batch, "numpy") and not isinstance(batch, np.ndarray):
        batch = batch.numpy()
    return np.ascontiguousarray(batch).reshape(-1).view(np.uint8)


def touch(data: np.ndarray) -> int:
    """Copy all bytes once; how many they were."""
    for at in range(0, len(data), PIECE):
        part = data[at : at + PIECE]
        _slot[: len(part)] = part
    return len(data)


def of_bytes(values: Iterable[bytes | memoryview]) -> Iterator[np.ndarray]:
    """Batches of single values."""
    for value in values:
        yield np.frombuffer(value, np.uint8)


def _go(one: Pass) -> dict[str, Any]:
    began, used, size = time.perf_counter(), os.times(), 0
    for batch in one():
        size += touch(flat(batch))
    ended, after = time.perf_counter(), os.times()
    cpu = sum(after[:4]) - sum(used[:4])
    return {"seconds": ended - began, "cpu": cpu, "bytes": size}


def _check(one: Pass) -> dict[str, Any]:
    """A sum that does not depend on the order of the rows."""
    size = total = 0
    for batch in one():
        data = flat(batch)
        size += len(data)
        total += int(data.sum(dtype=np.uint64))
    return {"bytes": size, "sum": total}


def ready(directory: Path, make: Callable[[Path], None]) -> Path:
    """The peer's own files, made when they are not there whole."""
    if not (directory / "whole").exists():
        directory.mkdir(parents=True, exist_ok=True)
        make(directory)
        (directory / "whole").touch()
    return directory


def take(loaders: dict[str, Callable[[Path], Pass]], version: str) -> None:
    """Serve one of `loaders`, by the words on the command line, until standard input ends."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    one = loaders[name](directory)
    answers.write(json.dumps({"ready": version}) + "\n")
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            done = _go(one) if line.strip() == "go" else _check(one)
            answers.write(json.dumps(done) + "\n")
