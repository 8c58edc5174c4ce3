"""What differs between two bundles: the rules, and who gets another answer.

The second is found by asking both judges. A request is another one to the rules only where it
differs in what they read, so the requests worth asking are few: the principals, actions and
scopes of the rules that changed, every purpose and split, and for each attribute the values of
`domains`. Few enough combinations are all tried; else a random part of them, always the same
for the same bundles, for as long as there is time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from gateway.domain.access import ACTIONS, DATA_ACTIONS, AccessRequest, Decision, Resource, Subject
from gateway.domain.purpose import PURPOSES
from gateway.domain.rowfilter import binds_of
from gateway.policy.answers import difference, in_words
from gateway.policy.bundle import PolicyBundle
from gateway.policy.domains import domains, raw
from gateway.policy.guess import imagined
from gateway.policy.index import scopes_of
from gateway.policy.judge import Judge
from gateway.policy.rules import Rule
from gateway.policy.schema import PURPOSE, Schema, default_schema
from gateway.policy.write import sentence
from gateway.wire.policy import AccessChange, PolicyDiff, RuleChange

SECONDS_MAX = 10.0
CASES_MAX = 20_000  # so many are tried all; of more, as many as there is time for
SAMPLES_MAX = 200_000
EFFECTS_MAX = 200
# What a request is made of besides its free attributes.
_FIXED = frozenset(
    {
        "subject.id", "subject.tenant", "subject.type", "resource.tenant", "resource.name",
        "resource.version", "resource.split", "context.time", "workload.run", PURPOSE,
    }
)  # fmt: skip
_Pair = tuple[Rule | None, Rule | None]  # before, after
_Case = tuple[AccessRequest, Resource, float, str, dict[str, Any]]


def diff(
    before: PolicyBundle,
    after: PolicyBundle,
    *,
    now: float,
    clock: Callable[[], float],
    resources: Sequence[Resource] = (),
    beside: Iterable[PolicyBundle] = (),
) -> PolicyDiff:
    """Compare two bundles of one tenant.

    Args:
        before: what is in force.
        after: what may come.
        now: Unix seconds; requests are judged at this time and around ends of rules.
        clock: monotonic seconds, for the limit of SECONDS_MAX.
        resources: the tenant's datasets; () imagines them from the rules.
        beside: bundles of others that judge the same data.
    """
    known = default_schema()
    changed = changed_rules(before, after)
    every = [*before.rules, *after.rules]
    space = _Space(
        [rule for pair in changed for rule in pair if rule is not None],
        every,
        resources or imagined(every, before.tenant, known),
        known,
        now,
    )
    others = tuple(beside)
    judges = (Judge.build([before, *others], known), Judge.build([after, *others], known))
    found = _Found()
    deadline = clock() + SECONDS_MAX
    is_all = space.size <= CASES_MAX
    chance = _Chance(f"{before.digest}{after.digest}")
    for case in space.all() if is_all else space.some(chance):
        if clock() > deadline:
            is_all = False
            break
        found.ask(judges, case)
    effects = found.effects()
    return PolicyDiff(
        rules=tuple(_rule_change(*pair) for pair in changed),
        effects=effects[:EFFECTS_MAX],
        tried=found.tried,
        exhaustive=is_all,
        more=max(0, len(effects) - EFFECTS_MAX),
    )


def changed_rules(
    before: PolicyBundle, after: PolicyBundle
) -> list[tuple[Rule | None, Rule | None]]:
    """Rules that are not the same on both sides, wherever in the files they stand."""
    old, new = ({r.id: r for r in bundle.rules} for bundle in (before, after))
    pairs = [(old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    return [(a, b) for a, b in pairs if a is None or b is None or replace(a, place=b.place) != b]


def _rule_change(before: Rule | None, after: Rule | None) -> RuleChange:
    rule = before or after
    assert rule is not None
    return RuleChange(
        rule=rule.id,
        change="added" if before is None else "removed" if after is None else "changed",
        before=sentence(before) if before else None,
        after=sentence(after) if after else None,
    )


class _Found:
    """Differences, joined where only purpose, split and attributes differ."""

    def __init__(self) -> None:
        self.tried = 0
        self._first: dict[tuple[str, str, str, str], tuple[_Case, Decision, Decision]] = {}
        self._purposes: dict[tuple[str, str, str, str], set[str]] = {}

    def ask(self, judges: tuple[Judge, Judge], case: _Case) -> None:
        request, resource, now, who, _ = case
        self.tried += 1
        answers = [
            judge.decide(
                request, resource, decision_id="", now=now, policy_epoch=0, catalog_index=0
            )
            for judge in judges
        ]
        kind = difference(*answers)
        if kind is None:
            return
        key = (
            kind,
            who,
            request.action,
            str(request.dataset.unversioned if request.dataset else ""),
        )
        self._first.setdefault(key, (case, answers[0], answers[1]))
        self._purposes.setdefault(key, set()).update({request.purpose} - {None})  # type: ignore[arg-type]

    def effects(self) -> tuple[AccessChange, ...]:
        return tuple(
            AccessChange(
                kind=kind,
                subject=who,
                action=action,
                dataset=dataset or None,
                purposes=tuple(p for p in PURPOSES if p in self._purposes[key]),
                example=_example(case),
                before=in_words(old),
                after=in_words(new),
            )
            for key, (case, old, new) in sorted(self._first.items(), key=lambda item: item[0])
            for kind, who, action, dataset in [key]
        )


def _example(case: _Case) -> dict[str, Any]:
    """What of the request matters beside who, what and why."""
    request, _, _, _, values = case
    given: dict[str, Any] = {"type": request.subject.type, "purpose": request.purpose}
    given |= {"split": request.split, "run": request.run, **values}
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Corner:
    """Requests of one subject for one action on one resource."""

    who: str
    subject: Subject
    action: str
    resource: Resource
    axes: dict[str, tuple[Any, ...]]  # purpose, split, time, run, and free attributes

    @property
    def size(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def case(self, values: Sequence[Any]) -> _Case:
        given = dict(zip(self.axes, values, strict=True))
        purpose, split, now, run = (given.pop(name) for name in ("purpose", "split", "now", "run"))
        free = {name: value for name, value in given.items() if value is not None}
        subject = replace(self.subject, attributes=_under("subject.", free))
        resource = replace(self.resource, attributes=_under("resource.", free))
        request = AccessRequest(
            subject=subject,
            action=self.action,
            dataset=resource.dataset,
            tenant=resource.tenant,
            purpose=purpose,
            split=split,
            run=run,
            context={
                **_under("context.", free),
                **{name: v for name, v in free.items() if name.startswith("workload.")},
            },
        )
        return request, resource, now, self.who, free


def _under(root: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(root): v for name, v in values.items() if name.startswith(root)}


class _Chance:
    """Choices that look random and are the same for the same seed, on every machine."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._drawn = 0

    def choice(self, values: Sequence[Any]) -> Any:
        self._drawn += 1
        digest = hashlib.sha256(self._seed + self._drawn.to_bytes(8, "big")).digest()
        return values[int.from_bytes(digest[:8], "big") % len(values)]


