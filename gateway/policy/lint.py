"""Findings about rules that are valid and probably not what their author meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from gateway.domain.access import DATA_ACTIONS, Resource
from gateway.domain.dataset import Column
from gateway.domain.masks import applies_to
from gateway.domain.rowfilter import bind, binds_of, check_types, columns_of
from gateway.errors import InvalidInput
from gateway.policy.bundle import PolicyBundle
from gateway.policy.cover import covers, keys_above
from gateway.policy.documents import Place
from gateway.policy.domains import assignments
from gateway.policy.plans import hides, tag_within
from gateway.policy.rules import Rule
from gateway.policy.schema import Schema, default_schema

CANDIDATES_WARN = 100
CANDIDATES_MAX = 500  # more are refused: each costs the judge about 2 µs in every request
FINDINGS_MAX = 1_000
WARNING, ERROR = "warning", "error"
# Always known, hence harmless in a deny.
_CERTAIN = frozenset(
    {"subject.id", "subject.tenant", "subject.type", "resource.tenant", "context.time"}
)
_Text = tuple[str, str]  # code, what is to be said


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to look at; `code` is of the list in docs/reference/policy-tools.md."""

    code: str
    rule: str
    place: str  # `file:line`
    text: str
    level: str = WARNING  # an error cannot be published

    def to_dict(self) -> dict[str, str]:
        """JSON shape."""
        return asdict(self)


def lint(
    bundle: PolicyBundle,
    *,
    now: float,
    resources: Iterable[Resource] = (),
    principals: frozenset[str] = frozenset(),
    schema: Schema | None = None,
) -> tuple[Finding, ...]:
    """Look at every rule.

    Args:
        bundle: what was read.
        now: Unix seconds.
        resources: the tenant's datasets, to check names and types against; () checks none.
        principals: `tenant/user:…` and `tenant/role:…` that the tenant has; empty checks none.
        schema: the one that ships with the gateway when absent.
    """
    known = _Known(bundle.tenant, tuple(resources), principals)
    above = _above(bundle, now)
    found: list[Finding] = []
    for rule in bundle.rules:
        texts = [
            *_of_rule(rule, now, schema or default_schema()),
            *_of_names(rule, known),
            *_of_others(rule, above),
        ]
        place = f"{rule.place.file}:{rule.place.line}"
        found += [Finding(code=c, rule=rule.id, place=place, text=t) for c, t in texts]
    found += [*_twins(bundle), *_apart(bundle), *_crowded(bundle)]
    return tuple(sorted(found, key=lambda one: one.level != ERROR))[:FINDINGS_MAX]


def _of_rule(rule: Rule, now: float, schema: Schema) -> Iterator[_Text]:
    if rule.expires_at is not None and rule.expires_at <= now:
        yield "expired", f"this {rule.kind} has not held since it expired; remove or renew it"
    if rule.kind == "allow":
        yield from _of_allow(rule)
    if rule.when is None:
        return
    yield from _of_condition(rule, schema)
    unsure = sorted(rule.when.reads() - _CERTAIN)
    if rule.kind == "deny" and unsure:
        yield (
            "deny-over-optional",
            f"whoever lacks {', '.join(f'`{name}`' for name in unsure)} is denied",
        )


def _of_condition(rule: Rule, schema: Schema) -> Iterator[_Text]:
    """Tried over every value that it can tell apart, as far as all are known."""
    assert rule.when is not None
    tried = assignments([rule.when], schema)
    if tried is None:
        return
    truths = {rule.when.judge(facts) for facts in tried}
    if truths == {True}:
        yield "always-true", f"`{rule.when.text()}` holds for every request; leave it out"
    elif True not in truths:
        yield "never-true", f"`{rule.when.text()}` can never hold"


def _of_allow(rule: Rule) -> Iterator[_Text]:
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


class _Known:
    """Names that there are."""

    def __init__(
        self, tenant: str, resources: tuple[Resource, ...], principals: frozenset[str]
    ) -> None:
        self.tenant = tenant
        self.principals = principals
        self.datasets = {f"dataset:{r.dataset.unversioned}": r for r in resources if r.dataset}
        self.tags = {t for r in resources for c in r.columns for t in c.effective_tags}

    def lacks(self, principal: str) -> bool:
        """Whether this should be one of the tenant's own people, and is not."""
        own = principal.startswith(f"{self.tenant}/") and not principal.endswith("/*")
        return own and bool(self.principals) and principal not in self.principals


