"""The JSON Schemas for editors: what ships is valid, and what they refuse the loader refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.errors import PolicyError
from gateway.policy import packs
from gateway.policy.bundle import PolicyBundle
from gateway.policy.documents import Mapping, Node, Sequence, read_document
from gateway.policy.schema import read_schema
from gateway.policy.suite import run_suites
from gateway.shards.fixture_rows import visible
from tests.vectors.make_editor_schemas import path_of, schemas, text_of

from . import test_places
from .hostile import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = schemas()
PLACES = {"rules": "rules", "test": "suite", "schema": "schema", "bundle": "settings"}
READ: dict[str, Callable[[str], object]] = {
    "rules": lambda text: PolicyBundle.read({"a.yaml": text}, "clinic"),
    "test": lambda text: run_suites(
        PolicyBundle.read({"a_test.yaml": text}, "clinic"), show=visible
    ),
    "schema": read_schema,
    "bundle": lambda text: PolicyBundle.read({"bundle.yaml": text}, "clinic"),
}


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(path_of(name).read_text("utf-8")))


def as_editors_see(node: Node) -> Any:
    """A document by the core schema of YAML 1.2, as a language server reads it."""
    if isinstance(node, Mapping):
        return {name: as_editors_see(value) for name, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [as_editors_see(item) for item in node.items]
    return _plain(node.text) if node.plain else node.text


def _plain(text: str) -> Any:
    if text in ("", "null", "~", "true", "false"):
        return {"true": True, "false": False}.get(text)
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    number = re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text)
    return float(text) if number else text


def _files() -> Iterator[tuple[str, str]]:
    """Place and text of every policy file that this repository ships or shows."""
    for pack in packs.names():
        yield from packs.load(pack, "clinic").items()
    for path in [ROOT / "policies/schema.yaml", *sorted((ROOT / "gateway/demo").rglob("*.yaml"))]:
        yield path.name, path.read_text("utf-8")
    for path in sorted((ROOT / "tests/vectors/policy-v1").glob("ok-*.json")):
        for name, text in json.loads(path.read_text("utf-8"))["files"].items():
            yield f"{path.stem}/{name}", text
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for text in re.findall(r"```yaml\n(format: gateway-policy[^`]*)", page.read_text("utf-8")):
            yield page.name, text
    yield from ((name, text) for name, (text, _) in test_places.FILES.items())


def kind_of(text: str) -> str:
    found = re.search(r"^format: gateway-policy-?([a-z]*)/", text, re.MULTILINE)
    return (found and found[1]) or "rules"


SHIPPED = [pytest.param(text, id=place) for place, text in _files()]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_say_what_the_loader_knows_today(name: str) -> None:
    assert path_of(name).read_text("utf-8") == text_of(SCHEMAS[name]), "make_editor_schemas.py"
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("text", SHIPPED)
def test_what_ships_is_valid_in_an_editor(text: str) -> None:
    tree = as_editors_see(read_document(text, "a.yaml"))
    assert [error.message for error in validator(kind_of(text)).iter_errors(tree)] == []


SEEN = [  # of the vectors that are refused: what an editor can see
    "everybody", "kind", "mask", "no-columns", "obligation", "restricted-tag",
]  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_a_vector_of_wrong_shape_is_refused_in_an_editor_too(name: str) -> None:
    path = ROOT / f"tests/vectors/policy-v1/bad-policy-invalid-{name}.json"
    text = json.loads(path.read_text("utf-8"))["files"]["rules.yaml"]
    assert not validator("rules").is_valid(as_editors_see(read_document(text, "a.yaml")))


@pytest.mark.parametrize(
    "what",
    [
        "a list for a text",
        "a mapping for a list",
        "a text for a mapping",
        "a comma in an id",
        "a Greek letter in a kind",
    ],
)
def test_a_hostile_shape_is_refused_in_an_editor_too(what: str) -> None:
    tree = as_editors_see(read_document(HOSTILE[what][0], "a.yaml"))
    assert not validator("rules").is_valid(tree)


def _holders(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    if isinstance(tree, (dict, list)):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _holders(tree[key])


VALUES: list[Any] = [
    "", "x", "*", "allow", "deny", "restrict", "stream", "discover", "startup/*", "true", "P1D",
    "truncate-to-year", "enforced", "GRU", 0, 1, -3, 2.5, True, False, None, [], {}, [[]], ["*"],
    ["discover"], ["stream", "*"], {"x": 1}, {"age": "x-drop"}, [{"a": "b"}], "clinic.b", "1"
]  # fmt: skip
STRANGE = st.sampled_from(VALUES).map(deepcopy)


def _whole(kind: str) -> Any:
    """A document with every field."""
    text = test_places.FILES[PLACES[kind]][0].replace("5_000", "5000")
    return as_editors_see(read_document(text, "a.yaml"))


@st.composite
def _changed(draw: st.DrawFn, kind: str) -> Any:
    """A whole document in which up to three things were removed, replaced, renamed or doubled."""
    tree = _whole(kind)
    for _ in range(draw(st.integers(1, 3))):
        holders = list(_holders(tree))
        if not holders:
            break
        holder, key = draw(st.sampled_from(holders))
        act = draw(st.sampled_from(["replace", "remove", "add"]))
        if act == "remove":
            del holder[key]
        elif act == "replace":
            holder[key] = draw(STRANGE)
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(["nonsense", "public", "where", "age"]))] = draw(STRANGE)
        else:
            holder.append(deepcopy(holder[key]))
    return tree


@pytest.mark.parametrize("kind", SCHEMAS)
@given(data=st.data())
def test_what_an_editor_refuses_the_loader_refuses(kind: str, data: st.DataObject) -> None:
    tree = data.draw(_changed(kind))
    if not validator(kind).is_valid(tree):
        with pytest.raises(PolicyError):
            READ[kind](json.dumps(tree))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_no_single_value_is_refused_by_an_editor_alone(kind: str) -> None:
    tree = _whole(kind)
    refused = 0
    for holder, key in list(_holders(tree)):
        kept = holder[key]
        for holder[key] in VALUES:
            if not validator(kind).is_valid(tree):
                refused += 1
                with pytest.raises(PolicyError):
                    READ[kind](json.dumps(tree))
        holder[key] = kept
    assert refused > 20
