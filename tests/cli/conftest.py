"""The command line against a served simulator, in this process, with its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import run
from tests.api.secured import SecuredSimulator, enrol
from tests.client.conftest import gateway, url

__all__ = ["gateway", "url"]


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Person = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories of nobody else, and no variable of the machine's own."""
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


@pytest.fixture
def typed(home: Path, capsys: pytest.CaptureFixture[str]) -> Person:
    def gateway_(*words: str | Path) -> Said:
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return gateway_


@pytest.fixture
def as_(typed: Person, gateway: SecuredSimulator, url: str, home: Path) -> Callable[..., Said]:
    """`as_("clinic/owner", "dataset", "list")`: one command of one person."""

    def person(identity: str, *words: str | Path) -> Said:
        path = home / f"{identity.replace('/', '-')}.json"
        if not path.exists():
            enrol(gateway, path, identity)
        return typed(*words, "--server", url, "--key-file", path)

    return person
