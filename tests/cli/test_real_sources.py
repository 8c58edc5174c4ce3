"""An upload from the command line to a real gateway: killed, and resumed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.cli.test_real_gateway import COMMAND, Typed, home, server, typed

__all__ = ["home", "server", "typed"]
ROW = b"%09d,some text that makes the row a little longer than it would have to be\n"
MEGABYTES = 140  # three parts of 64 MiB: time enough to be killed after the first


def big_csv(path: Path) -> int:
    rows = MEGABYTES * 1_000_000 // len(ROW % 0)
    with path.open("wb") as file:
        file.write(b"n,text\n")
        for start in range(0, rows, 10_000):
            file.write(b"".join(ROW % n for n in range(start, min(rows, start + 10_000))))
    return rows


def parts_of(home: Path) -> list[Path]:
    return list((home / "state").glob("**/parts/*/*.receipt"))


def test_a_killed_upload_goes_on_with_resume_and_makes_the_version(
    typed: Typed, server: str, home: Path
) -> None:
    rows = big_csv(home / "big.csv")
    words = ["dataset", "register", "home/big", "big.csv", "--json"]
    environment = typed.environment  # type: ignore[attr-defined]
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=home, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not parts_of(home):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    found = re.search(r"--resume (reg_\w+)", said)
    assert found, said
    done = subprocess.run(
        [*COMMAND, *words, "--resume", found[1]], cwd=home, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == rows
    assert not parts_of(home)
