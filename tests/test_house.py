"""The house rules as tests, so that style is never debated: sizes, names, docstrings."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted(
    p for top in ("gateway", "connectors", "policies") for p in (ROOT / top).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_MAX, FUNCTION_LINES_MAX, TEST_LINES_MAX = 400, 60, 600
BANNED = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", OURS, ids=name)
def test_a_module_says_what_it_is_and_fits_in_one_head(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name(path)} does not say what it is"
    assert text.count("\n") <= LINES_MAX, f"{name(path)} is longer than {LINES_MAX} lines"
    assert path.stem not in BANNED, f"{name(path)}: call it by what it does"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, (
                f"{name(path)}:{node.lineno} `{node.name}` has {length} lines"
            )


def test_a_test_module_keeps_to_one_subject() -> None:
    long = {name(p): lines for p in TESTS if (lines := p.read_text().count("\n")) > TEST_LINES_MAX}
    assert not long, f"longer than {TEST_LINES_MAX} lines, split by subject: {long}"


PARQUET = {"pyarrow.parquet", "pyarrow.dataset", "pyarrow.compute"}
COPIES = {"gateway/client/export.py", "gateway/client/export_keys.py"}  # docs/adr/0004


def test_parquet_is_touched_by_shards_and_connectors_and_for_copies() -> None:
    found = set()
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(".".join(n.split(".")[:2]) in PARQUET for n in names):
                found.add(name(path))
    allowed = ("gateway/shards/", "connectors/")
    assert {path for path in found if not path.startswith(allowed)} == COPIES


def test_policies_hold_data_only() -> None:
    code = [p for p in (ROOT / "policies").rglob("*.py") if p.name != "__init__.py"]
    assert not code


def test_nothing_here_names_a_machine_or_a_registry() -> None:
    forbidden = ("/" + "work/", "/" + "root/", "/simple" + "/")
    for path in ROOT.rglob("*"):
        hidden = any(
            part.startswith(".") and part not in {".ci", ".gitignore"}
            for part in path.relative_to(ROOT).parts
        )
        if (
            hidden
            or not path.is_file()
            or path.suffix not in {".py", ".md", ".toml", ".txt", ".yaml"}
        ):
            continue
        text = path.read_text()
        for needle in forbidden:
            assert needle not in text, f"{name(path)} contains `{needle}`"


LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=name)
def test_a_lock_names_no_host_and_hashes_everything(lock: Path) -> None:
    for line in lock.read_text().splitlines():
        assert not line.startswith("-"), f"{name(lock)}: option in `{line}`"
        assert "://" not in line, f"{name(lock)}: address in `{line}`"
        assert " @ " not in line, f"{name(lock)}: address in `{line}`"
    requirements = lock.read_text().replace("\\\n", " ").splitlines()
    assert all("==" in line and "--hash=sha256:" in line for line in requirements)


def test_the_locks_agree_with_each_other() -> None:
    pins = {lock.stem: {x for x in lock.read_text().split() if "==" in x} for lock in LOCKS}
    assert set(pins) == {"client", "cli", "server", "demo", "dev"}
    for small in ("client", "cli", "server", "demo"):
        assert pins[small] <= pins["dev"], f"{small} pins another version than dev"


@pytest.mark.parametrize("extra", ["client", "cli", "server", "demo", "dev"])
def test_the_locks_hold_every_declared_dependency(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    declared = [*project["project"]["dependencies"], *extras.get(extra, [])]
    if extra == "dev":
        declared += [d for d in project["dependency-groups"]["dev"] if isinstance(d, str)]
        declared += [d for group in extras.values() for d in group]
    names = {re.split(r"[^\w.-]", d)[0].lower() for d in declared} - {"dataset-gateway"}
    lock = (ROOT / "requirements" / f"{extra}.txt").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert names <= locked, f"run `make lock`: {sorted(names - locked)} not in {extra}.txt"
