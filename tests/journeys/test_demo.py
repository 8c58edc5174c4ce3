"""The whole demo, as `gateway demo --json` runs it, twice: the main job end to end."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cryptography
import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.config import Settings
from gateway.demo.stage import Stage
from gateway.services import evidence
from gateway.services.doctor import log_key
from tests.services.conftest import open_house
from tests.services.registrations import ended
from tests.services.simulator import add_tenant, caller

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
    assert [path.name for path in home.iterdir()] == ["dataset-gateway-demo"]  # nothing outside it


@pytest.fixture
def auditors_python(tmp_path: Path) -> Path:
    """An environment that holds `cryptography`, what it needs, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (place,) = (tmp_path / "env").rglob("site-packages")
    here = Path(cryptography.__file__).parent.parent
    for wanted in ("cryptography", "cffi", "_cffi_backend*", "pycparser"):
        for part in here.glob(wanted):
            (place / part.name).symlink_to(part)
    return tmp_path / "env" / "bin" / "python"


def false_history(place: Path) -> tuple[bytes, str]:
    """A complete one: another gateway, whose clinic did nothing wrong; and its log's key."""
    settings = Settings(
        state_dir=place / "state", config_dir=place / "config", runtime_dir=place / "run"
    )
    key = bootstrap.init(settings)["log_key"]
    house = open_house(settings)

    async def made() -> bytes:
        await add_tenant(house, "clinic", ("auditor", "auditor"))
        auditor = caller("clinic", "auditor", "auditor")
        operation = await evidence.export(house, auditor, W.EvidenceRequest())
        pack = (await ended(operation))["pack"]
        return await evidence.part(house, auditor, pack, 0)

    data = asyncio.run(made())
    house.journal.close()
    return data, key


def test_the_demos_pack_verifies_with_nothing_but_cryptography_and_a_false_history_does_not(
    home: Path, auditors_python: Path, tmp_path: Path
) -> None:
    stage = Stage(home / "dataset-gateway-demo")
    key = log_key(Settings(config_dir=stage.home / "config/operator/dataset-gateway"))
    false, false_key = false_history(tmp_path / "false")
    (tmp_path / "false.zip").write_bytes(false)

    def verified(pack: Path, trusted: str) -> int:
        with zipfile.ZipFile(stage.home / "evidence.zip") as archive:
            (tmp_path / "verify.py").write_bytes(archive.read("verify.py"))
        command = [auditors_python, "-I", tmp_path / "verify.py", pack, "--log-key", trusted]
        return subprocess.run(command, capture_output=True, check=False, env={}).returncode

    assert verified(stage.home / "evidence.zip", key) == 0
    assert verified(tmp_path / "false.zip", false_key) == 0  # nothing in it contradicts itself
    assert verified(tmp_path / "false.zip", key) == 1


def test_purge_leaves_nothing(home: Path) -> None:
    assert (home / "dataset-gateway-demo").exists()
    assert demo(home, "--purge") == []
    assert not (home / "dataset-gateway-demo").exists()
