"""Write the JSON Schemas for editors, from the words that the loader itself knows.

Run it after a change of the format, of `policies/schema.yaml` or of a closed list. What a schema
refuses the loader refuses too (tests/policy/test_editor_schemas.py), so that an editor is never
wrong; what only the loader can see (names that exist, types, conditions) it still says alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gateway.domain.access import ACTIONS, DATA_ACTIONS  # noqa: E402
from gateway.domain.masks import _APPLIES, BUCKET  # noqa: E402
from gateway.domain.obligations import ENFORCED, TRACKED  # noqa: E402
from gateway.domain.purpose import _DUO, PURPOSES  # noqa: E402
from gateway.policy import bundle, rules, schema, suite  # noqa: E402
from gateway.policy.lexer import EXPRESSION_CHARS_MAX  # noqa: E402
from gateway.policy.version import _READ  # noqa: E402

Json = dict[str, Any]
# A scalar has no type until its field gives it one: YAML may see a number where a name stands.
SCALAR: Json = {"type": ["string", "number", "boolean", "null"]}
TRUTH: Json = {"enum": [True, False, "true", "false"]}
WHOLE: Json = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9][0-9_]*$"}]}
ATTRIBUTES: Json = {"type": "object", "additionalProperties": SCALAR}
MASK: Json = {
    "type": "string",
    "anyOf": [
        {"enum": [name for name in _APPLIES if name != BUCKET]},
        {"pattern": f"^{BUCKET}:[1-9][0-9]{{0,12}}$"},
    ],
}
MASKS: Json = {"type": "object", "additionalProperties": MASK}
RELEASES = ("columns", "tags")
SHAPES = ("masks", "tag_masks", "where", "limits", "obligations")


def text(pattern: str | None = None, about: str | None = None) -> Json:
    found = dict(SCALAR)
    if pattern is not None:
        found["pattern"] = pattern
    return {**found, "description": about} if about else found


def one_of(*words: str) -> Json:
    return {"enum": list(words)}


def listed(item: Json) -> Json:
    """A list without repetition; one text counts as a list of one."""
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}]}


def mapping(required: tuple[str, ...] = (), **properties: Json) -> Json:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def named(value: Json, pattern: str | None = None) -> Json:
    """A mapping whose names are its author's."""
    if pattern is None:
        return {"type": "object", "additionalProperties": value}
    return {"type": "object", "patternProperties": {pattern: value}, "additionalProperties": False}


def obligation_values() -> Json:
    kinds: Json = {
        "bool": {"type": "boolean"},
        "int": WHOLE,
        "string": {"type": ["string", "number", "null"]},
        schema.PERIOD: {"type": "string", "pattern": "^P[1-9][0-9]{0,3}[DWMY]$"},
    }
    known = schema.default_schema().obligations
    return mapping(**{
        name: {**kinds[one.type], "description": one.level} for name, one in known.items()
    })  # fmt: skip


def names(field: str, *words: str) -> Json:
    """A rule whose list `field` names one of these."""
    one = one_of(*words)
    listing = {"type": "array", "contains": one}
    return {"properties": {field: {"anyOf": [one, listing]}}, "required": [field]}


def of_kind(kind: str) -> Json:
    return {"properties": {"kind": {"const": kind}}, "required": ["kind"]}


def only(condition: Json, consequence: Json) -> Json:
    return {"if": condition, "then": consequence}


def nothing_of(*fields: str) -> Json:
    """None of these; an empty mapping is nothing, too."""
    empty = {"masks", "tag_masks", "limits", "obligations"}
    return {"properties": {f: {"maxProperties": 0} if f in empty else False for f in fields}}


def kinds() -> list[Json]:
    data = names("actions", *DATA_ACTIONS)
    everything = names("actions", *DATA_ACTIONS, "*")
    uncombined = {"properties": {"combinable": one_of(*TRUTH["enum"][1::2])}}
    public = {"properties": {"public": one_of(*TRUTH["enum"][::2])}, "required": ["public"]}
    released = {"anyOf": [{"required": [field]} for field in RELEASES]}
    restricts = {"anyOf": [{"required": [field]} for field in SHAPES]}
    allow, restrict = of_kind("allow"), of_kind("restrict")
    return [
        only(of_kind("deny"), {"allOf": [nothing_of(*RELEASES, *SHAPES), uncombined]}),
        only(restrict, {"allOf": [nothing_of(*RELEASES), uncombined, restricts, everything]}),
        only(allow, {"not": names("actions", "*")}),
        only({"allOf": [allow, names("principals", "*")]}, public),
        only({"allOf": [allow, data]}, released),
        only(
            {"allOf": [allow, {"not": data}]},
            {"allOf": [nothing_of(*RELEASES, *SHAPES), uncombined]},
        ),
    ]


