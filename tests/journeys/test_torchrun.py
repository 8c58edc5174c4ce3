"""A real elastic run: torchrun starts 4 ranks, `kill -9` ends them, 2 and then 3 go on.

Every rank writes down the rows of each step; the first saves the state of a step when all
have it. What counts is what was written up to the last saved state, compared row by row.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.journeys.home import Home, wait

ROWS, LANES, BATCH = 24_000, 12, 50
RANK = """
import json, os, sys, time
from pathlib import Path
import torch.distributed as dist
from connectors.loaders.torch import GatewayDataset

place, life, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dist.init_process_group("gloo")
train = GatewayDataset("home/rows", purpose="research", columns=["id"], batch_size=BATCH, seed=7,
                       lanes=LANES, window_blocks=2, run="run:elastic")
state = place / "state.json"
if state.exists():
    train.load_state_dict(json.loads(state.read_text())["state"])
(place / f"{life}-{dist.get_rank()}.pid").write_text(str(os.getpid()))
with (place / f"{life}-{dist.get_rank()}.jsonl").open("w") as log:
    for step, batch in enumerate(train, 1):
        log.write(json.dumps([step, batch["id"].tolist()]) + "\\n")
        log.flush()
        dist.barrier()
        if dist.get_rank() == 0:
            new = place / "new.json"
            new.write_text(json.dumps({"life": life, "step": step, "state": train.state_dict()}))
            os.replace(new, state)
        dist.barrier()
        if step == steps:
            (place / f"{life}-ready").touch()
            time.sleep(600)
dist.destroy_process_group()
""".replace("BATCH", str(BATCH)).replace("LANES", str(LANES))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home.make(tmp_path / "home", workers=2)
    home.start()
    yield home
    home.end()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_four_ranks_are_killed_and_two_then_three_go_on(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    pq.write_table(pa.table([np.arange(ROWS)], schema=schema), file)
    home.run("dataset", "register", "home/rows", str(file), "--profile", "train")
    home.run("policy", "new", "home/rows", "--to", "home/role:owner", "--purpose", "research",
             "--columns", "id", "--push")  # fmt: skip
    got = [live(home, tmp_path, world, steps) for world, steps in ((4, 25), (2, 60), (3, -1))]
    rows = [row for life in got for row in life]
    assert sorted(set(rows)) == list(range(ROWS))
    assert len(rows) - ROWS < 3  # the last step of three ranks may be padded


def live(home: Home, place: Path, world: int, steps: int) -> list[int]:
    """Run so many ranks until that step, kill them; the rows up to the last saved state."""
    life = f"of-{world}"
    script = place / "rank.py"
    script.write_text(RANK)
    root = Path(__file__).resolve().parents[2]
    job = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         str(world), str(script), str(place), life, str(steps)],
        env={**home.environment, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip
    if steps < 0:
        assert job.wait(300) == 0
    else:
        ready = place / f"{life}-ready"
        wait(lambda: ready.exists() or job.poll() is not None, 300, "the ranks do not get there")
        time.sleep(0.5)
        kill(job, [int((place / f"{life}-{rank}.pid").read_text()) for rank in range(world)])
    saved = json.loads((place / "state.json").read_text())
    assert saved["life"] == life
    return [
        row
        for rank in range(world)
        for line in (place / f"{life}-{rank}.jsonl").read_text().splitlines()
        for step, rows in [json.loads(line)]
        if step <= saved["step"]
        for row in rows
    ]


def kill(job: subprocess.Popen[bytes], ranks: list[int]) -> None:
    """`kill -9` of torchrun and of every rank: each leads a session of its own."""
    job.kill()
    job.wait()
    for rank in ranks:
        os.kill(rank, signal.SIGKILL)  # ProcessLookupError: it was gone before, and none was killed
