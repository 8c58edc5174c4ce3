"""The documentation is complete and true: settings, errors, links, test ids, code blocks."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from gateway import errors
from gateway.config import Settings, load

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TYPES = {"str": "text", "int": "integer", "bool": "true or false", "Path": "path"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def table_rows(page: Path) -> list[list[str]]:
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_setting_is_documented_in_order_with_its_type_and_default() -> None:
    rows = table_rows(DOCS / "reference" / "config.md")
    documented = [row[0].strip("`") for row in rows]
    assert documented == [f.name for f in fields(Settings)]
    defaults = {f.name: f.default for f in fields(Settings)}
    for setting, (_, kind, default, meaning) in zip(fields(Settings), rows, strict=True):
        assert kind == TYPES[str(setting.type).split(" ")[0]], setting.name
        assert meaning
        if default.startswith("`$XDG"):
            continue
        actual = defaults[setting.name]
        shown = default.strip("`")
        assert {"not set": None, "false": False}.get(shown, shown) in (actual, str(actual))


def test_the_documented_settings_file_is_accepted(tmp_path: Path) -> None:
    text = (DOCS / "reference" / "config.md").read_text("utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example
    (tmp_path / "gateway.toml").write_text(example[1])
    settings = load({"config_dir": tmp_path})
    for key, value in tomllib.loads(example[1]).items():
        assert getattr(settings, key) == value


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


def limits() -> list[tuple[str, str]]:
    page = (DOCS / "reference" / "limits.md").read_text("utf-8")
    return re.findall(r"^\| .+? \| (.+?) \| `([\w.]+:\w+)` \|$", page, re.MULTILINE)


@pytest.mark.parametrize(("value", "constant"), limits(), ids=lambda text: text)
def test_a_documented_limit_is_the_one_in_the_code(value: str, constant: str) -> None:
    module, _, attribute = constant.partition(":")
    number, _, unit = value.partition(" ")
    actual = getattr(importlib.import_module(module), attribute)
    assert int(number) * UNITS.get(unit, 1) == actual


def test_every_plug_stands_in_the_table_with_what_it_was_tested_against() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    plugs = {name for group, names in groups.items() for name in names}
    rows = {row[0].strip("`"): row for row in table_rows(DOCS / "reference" / "plugs.md")}
    assert set(rows) == plugs
    for plug, (_, uri, extra, does, tested) in rows.items():
        assert f"`{plug}:" in uri, plug
        assert extra, plug
        assert does, plug
        assert tested, plug


def all_errors(root: type[errors.GatewayError]) -> list[type[errors.GatewayError]]:
    return [root, *(e for child in root.__subclasses__() for e in all_errors(child))]


@pytest.mark.skipif(
    not (DOCS / "reference" / "errors.md").exists(), reason="the page is not written yet"
)
def test_every_error_code_is_documented() -> None:
    text = (DOCS / "reference" / "errors.md").read_text("utf-8")
    for error in all_errors(errors.GatewayError):
        if error.__module__ == "gateway.errors":
            assert re.search(rf"^#+ .*\b{error.code}\b|<a id=.{error.code}.>", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_inside_the_documentation_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name(page)} -> {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_in_code_exists(page: Path) -> None:
    pattern = r"`((?:gateway|connectors|policies|tests|docs|requirements)/[\w./-]+\.\w+)(?:::\w+)?`"
    for target in re.findall(pattern, page.read_text("utf-8")):
        assert (ROOT / target).exists(), f"{name(page)} names {target}"


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    page = DOCS / "explain" / "threat-model.md"
    for line in page.read_text("utf-8").splitlines():
        promised = re.match(r"\| T\d+ \|", line)
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert named or not promised, f"no test shows: {line[:80]}"
        for file, test in named:
            assert (ROOT / file).exists(), f"{file} is missing"
            assert test in functions_in(ROOT / file), f"{file}::{test} is missing"