def rule() -> Json:
    expression = {"type": ["string", "boolean"], "maxLength": EXPRESSION_CHARS_MAX}
    fields = mapping(
        ("id", "kind", "principals", "scope", "actions"),
        id=text(r"^[a-z0-9][a-z0-9._-]*$", "unique in the world: TENANT.WORDS"),
        kind=one_of(*rules.KINDS),
        principals=listed(text(r"^(\*|[^/]+/(\*|(user|role):.+))$", "TENANT/role:NAME, …")),
        scope=text(r"^(global|(dataset:[^/]+/.+|tag:.+|tenant:.+))$", "what it is about"),
        actions=listed(one_of(*ACTIONS, "*")),
        purpose=listed(one_of(*PURPOSES, *_DUO)),
        splits=listed(text()),
        when={**expression, "description": "condition over subject., workload., resource., …"},
        accepts=listed(one_of(*rules.ACCEPTABLE)),
        expires={"type": "string", "pattern": "^[0-9]", "description": "2027-03-31"},
        explain=one_of("owner", "requester"),
        public=TRUTH,
        columns=listed(text()),
        tags=listed({**text(), "not": {"const": "restricted"}}),
        masks=MASKS,
        tag_masks=MASKS,
        where={**expression, "description": "rows that may be seen"},
        limits=mapping(
            max_rows=WHOLE,
            max_epochs=WHOLE,
            max_bytes=text(r"^[1-9][0-9_]* ?(|B|KiB|MiB|GiB|TiB)$", "200GiB"),
            valid=text(r"^[1-9][0-9]{0,4}[mhd]$", "14d, 8h, 30m"),
        ),
        obligations=obligation_values(),
        combinable=TRUTH,
        owner=text(),
        ticket=text(),
        description=text(),
    )
    return {**fields, "allOf": kinds()}


def suite_fields() -> dict[str, Json]:
    rows: Json = {"type": "array", "items": ATTRIBUTES}
    column = mapping(("type",), type=text(about="Arrow type"), tags=listed(text()))
    expected = mapping(
        ("subject", "action"),
        subject=text(),
        dataset=text(),
        action=one_of(*ACTIONS),
        effect=one_of("allow", "deny"),
        columns=listed(text()),
        masks=MASKS,
        rules=listed(text()),
        reasons=listed(text()),
        advice=text(),
        where=text(),
        rows=rows,
    )
    test = mapping(
        ("name", "subjects", "actions"),
        name=text(),
        subjects=listed(text()),
        datasets=listed(text()),
        actions=listed(one_of(*ACTIONS)),
        purpose=one_of(*PURPOSES, *_DUO),
        columns=listed(text()),
        split=text(),
        run=text(),
        context=ATTRIBUTES,
        expected={"type": "array", "items": expected},
    )
    subject = mapping(
        ("id",),
        id=text("/", "TENANT/NAME"),
        type=one_of("person", "job"),
        roles=listed(text()),
        attributes=ATTRIBUTES,
    )
    dataset = mapping(
        ("ref",),
        ref=text("/", "TENANT/NAME@1"),
        columns=named(column),
        splits=listed(text()),
        suspended=TRUTH,
        attributes=ATTRIBUTES,
        rows=rows,
    )
    return {
        "now": {"type": "string", "description": "2026-12-01T12:00:00Z"},
        "subjects": named(subject),
        "datasets": named(dataset),
        "tests": {"type": "array", "items": test},
    }


def schema_fields() -> dict[str, Json]:
    attribute = mapping(
        type=one_of(*schema.TYPES),
        authority=one_of(*schema.AUTHORITIES),
        values=listed(text()),
        description=text(),
    )
    obligation = mapping(
        type=one_of("string", "int", "bool", schema.PERIOD),
        level=one_of(*schema.LEVELS),
        description=text(),
    )
    really = {"enforced": ENFORCED, "tracked": TRACKED}
    known = named(obligation, "^[a-z][a-z0-9_]*$")
    known["patternProperties"] |= {
        rf"^(?!({'|'.join(done)})$)": {"not": {"properties": {"level": {"const": level}},
                                               "required": ["level"]}}
        for level, done in really.items()
    }  # fmt: skip
    roots = "^(subject|workload|resource|context)[.][a-z][a-z0-9_]*$"
    return {"attributes": named(attribute, roots), "obligations": known}


def document(kind: str, title: str, required: tuple[str, ...], fields: dict[str, Json]) -> Json:
    versions = one_of(*(f"{kind}/{version}" for version in _READ))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **mapping(("format", *required), format=versions, **fields),
    }


def schemas() -> dict[str, Json]:
    """Every schema by the name of its file."""
    listing = {"rules": {"type": "array", "items": rule()}}
    return {
        "rules": document(bundle.RULES, "Rules of a tenant", (), listing),
        "test": document(suite.SUITE, "A suite of tests of rules", ("now",), suite_fields()),
        "schema": document(schema.SCHEMA, "What rules may read and oblige", (), schema_fields()),
        "bundle": document(
            bundle.SETTINGS, "Settings of a bundle", ("second_person",), {"second_person": TRUTH}
        ),
    }


def path_of(name: str) -> Path:
    return ROOT / "policies" / "editor" / f"{name}.schema.json"


def text_of(value: Json) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    for name, value in schemas().items():
        path_of(name).write_text(text_of(value), "utf-8")


if __name__ == "__main__":
    main()
