"""Findings about rules that are valid and probably not what their author meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from gateway.domain.access import DATA_ACTIONS, Resource
from gateway.domain.masks import applies_to
from gateway.domain.rowfilter import bind, binds_of, check_types, columns_of
from gateway.errors import InvalidInput
from gateway.policy.bundle import PolicyBundle
from gateway.policy.rules import Rule

CANDIDATES_WARN = 100
# Always known, hence harmless in a deny.
_CERTAIN = frozenset(
    {"subject.id", "subject.tenant", "subject.type", "resource.tenant", "context.time"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to look at; `code` is of the list in docs/formats/policy-v0.md §9."""

    code: str
    rule: str
    place: str  # `file:line`
    text: str

    def to_dict(self) -> dict[str, str]:
        """JSON shape."""
        return asdict(self)


def lint(
    bundle: PolicyBundle, *, now: float, resources: Iterable[Resource] = ()
) -> tuple[Finding, ...]:
    """Look at every rule.

    Args:
        bundle: what was read.
        now: Unix seconds.
        resources: the tenant's datasets, to check names and types against; () checks none.
    """
    known = {f"dataset:{r.dataset.unversioned}": r for r in resources if r.dataset is not None}
    found: list[Finding] = []
    for rule in bundle.rules:
        texts = [*_of_rule(rule, now), *_of_names(rule, known)]
        place = f"{rule.place.file}:{rule.place.line}"
        found += [Finding(code=c, rule=rule.id, place=place, text=t) for c, t in texts]
    return tuple(found + list(_crowded(bundle)))


def _of_rule(rule: Rule, now: float) -> Iterator[tuple[str, str]]:
    if rule.expires_at is not None and rule.expires_at <= now:
        yield "expired", f"this {rule.kind} has not held since it expired; remove or renew it"
    if rule.kind == "allow":
        yield from _of_allow(rule)
    if rule.when is not None:
        reads = rule.when.reads()
        if not reads:
            yield "constant-condition", f"`{rule.when.text()}` never depends on the request"
        unsure = sorted(reads - _CERTAIN)
        if rule.kind == "deny" and unsure:
            yield (
                "deny-over-optional",
                f"whoever lacks {', '.join(f'`{name}`' for name in unsure)} is denied",
            )


def _of_allow(rule: Rule) -> Iterator[tuple[str, str]]:
    wide = [text for text in rule.principals if text == "*" or text.endswith("/*")]
    if wide:
        yield "wildcard-principal", f"{', '.join(f'`{text}`' for text in wide)} is allowed"
    if any(action in DATA_ACTIONS for action in rule.actions):
        if not rule.purposes:
            yield "any-purpose", "data is released for every purpose"
        if rule.expires_at is None:
            yield "no-end", "this rule never expires"
    unused = [name for name, _ in rule.masks if not rule.tags and name not in rule.columns]
    if unused:
        yield "mask-unused", f"`{unused[0]}` is masked but not released"


def _of_names(rule: Rule, known: dict[str, Resource]) -> Iterator[tuple[str, str]]:
    if not known or not rule.key.startswith("dataset:"):
        return
    resource = known.get(rule.key)
    if resource is None:
        yield "unknown-dataset", f"`{rule.scope}` is not registered"
        return
    types = {column.name: column.type for column in resource.columns}
    named = {*rule.columns, *(name for name, _ in rule.masks)}
    named |= set(columns_of(rule.where)) if rule.where else set()
    for name in sorted(named - set(types)):
        yield "unknown-column", f"`{name}` is no column of the newest version"
    for name, mask in rule.masks:
        if name in types and not applies_to(mask, types[name]):
            yield "mask-unsuited", f"`{mask}` cannot mask `{name}`, so the column is withheld"
    if rule.where is not None and not binds_of(rule.where):
        try:
            check_types(bind(rule.where, {}), resource.columns)
        except InvalidInput as cause:
            yield "filter-unusable", cause.message


def _crowded(bundle: PolicyBundle) -> Iterator[Finding]:
    crowd: Counter[tuple[str, str, str]] = Counter()
    for rule in bundle.rules:
        for principal in rule.principals:
            crowd.update((rule.key, action, principal) for action in rule.actions)
    for (key, action, principal), count in crowd.items():
        if count > CANDIDATES_WARN:
            yield Finding(
                code="crowded",
                rule="",
                place="",
                text=f"{count} rules for `{action}` on `{key}` by `{principal}`: slow to judge",
            )