def _of_names(rule: Rule, known: _Known) -> Iterator[_Text]:
    yield from (
        ("unknown-principal", f"nobody is `{p}`") for p in rule.principals if known.lacks(p)
    )
    if not known.datasets:
        return
    if rule.key.startswith("tag:"):
        tag = rule.scope.removeprefix("tag:")
        if not any(tag_within(given, tag) for given in known.tags):
            yield "unknown-tag", f"no column is tagged `{tag}`"
    if not rule.key.startswith("dataset:"):
        return
    resource = known.datasets.get(rule.key)
    if resource is None:
        yield "unknown-dataset", f"`{rule.scope}` is not registered"
        return
    for split in sorted(set(rule.splits) - set(resource.splits)):
        yield "unknown-split", f"`{split}` is no split of the newest version"
    yield from _of_columns(rule, resource.columns)


def _of_columns(rule: Rule, columns: tuple[Column, ...]) -> Iterator[_Text]:
    types = {column.name: column.type for column in columns}
    named = {*rule.columns, *(name for name, _ in rule.masks)}
    named |= set(columns_of(rule.where)) if rule.where else set()
    for name in sorted(named - set(types)):
        yield "unknown-column", f"`{name}` is no column of the newest version"
    tagged = {column.name: column for column in columns}
    for name, mask in rule.masks:
        if name in types and not (applies_to(mask, types[name]) and hides(mask, tagged[name])):
            yield "mask-unsuited", f"`{mask}` cannot mask `{name}`, so the column is withheld"
    if rule.where is not None and not binds_of(rule.where):
        try:
            check_types(bind(rule.where, {}), columns)
        except InvalidInput as cause:
            yield "filter-unusable", cause.message


def _above(bundle: PolicyBundle, now: float) -> dict[str, list[Rule]]:
    """Denies in force, by the key of their scope."""
    found: dict[str, list[Rule]] = {}
    for rule in bundle.rules:
        if rule.kind == "deny" and (rule.expires_at is None or rule.expires_at > now):
            found.setdefault(rule.key, []).append(rule)
    return found


def _of_others(rule: Rule, denies: dict[str, list[Rule]]) -> Iterator[_Text]:
    for key in keys_above(rule):
        for deny in denies.get(key, ())[:CANDIDATES_MAX]:
            mutual = covers(rule, deny) and rule.kind == "deny"
            if deny.id != rule.id and covers(deny, rule) and not (mutual and rule.id < deny.id):
                yield "shadowed", f"`{deny.id}` denies all that this rule speaks about"
                return


def _twins(bundle: PolicyBundle) -> Iterator[Finding]:
    """Rules that say the same under two ids."""
    first: dict[Rule, Rule] = {}
    for rule in bundle.rules:
        same = replace(
            rule,
            id="",
            place=Place(""),
            principals=tuple(sorted(rule.principals)),
            actions=tuple(sorted(rule.actions)),
            columns=tuple(sorted(rule.columns)),
            description="",
            owner="",
            ticket="",
        )
        known = first.setdefault(same, rule)
        if known is not rule:
            yield _finding("duplicate", rule, f"`{known.id}` says the same")


def _apart(bundle: PolicyBundle) -> Iterator[Finding]:
    """Allows that can count together and release no common column, hence nothing."""
    met: dict[tuple[str, str, str], Rule] = {}
    for rule in bundle.rules:
        if rule.kind != "allow" or not rule.columns or rule.tags:
            continue
        for who in rule.principals:
            for action in set(rule.actions) & set(DATA_ACTIONS):
                other = met.setdefault((rule.key, action, who), rule)
                if other is rule or set(other.columns) & set(rule.columns):
                    continue
                if _may_meet(other, rule):
                    text = f"where `{other.id}` counts too, nothing is released: no common column"
                    yield _finding("disjoint-allows", rule, text)


def _may_meet(one: Rule, other: Rule) -> bool:
    purposes = not (one.purposes and other.purposes) or bool(
        set(one.purposes) & set(other.purposes)
    )
    splits = not (one.splits and other.splits) or bool(set(one.splits) & set(other.splits))
    return purposes and splits


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
                text=f"{count} rules for `{action}` on `{key}` by `{principal}`: slow to judge; "
                f"more than {CANDIDATES_MAX} are refused",
                level=ERROR if count > CANDIDATES_MAX else WARNING,
            )


def _finding(code: str, rule: Rule, text: str) -> Finding:
    place = f"{rule.place.file}:{rule.place.line}"
    return Finding(code=code, rule=rule.id, place=place, text=text)
