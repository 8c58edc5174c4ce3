"""A job that its cluster stops."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOB = """
import os, signal, sys
from pathlib import Path
from tests.loaders.test_loaders import Exchanging, batches_of
from tests.delivery.world import Worker, direct_data

class Telling(Exchanging):
    def request(self, method, path, **more):
        if method == "DELETE" and sys.argv[2] == "fork":
            os.write(1, b"asks to hand back, ")
        answer = super().request(method, path, **more)
        if method == "DELETE":
            self.status()  # what the worker said before is heard
            rows = self.control.acknowledged[-1][2]
            os.write(1, f"handed back after {rows} rows".encode())
        return answer

gateway = Telling(direct_data(Path(sys.argv[1])), Worker())
if sys.argv[2] == "own":
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"mine, "))
batches = iter(batches_of(gateway))
next(batches)
signal.raise_signal(signal.SIGTERM)
os.write(1, b"lives on, ")
"""


def run(place: Path, handler: str, job: str = JOB) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", job, str(place), handler],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_stopped_job_hands_its_lease_back_and_ends_as_it_would(tmp_path: Path) -> None:
    code, said = run(tmp_path, "none")
    assert code == -signal.SIGTERM
    assert said.startswith("handed back after ")
    assert int(said.split()[3]) >= 100


def test_a_program_with_a_handler_of_its_own_keeps_it_and_hands_back_at_exit(
    tmp_path: Path,
) -> None:
    code, said = run(tmp_path, "own")
    assert code == 0
    assert said.startswith("mine, lives on, handed back after ")


FORKED = (
    JOB.split("batches = iter", maxsplit=1)[0]
    + """
batches = iter(batches_of(gateway))
next(batches)
child = os.fork()
if not child:
    signal.raise_signal(signal.SIGTERM)  # as a pool ends its processes
os.write(1, b"child %d, " % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
list(batches)
os.write(1, b"all rows, ")
"""
)


def test_a_forked_process_that_is_stopped_hands_nothing_back(tmp_path: Path) -> None:
    code, said = run(tmp_path, "fork", FORKED)
    assert code == 0
    assert said == (
        f"child {-signal.SIGTERM}, asks to hand back, handed back after 1700 rowsall rows, "
    )
