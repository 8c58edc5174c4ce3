"""The whole demo, as `gateway demo --json` runs it, twice: the main job end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"[0-9][0-9,.]*")


def demo(home: Path, *flags: str) -> list[dict[str, object]]:
    environment = {**Stage(home).environment("operator"), "XDG_STATE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "demo", "--json", *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [line for line in lines if line.get("ok") is not True]
    assert done.returncode == 0, (failed, done.stderr[-2000:])
    return lines


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo-home")


def told_in_the_readme() -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    return [
        re.sub(r" \d+\.\d s$", "", line[2:]) for line in re.findall(r"^✓ .*$", text, re.MULTILINE)
    ]


def without_numbers(text: str) -> str:
    return NUMBER.sub("N", text)


def test_every_step_of_the_demo_does_what_it_says_and_the_readme_shows_it(home: Path) -> None:
    lines = demo(home)
    assert all(line["ok"] is True for line in lines)
    shown = [without_numbers(text) for text in told_in_the_readme()]
    assert [without_numbers(str(line["text"])) for line in lines] == shown


def test_purge_leaves_nothing(home: Path) -> None:
    assert (home / "dataset-gateway-demo").exists()
    assert demo(home, "--purge") == []
    assert not (home / "dataset-gateway-demo").exists()
