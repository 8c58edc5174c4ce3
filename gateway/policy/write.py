"""Write a rule for somebody: the YAML, a suite that tests it, and one plain sentence.

What is written is read back and its suite run before it is handed out, so `policy new` never
produces something that `policy push` refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.domain.access import DATA_ACTIONS
from gateway.domain.dataset import Column, DatasetRef
from gateway.domain.masks import DROP, parse_mask
from gateway.domain.purpose import PURPOSES, is_within
from gateway.domain.rowfilter import Filter, binds_of, text_of
from gateway.errors import PolicyError
from gateway.policy import bundle as bundles
from gateway.policy import suite, version
from gateway.policy.documents import Place, Scalar
from gateway.policy.filters import parse_where
from gateway.policy.guess import types_for
from gateway.policy.rules import ACCEPTABLE, Rule
from gateway.policy.schema import Schema, default_schema

# Asked about a tenant, never about one of its datasets: a rule of a dataset allows none of them.
_OF_TENANTS = ("register", "publish", "consent", "revoke", "operate")
_FIXTURES = {
    "string": "x",
    "int": 1,
    "decimal": 1,
    "bool": True,
    "timestamp": "2026-01-01T00:00:00Z",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWish:
    """What an owner wants to allow; the fields are the flags of `policy new`."""

    dataset: DatasetRef
    allow: tuple[str, ...]
    to: tuple[str, ...]  # `role:trainer` = of the dataset's own tenant; or `startup/role:trainer`
    purpose: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    masks: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    valid: str | None = None
    expires: str | None = None
    explain: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRule:
    """The result: files to add to the tenant's bundle."""

    id: str
    files: Mapping[str, str]  # the rule and its suite
    sentence: str


def write_rule(
    wish: RuleWish,
    *,
    now: float,
    columns: Sequence[Column] = (),
    taken: Iterable[str] = (),
    schema: Schema | None = None,
) -> WrittenRule:
    """Write the rule and check it.

    Args:
        wish: what to allow.
        now: Unix seconds; the suite is judged at this time.
        columns: of the dataset's newest version, with tags; () guesses types for the suite.
        taken: rule ids that are in use.
        schema: the one that ships with the gateway when absent.

    Raises:
        PolicyError: the wish cannot be a rule, or the rule would not release what it says.
    """
    known = schema or default_schema()
    tenant, name = wish.dataset.tenant, wish.dataset.name
    _require_asked(wish)
    rule_id = _free_id(f"{tenant}.{name}.{'-'.join(wish.allow)}", set(taken))
    path = rule_id.removeprefix(f"{tenant}.").replace(".", "/")
    tree = _filter(wish, known)
    rule = _rule_fields(wish, rule_id, tree, known)
    files = {f"{path}.yaml": _yaml({"format": version.written(bundles.RULES), "rules": [rule]})}
    read = bundles.PolicyBundle.read(files, tenant, known)
    fixture = tuple(columns) or _guessed(wish, tree, known)
    tests = _suite(read.rules[0], fixture, now, known)
    files[f"{path}{bundles.SUITE_SUFFIX}"] = _yaml(tests)
    written = bundles.PolicyBundle.read(files, tenant, known)
    for result in suite.run_suites(written, schema=known):
        if not result.ok:
            raise PolicyError(f"the rule would not do what it says: {result.text}")
    return WrittenRule(id=rule_id, files=files, sentence=sentence(written.rules[0]))


def _require_asked(wish: RuleWish) -> None:
    """Refuse a rule that nobody's question would ever match."""
    for action in wish.allow:
        if action in _OF_TENANTS:
            raise PolicyError(
                f"`{action}` is asked about a tenant, never about a dataset: the rule would never "
                "match",
                advice=f"write a rule with `scope: tenant:{wish.dataset.tenant}`, or give a role "
                "that has one",
            )


