"""The command line, OpenAPI and the Python names are the designed ones: none missing, none more."""

from __future__ import annotations

import inspect
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.api import openapi
from gateway.api.app import ACTS
from gateway.cli.app import PANELS, app
from gateway.client.client import GatewayClient

HERE = Path(__file__).resolve().parent
DESIGN: dict[str, Any] = tomllib.loads((HERE / "interface.toml").read_text())
CLI_PAGE = (HERE.parent / "docs/reference/cli.md").read_text()
HTTP_PAGE = (HERE.parent / "docs/reference/http.md").read_text()
ROOT: Any = typer.main.get_command(app)


def verbs_of(noun: str) -> dict[str, Any]:
    if noun == "-":
        return {k: c for k, c in ROOT.commands.items() if not hasattr(c, "commands")}
    return dict(ROOT.commands[noun].commands) if noun in ROOT.commands else {}


BUILT = [(noun, verb) for noun, table in DESIGN["cli"].items() for verb in table["built"]]


def test_the_nouns_are_the_designed_ones() -> None:
    nouns = {name for name, command in ROOT.commands.items() if hasattr(command, "commands")}
    assert nouns == {n for n, table in DESIGN["cli"].items() if table["built"] and n != "-"}


@pytest.mark.parametrize("noun", DESIGN["cli"])
def test_a_noun_has_the_designed_verbs_and_no_stub(noun: str) -> None:
    table = DESIGN["cli"][noun]
    assert set(verbs_of(noun)) == set(table["built"])
    assert not set(table["built"]) & set(table["later"])


@pytest.mark.parametrize(("noun", "verb"), BUILT)
def test_a_verb_has_every_designed_flag_and_no_undocumented_one(noun: str, verb: str) -> None:
    table, common = DESIGN["cli"][noun], DESIGN["common"]
    command = verbs_of(noun)[verb]
    have = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("--")}
    named = table.get("flags", {}).get(verb, [])
    wanted = {f for name in named for f in (common["ask"] if name == "ask" else [name])}
    assert wanted <= have, f"missing: {wanted - have}"
    assert not set(table.get("later_flags", {}).get(verb, [])) & have
    other = set(table.get("other", {}).get(verb, []))
    assert other <= have, f"listed but absent: {other - have}"
    unlisted = have - wanted - other - {*common["everywhere"], *common["shared"]}
    assert not unlisted
    for flag in other:
        assert f"`{flag}" in CLI_PAGE, f"docs/reference/cli.md does not explain {flag}"
    assert "--json" in have
    if verb not in table.get("local", []):
        assert "--server" in have
        assert ("--key-file" in have) == (verb not in table.get("nobody", []))


@pytest.mark.parametrize(("noun", "verb"), BUILT)
def test_a_verb_shows_one_example(noun: str, verb: str) -> None:
    command = verbs_of(noun)[verb]
    words = verb if noun == "-" else f"{noun} {verb}"
    assert (command.epilog or "").startswith(f"Example: gateway {words}")
    assert command.help


def test_help_groups_commands_by_user() -> None:
    assert {command.rich_help_panel for command in ROOT.commands.values()} == set(PANELS)


def test_http_has_the_designed_routes_and_no_stub() -> None:
    found = {
        path: {method.upper() for method in methods}
        for path, methods in openapi.document(ACTS)["paths"].items()
    }
    tables = DESIGN["http"]
    assert found == {p: set(m) for p, m in {**tables["built"], **tables["extra"]}.items()}
    for path, methods in tables["later"].items():
        assert not set(methods) & found.get(path, set())


def test_every_route_is_documented() -> None:
    for path in (*DESIGN["http"]["built"], *DESIGN["http"]["extra"]):
        assert f"`{path}`" in HTTP_PAGE, f"docs/reference/http.md does not name {path}"


def test_python_has_the_designed_names() -> None:
    nouns = {
        name: value.func.__annotations__["return"]
        for name, value in vars(GatewayClient).items()
        if isinstance(value, cached_property)
    }
    table = dict(DESIGN["python"])
    own = {n for n in vars(GatewayClient) if not n.startswith("_")} | {"settings", "transport"}
    assert own == {*nouns, *table.pop("")}
    assert set(nouns) == set(table)
    for noun, verbs in table.items():
        kind = type(getattr(GatewayClient("http://127.0.0.1:1"), noun))
        public = {n for n, _ in inspect.getmembers(kind, callable) if not n.startswith("_")}
        assert public == set(verbs), noun


def test_the_same_word_stands_in_all_three_places() -> None:
    """Flags of `access check` are the arguments of Python and the fields of JSON."""
    flags = {name.removeprefix("--").replace("-", "_") for name in DESIGN["common"]["ask"]}
    schema = openapi.document(ACTS)["components"]["schemas"]["EvaluationContext"]["properties"]
    assert flags - {"column"} <= set(schema)
