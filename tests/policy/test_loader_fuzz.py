"""Policy files with something wrong in them, by the thousand, in a child that may not hang."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

ROOT = Path(__file__).resolve().parents[2]
SILENCE_SECONDS_MAX = 60.0  # for a few hundred inputs, on a machine that does other things too


def fuzz(inputs: int, seed: int) -> dict[str, int]:
    """Run the campaign in a child; a child that falls silent hangs at the input it named last."""
    command = [sys.executable, "-m", "tests.policy.loader_fuzz"]
    with subprocess.Popen(
        [*command, "--inputs", str(inputs), "--seed", str(seed)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        said = list(watched(child, child.stdout))
    assert child.returncode == 0, "".join(said[-30:])
    found: dict[str, int] = json.loads(said[-1])
    return found


def watched(child: subprocess.Popen[str], lines: TextIO) -> Iterator[str]:
    while True:
        watch = threading.Timer(SILENCE_SECONDS_MAX, child.kill)
        watch.start()
        line = lines.readline()
        watch.cancel()
        if not line:
            return
        yield line


def test_whatever_a_policy_file_holds_it_is_refused_with_its_place_or_read(
    request: pytest.FixtureRequest,
) -> None:
    inputs = 100_000 if request.config.getoption("--long") else 5_000
    done = fuzz(inputs, seed=1)
    assert done["refused"] + done["accepted"] == inputs
    assert min(done.values()) > inputs // 20, "the mutants are all sound, or all nonsense"