class _Space:
    """Every request that rules which changed could tell apart."""

    def __init__(
        self,
        changed: Sequence[Rule],
        every: Sequence[Rule],
        resources: Sequence[Resource],
        schema: Schema,
        now: float,
    ) -> None:
        self._schema = schema
        self._now = now
        self._roles = _roles(every)
        self._by_key: dict[str, list[Rule]] = {}
        for rule in every:
            self._by_key.setdefault(rule.key, []).append(rule)
        met: dict[tuple[Any, ...], _Corner] = {}
        for resource in resources:
            for corner in self._corners(changed, resource):
                key = (corner.subject.id, corner.subject.type, corner.subject.roles)
                met.setdefault((*key, corner.action, str(corner.resource.dataset)), corner)
        self._all = list(met.values())
        self.size = sum(corner.size for corner in self._all)

    def all(self) -> Iterator[_Case]:
        for corner in self._all:
            yield from map(corner.case, product(*corner.axes.values()))

    def some(self, chance: _Chance) -> Iterator[_Case]:
        """Each corner in turn, so that none is left out for another's size."""
        for _ in range(max(1, SAMPLES_MAX // len(self._all))):
            for corner in self._all:
                yield corner.case([chance.choice(axis) for axis in corner.axes.values()])

    def _corners(self, changed: Sequence[Rule], resource: Resource) -> Iterator[_Corner]:
        scopes = scopes_of(resource)
        about = [rule for key in scopes for rule in self._by_key.get(key, ())]
        axes = self._axes(about, resource)
        for rule in changed:
            if rule.key not in scopes:
                continue
            for who, subject in self._subjects(rule, about):
                for action in ACTIONS if "*" in rule.actions else rule.actions:
                    yield _Corner(who, subject, action, resource, _fit(axes, action))

    def _axes(self, about: Sequence[Rule], resource: Resource) -> dict[str, tuple[Any, ...]]:
        nodes = [rule.when for rule in about if rule.when is not None]
        bound = {name for rule in about if rule.where for name in binds_of(rule.where)}
        free = domains(nodes, self._schema, also=bound)
        edges = {rule.expires_at for rule in about} | {e for rule in about for e in rule.time_edges}
        later = {edge for edge in edges if edge is not None and edge > self._now}
        return {
            "purpose": tuple(PURPOSES),
            "split": (None, *resource.splits),
            "now": tuple(sorted({self._now} | later | {edge - 1 for edge in later})),
            "run": (None, *free.get("workload.run", ())),
            **{
                name: (None, *map(raw, values))
                for name, values in free.items()
                if name not in _FIXED
            },
        }

    def _subjects(self, rule: Rule, about: Sequence[Rule]) -> Iterator[tuple[str, Subject]]:
        nodes = [r.when for r in about if r.when is not None]
        named = [v for v in domains(nodes, self._schema).get("subject.id", ()) if "/" in str(v)]
        for who in rule.principals:
            for identity, roles in self._persons(who, named):
                tenant = identity.partition("/")[0]
                for kind in ("job", "person"):
                    yield who, Subject(id=identity, tenant=tenant, type=kind, roles=roles)

    def _persons(self, who: str, named: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Identities, with roles, that a principal means."""
        tenant, _, rest = who.partition("/")
        kind, _, name = rest.partition(":")
        if who == "*":
            tenant, kind = "stranger", ""
        every = self._roles.get(tenant, ())
        if kind == "user":
            yield f"{tenant}/{name}", ()
            yield f"{tenant}/{name}", every
            return
        own = (name,) if kind == "role" else ()
        for identity in (
            "somebody",
            *(n.partition("/")[2] for n in named if n.startswith(f"{tenant}/")),
        ):
            yield f"{tenant}/{identity}", own
            if every and set(every) != set(own):
                yield f"{tenant}/{identity}", every


def _fit(axes: dict[str, tuple[Any, ...]], action: str) -> dict[str, tuple[Any, ...]]:
    """Only data actions have a purpose and a split."""
    return axes if action in DATA_ACTIONS else {**axes, "purpose": (None,), "split": (None,)}


def _roles(rules: Iterable[Rule]) -> dict[str, tuple[str, ...]]:
    """Roles that rules name, by tenant."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        for who in rule.principals:
            tenant, _, rest = who.partition("/")
            if rest.startswith("role:"):
                found.setdefault(tenant, set()).add(rest.removeprefix("role:"))
    return {tenant: tuple(sorted(roles)) for tenant, roles in found.items()}
