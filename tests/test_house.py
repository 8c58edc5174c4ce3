"""The house rules as tests, so that style is never debated: sizes, names, docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted(
    p for top in ("gateway", "connectors", "policies") for p in (ROOT / top).rglob("*.py")
)
LINES_MAX, FUNCTION_LINES_MAX = 400, 60
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