def sentence(rule: Rule) -> str:
    """What a rule means, in one sentence without special knowledge."""
    who = ", ".join("everybody" if p == "*" else f"`{p}`" for p in rule.principals)
    verb = {"allow": "may", "deny": "must not", "restrict": "sees less when it may"}[rule.kind]
    acts = ", ".join("do anything to" if action == "*" else action for action in rule.actions)
    text = f"{who} {verb} {acts} `{rule.scope}`"
    if rule.purposes:
        text += f" for {' or '.join(rule.purposes)}"
    parts = [*_released(rule), *_bounds(rule)]
    return f"{text}: {'; '.join(parts)}" if parts else text


def _released(rule: Rule) -> Iterable[str]:
    masks = dict(rule.masks)
    if rule.columns:
        shown = [f"{name} ({masks[name]})" if name in masks else name for name in rule.columns]
        yield f"columns {', '.join(shown)}"
    if rule.tags:
        yield f"every column tagged {', '.join(rule.tags)}"
    loose = [f"{name} ({mask})" for name, mask in rule.masks if name not in rule.columns]
    loose += [f"everything tagged {tag} ({mask})" for tag, mask in rule.tag_masks]
    if loose:
        yield f"masked {', '.join(loose)}"
    if rule.where is not None:
        yield f"rows where {text_of(rule.where)}"


def _bounds(rule: Rule) -> Iterable[str]:
    if rule.splits:
        yield f"only split {', '.join(rule.splits)}"
    if rule.when is not None:
        yield f"when {rule.when.text()}"
    for name, most in rule.limits.to_dict().items():
        yield f"at most {most} {name.removeprefix('max_')}"
    if rule.valid_seconds is not None:
        yield f"each grant ends after {rule.valid_seconds / 86400:g} days"
    for name, value in rule.obligations:
        yield f"on the promise {name}" + ("" if value is True else f" = {value}")
    if rule.expires_at is not None:
        yield f"until {datetime.fromtimestamp(rule.expires_at, UTC):%Y-%m-%d %H:%M} UTC"


def _free_id(base: str, taken: set[str]) -> str:
    found, number = base, 1
    while found in taken:
        number += 1
        found = f"{base}-{number}"
    return found


def _filter(wish: RuleWish, schema: Schema) -> Filter | None:
    if wish.where is None:
        return None
    place = Place("--where")
    return parse_where(Scalar(text=wish.where, place=place, plain=True, exact=True), schema)


def _rule_fields(
    wish: RuleWish, rule_id: str, tree: Filter | None, schema: Schema
) -> dict[str, Any]:
    tenant = wish.dataset.tenant
    bound = binds_of(tree) if tree else ()
    accepts = {schema.attributes[name].authority for name in bound} & set(ACCEPTABLE)
    fields: dict[str, Any] = {
        "id": rule_id,
        "kind": "allow",
        "description": wish.description,
        "principals": [who if "/" in who or who == "*" else f"{tenant}/{who}" for who in wish.to],
        "scope": f"dataset:{wish.dataset.unversioned}",
        "actions": list(wish.allow),
        "purpose": list(wish.purpose),
        "accepts": sorted(accepts),
        "expires": wish.expires,
        "explain": "requester" if wish.explain else None,
        "columns": list(wish.columns),
        "tags": list(wish.tags),
        "masks": dict(wish.masks),
        "where": wish.where,
        "limits": {"valid": wish.valid} if wish.valid else None,
    }
    return {key: value for key, value in fields.items() if value}


def _guessed(wish: RuleWish, tree: Filter | None, schema: Schema) -> tuple[Column, ...]:
    """Columns under which the rule can work, when the dataset is not at hand."""
    types = types_for(wish.columns, wish.masks.items(), [tree] if tree else [], schema)
    tags = wish.tags[:1]
    if tags:
        types.setdefault("tagged", "string")
    return tuple(
        Column(field_id=number, name=name, type=kind, tags=tags if name == "tagged" else ())
        for number, (name, kind) in enumerate(types.items(), 1)
    )


