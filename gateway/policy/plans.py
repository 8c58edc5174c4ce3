"""The Plan algebra: what several rules release together (docs/formats/policy-v1.md §5).

Every allow that counts is a whole unit; together they release only what each of them would.
Restricts are applied on top. So one more rule, of any kind, never widens a Plan that exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.domain.access import Limits, Plan, PlannedColumn, Resource, Scalar
from gateway.domain.dataset import Column
from gateway.domain.masks import DROP, LARGE_DOMAIN_TAG, UNKEYED, applies_to, strictest
from gateway.domain.obligations import regions
from gateway.domain.rowfilter import Filter, bind, binds_of, check_types, conjunction
from gateway.errors import InvalidInput
from gateway.policy.rules import Rule
from gateway.policy.schema import Schema
from gateway.policy.trial import RequestFacts, Trial

_UNLIMITED = Limits()
_IDENTIFYING = "pii"  # columns under this tag never get an unkeyed digest


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no Plan can be made."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A Plan, and the names that were asked for and are withheld."""

    plan: Plan
    withheld: tuple[str, ...]


def make_plan(
    trial: Trial,
    resource: Resource,
    allows: Sequence[Rule],
    schema: Schema,
    limits: Limits,
) -> Cut | Refusal:
    """Meet of the allows (what they release) under the restricts.

    `limits` are those of the request and of time.
    """
    request = trial.request
    rules = (*allows, *trial.terms("restrict"))
    asked = None if request.columns is None else frozenset(request.columns)
    columns = tuple(
        PlannedColumn(field_id=column.field_id, name=column.name, mask=mask)
        for column in resource.columns
        if (asked is None or column.name in asked)
        and all(releases(rule, column) for rule in allows)
        and (mask := mask_for(column, rules)) != DROP
    )
    if not columns:
        return Refusal("no-column-left", "no column of those asked for may be released")
    rows = _rows(rules, resource, trial.facts)
    if isinstance(rows, Refusal):
        return rows
    if _is_elsewhere(rules, trial.facts):
        return Refusal("region-locked", "the data may not go to where this would go")
    duties = _duties(rules, schema)
    if isinstance(duties, Refusal):
        return duties
    for rule in rules:
        if rule.limits != _UNLIMITED:
            limits = limits.least(rule.limits)
    assert resource.dataset is not None
    assert request.purpose is not None
    plan = Plan(
        dataset=resource.dataset,
        split=request.split,
        columns=columns,
        row_filter=rows,
        limits=limits,
        obligations=duties,
        purpose=request.purpose,
        action=request.action,
    )
    given = {column.name for column in columns}
    withheld = tuple(name for name in dict.fromkeys(request.columns or ()) if name not in given)
    return Cut(plan=plan, withheld=withheld)


def releases(rule: Rule, column: Column) -> bool:
    """By name, or when the rule releases every one of the column's tags.

    Not by a name that meant another column when somebody wrote the rule.
    """
    if column.name in rule.columns and not column.renewed:
        return True
    return bool(rule.tags) and all(
        any(tag_within(tag, released) for released in rule.tags) for tag in column.effective_tags
    )


def mask_for(column: Column, rules: Iterable[Rule]) -> str | None:
    """The strictest mask for the column; `x-drop` when it does not suit the column's type."""
    masks = [mask for rule in rules for mask in _masks(rule, column)]
    mask = strictest(masks)
    if mask is None:
        return None
    suited = all(applies_to(each, column.type) for each in (*masks, mask))
    return mask if suited and hides(mask, column) else DROP


def hides(mask: str, column: Column) -> bool:
    """Whether what the mask leaves cannot be turned back by listing values.

    An unkeyed digest hides only what nobody can list: no identifier, and no column but those
    that their owner says have more values than anybody can try.
    """
    if mask != UNKEYED:
        return True
    identifying = any(tag_within(tag, _IDENTIFYING) for tag in column.tags)
    return LARGE_DOMAIN_TAG in column.tags and not identifying


def tag_within(tag: str, above: str) -> bool:
    """`pii.email` is within `pii`."""
    return tag == above or tag.startswith(f"{above}.")


def _masks(rule: Rule, column: Column) -> list[str]:
    named = [mask for name, mask in rule.masks if name == column.name]
    tagged = [
        mask
        for above, mask in rule.tag_masks
        if any(tag_within(tag, above) for tag in column.effective_tags)
    ]
    return named + tagged


def _rows(
    rules: Iterable[Rule], resource: Resource, facts: RequestFacts
) -> Filter | Refusal | None:
    known = [column for column in resource.columns if not column.renewed]
    try:
        bound = [
            bind(rule.where, facts.values(binds_of(rule.where)))
            for rule in rules
            if rule.where is not None
        ]
        for tree in bound:
            check_types(tree, known)
    except InvalidInput:
        return Refusal("filter-unusable", "a row filter cannot be applied")
    return conjunction(bound)


def _is_elsewhere(rules: Iterable[Rule], facts: RequestFacts) -> bool:
    """Whether a `region_lock` excludes a region, or nobody whom its rule accepts names one."""
    for rule in rules:
        lock = dict(rule.obligations).get("region_lock")
        if lock is None:
            continue
        named = ["workload.region", *(["subject.region"] if "recipient" in rule.accepts else [])]
        known = set(facts.values(named).values())
        if not known or not known <= regions(str(lock)):
            return True
    return False


def _duties(rules: Iterable[Rule], schema: Schema) -> tuple[tuple[str, Scalar], ...] | Refusal:
    found: dict[str, Scalar] = {}
    for rule in rules:
        for name, value in rule.obligations:
            if name not in schema.obligations:
                return Refusal("obligation-unknown", "an obligation is not known to this gateway")
            if found.setdefault(name, value) != value:
                return Refusal("obligation-conflict", f"rules disagree about `{name}`")
    return tuple(sorted(found.items()))
