"""A trainer installs little and imports less: proved in a clean environment, from the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("casbin", "duckdb", "fastapi", "httptools", "orjson", "pydantic", "starlette", "uvicorn")
PACKAGES_MAX = 6  # besides the gateway itself, counting what they need in turn


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, ROOT)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the locked light client and nothing else, not even pip."""
    home = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    lock = ROOT / "requirements" / "client.txt"
    run(*pip, "install", "--quiet", "--no-compile", "--require-hashes", "-r", lock)
    run(*pip, "install", "--quiet", "--no-compile", "--no-deps", wheel)
    run(*pip, "check")  # what the wheel asks for is what the lock gave
    return python


def test_the_wheel_holds_three_packages_their_data_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "gateway",
        "connectors",
        "policies",
    }
    assert "gateway/py.typed" in names
    assert not [n for n in names if n.startswith(("tests/", "docs/"))]
    data = [p for p in (ROOT / "policies").rglob("*") if p.suffix in {".yaml", ".conf"}]
    missing = [p for p in data if str(p.relative_to(ROOT)) not in names]
    assert not missing


def test_a_trainer_installs_at_most_six_packages(clean_python: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"
    )
    installed = {n.lower() for n in json.loads(run(clean_python, "-c", code, cwd=tmp_path))}
    others = installed - {"dataset-gateway"}
    assert len(others) <= PACKAGES_MAX, sorted(others)


@pytest.mark.parametrize("module", ["gateway.client", "connectors.loaders"])
def test_the_client_imports_no_server_library(
    module: str, clean_python: Path, tmp_path: Path
) -> None:
    code = f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(clean_python, "-c", code, cwd=tmp_path))
    assert not [m for m in loaded if m.split(".")[0] in HEAVY]
    rooms = ("api", "bootstrap", "services", "delivery", "shards", "policy", "catalog", "journal")
    assert not [m for m in loaded if m.startswith(tuple(f"gateway.{room}" for room in rooms))]


def test_the_client_imports_no_server_library_even_where_one_is_installed(tmp_path: Path) -> None:
    code = "import gateway.client, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(sys.executable, "-c", code, cwd=tmp_path))
    assert not [m for m in loaded if m.split(".")[0] in HEAVY]


def test_the_import_time_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The goal (1.2) is asserted by `make bench`, where nothing else runs beside it."""
    program = ROOT / "tests" / "bench" / "client_import.py"
    done = subprocess.run(
        [sys.executable, program, "--quick", "--json"], capture_output=True, text=True, check=False
    )
    line = json.loads(done.stdout)
    with capsys.disabled():
        print(f" [import gateway.client: {line['value']} {line['unit']}] ", end="")
    assert line["value"] > 0