def _suite(rule: Rule, columns: Sequence[Column], now: float, schema: Schema) -> dict[str, Any]:
    tenant, _, who = rule.principals[0].partition("/")
    kind, _, name = who.partition(":")
    declared = [schema.attributes[bound] for bound in (binds_of(rule.where) if rule.where else ())]
    attributes = {
        one.name.removeprefix("subject."): one.values[0] if one.values else _FIXTURES[one.type]
        for one in declared
        if one.name.startswith("subject.")
    }
    subject: dict[str, Any] = {"id": f"{tenant}/{name if kind == 'user' else 'somebody'}"}
    if kind == "role":
        subject["roles"] = [name]
    if attributes:
        subject["attributes"] = attributes
    return {
        "format": version.written(suite.SUITE),
        "now": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "subjects": {"allowed": subject, "stranger": {"id": "stranger/somebody"}},
        "datasets": {"data": _dataset(rule, columns)},
        "tests": _tests(rule, columns),
    }


def _dataset(rule: Rule, columns: Sequence[Column]) -> dict[str, Any]:
    return {
        "ref": f"{rule.scope.removeprefix('dataset:')}@1",
        "columns": {
            column.name: {
                "type": column.type,
                **({"tags": list(column.tags)} if column.tags else {}),
            }
            for column in columns
        },
    }


def _tests(rule: Rule, columns: Sequence[Column]) -> list[dict[str, Any]]:
    masks = {name: mask for name, mask in rule.masks if parse_mask(mask)[0] != DROP}
    given = [c.name for c in columns if c.name in rule.columns and _is_shown(rule, c.name)]
    test: dict[str, Any] = {
        "name": "who is allowed gets exactly this, strangers nothing",
        "subjects": ["allowed", "stranger"],
        "datasets": ["data"],
        "actions": list(rule.actions),
    }
    expected = []
    for action in rule.actions:
        one: dict[str, Any] = {"subject": "allowed", "action": action, "effect": "allow"}
        if action in DATA_ACTIONS and not rule.tags:
            one["columns"] = given
            if shown := {name: mask for name, mask in masks.items() if name in given}:
                one["masks"] = shown
        expected.append(one)
    tests = [{**test, "expected": expected}]
    if rule.purposes:
        tests[0]["purpose"] = rule.purposes[0]
        other = next((p for p in PURPOSES if not any(is_within(p, a) for a in rule.purposes)), None)
        if other:
            name = "another purpose is denied to everybody"
            tests.append({**test, "name": name, "purpose": other})
    else:
        tests[0]["purpose"] = "research"
    return tests


def _is_shown(rule: Rule, name: str) -> bool:
    return dict(rule.masks).get(name) != DROP


def _yaml(value: Any, indent: str = "") -> str:
    """Block YAML of mappings and lists; every text that could be misread is quoted."""
    if isinstance(value, dict):
        return "".join(
            f"{indent}{_scalar(key)}:{_nested(each, indent)}" for key, each in value.items()
        )
    lines = []
    for each in value:
        body = _yaml(each, indent + "  ")
        lines.append(f"{indent}- {body[len(indent) + 2 :]}")
    return "".join(lines)


def _nested(value: Any, indent: str) -> str:
    if isinstance(value, dict) and value:
        return "\n" + _yaml(value, indent + "  ")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n" + _yaml(value, indent + "  ")
    if isinstance(value, (list, dict)):
        return f" [{', '.join(map(_scalar, value))}]\n" if isinstance(value, list) else " {}\n"
    return f" {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    plain = text.replace("_", "a").replace("-", "a").replace(".", "a").replace("/", "a")
    safe = plain.isascii() and plain.isalnum() and not text[0].isdigit() and text[0] not in "-._/"
    return text if safe and text not in ("true", "false") else json.dumps(text, ensure_ascii=False)
