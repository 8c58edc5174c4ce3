"""What a lease says of the program that streams: its code and its framework."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import InvalidInput
from gateway.wire.leases import LeaseRequest

MAIN = """
import json, sys
import model, more.layers
class Lazy:
    def __getattr__(self, name):
        raise SystemExit(name)
sys.modules["lazy"] = Lazy()
from gateway.client import program
print(json.dumps([program.code_digest(), program.framework()]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(MAIN)
    (tmp_path / "model.py").write_text("import torch")
    (tmp_path / "torch.py").write_text('__version__ = "2.13.0"')
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "layers.py").write_text("")
    (tmp_path / "unused.py").write_text("")
    return tmp_path


def told(place: Path, *how: str) -> tuple[str | None, str | None]:
    command = [sys.executable, *(how or ("train.py",))]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    digest, framework = json.loads(done.stdout)
    return digest, framework


def test_the_digest_is_of_the_programs_own_modules(place: Path) -> None:
    names = ("model.py", "more/layers.py", "torch.py", "train.py")
    files = b"".join(
        name.encode() + b"\0" + hashlib.sha256((place / name).read_bytes()).digest()
        for name in names
    )
    assert told(place) == (hashlib.sha256(files).hexdigest(), "torch-2.13.0")


def test_another_module_is_another_digest_and_what_is_not_loaded_is_not(place: Path) -> None:
    before = told(place)
    (place / "unused.py").write_text("x = 1")
    assert told(place) == before
    (place / "more" / "layers.py").write_text("x = 1")
    assert told(place)[0] != before[0]


def test_a_program_without_a_file_has_no_digest(place: Path) -> None:
    assert told(place, "-c", MAIN.replace("import model, more.layers", "")) == (None, None)


@pytest.mark.parametrize(
    "words",
    [{"code": "abc"}, {"code": "A" * 64}, {"framework": "torch"}, {"framework": "my net-1 2"}],
)
def test_a_lease_is_asked_for_with_a_digest_and_a_version_only(words: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(words))):
        LeaseRequest(**words)  # type: ignore[arg-type]
