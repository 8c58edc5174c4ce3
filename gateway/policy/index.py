"""Rules by what they are about: scope, action and principal lead to the candidates.

Many rules differ in their id alone, or in what they release but not in when they hold. So an
entry names, beside its rule, the first rule that holds whenever it does (`gate`) and the first
that releases the same (`terms`): one request judges and combines each of those once, and of a
million rules it reads only the entries that it meets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from gateway.domain.access import Resource
from gateway.policy.compiled import CompiledRules
from gateway.policy.rules import Rule, moves

Key = tuple[str, str]  # action or `*`, principal
Row = tuple[str, str, str, str, str]  # rule id, principal, scope key, action, effect


class Entry(NamedTuple):
    """One rule, and what it shares with others."""

    id: str
    gate: Rule
    terms: Rule
    rule: Rule

    @classmethod
    def alone(cls, rule: Rule) -> Entry:
        """A rule that shares nothing."""
        return cls(rule.id, rule, rule, rule)


Ways = dict[Key, tuple[Entry, ...]]


class Part:
    """The ways to the rules of one bundle: made once, and used by every snapshot that holds it."""

    __slots__ = ("_compiled", "_ways", "moving")

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Take every rule by each way that leads to it; compiled ones when somebody comes near."""
        self._ways: dict[str, Ways] = {}
        self._compiled: CompiledRules | None = None
        if isinstance(rules, CompiledRules):
            self._compiled, self.moving = rules, rules.moving
            return
        self.moving = frozenset(rule.id for rule in rules if moves(rule))
        # By scope first, because most of what a resource could be meant by has no rule.
        found: dict[str, list[Rule]] = {}
        for rule in rules:
            found.setdefault(rule.key, []).append(rule)
        gates: dict[object, Rule] = {}
        terms: dict[object, Rule] = {}
        self._ways = {scope: _ways(group, gates, terms) for scope, group in found.items()}

    def scopes(self) -> Iterator[str]:
        """Every scope that it has rules of."""
        return iter(self._ways) if self._compiled is None else self._compiled.keys()

    def of(self, scope: str) -> Ways:
        """What leads to its rules of a scope; two threads that read it first read the same."""
        ways = self._ways.get(scope)
        if ways is None:
            assert self._compiled is not None
            ways = self._ways[scope] = _ways(self._compiled.group(scope), {}, {})
        return ways


class Index:
    """The parts of all bundles in force; says the same for ever."""

    __slots__ = ("_parts", "_scopes")

    def __init__(self, parts: Iterable[Part]) -> None:
        """Know which part has rules of which scope; nothing is copied."""
        self._parts: dict[str, tuple[Part, ...]] = {}
        for part in parts:
            for scope in part.scopes():
                self._parts[scope] = (*self._parts.get(scope, ()), part)
        self._scopes: dict[str, Ways] = {}  # as far as somebody came near them

    def _of(self, scope: str) -> Ways | None:
        """What leads to rules of this scope."""
        ways = self._scopes.get(scope)
        if ways is None and scope in self._parts:
            ways = self._scopes[scope] = _merged([part.of(scope) for part in self._parts[scope]])
        return ways

    def candidates(
        self, resource: Resource, scopes: Sequence[str], action: str, principals: Sequence[str]
    ) -> tuple[dict[str, Entry], list[Row]]:
        """Rules that name this, by id, and Casbin's rows of those that allow or deny.

        Of those that hold alike Casbin is asked about one: its answer is the same for all.
        `scopes` are the judging ones of the resource.
        """
        own = scopes_of(resource) if resource.ancestors else scopes
        keys = [(word, who) for word in (action, "*") for who in principals]
        found: dict[str, Entry] = {}
        rows: dict[str, Row] = {}  # by gate
        for scope, ways in zip(scopes, map(self._of, scopes), strict=True):
            if ways is None:
                continue
            is_own = scope in own
            for key in keys:
                for entry in ways.get(key, ()):
                    name, gate, _, _ = entry
                    kind = gate.kind
                    # Nobody permits what is made from his data, by accident.
                    if name in found or (kind == "allow" and not is_own):
                        continue
                    found[name] = entry
                    if kind != "restrict" and gate.id not in rows:
                        rows[gate.id] = (name, key[1], scope, key[0], kind)
        return found, list(rows.values())

    def meets(self, resource: Resource, action: str, principals: tuple[str, ...]) -> bool:
        """Whether any rule names this, in force or not."""
        keys = [(word, who) for word in (action, "*") for who in principals]
        found = filter(None, map(self._of, judging_scopes(resource)))
        return any(key in ways for ways in found for key in keys)

    def naming(self, resource: Resource, principals: frozenset[str]) -> Iterator[Rule]:
        """Rules that name the resource and one of these for any action, some more than once."""
        for scope in scopes_of(resource):
            for (_, principal), entries in (self._of(scope) or {}).items():
                if principal in principals:
                    for entry in entries:
                        yield entry.rule

    def rules(self) -> Iterator[tuple[Rule, Row]]:
        """Every rule by every way, with the row that Casbin would be given."""
        for scope in self._parts:
            for (action, who), entries in (self._of(scope) or {}).items():
                for entry in entries:
                    yield entry.rule, (entry.id, who, scope, action, entry.rule.kind)

    def __len__(self) -> int:
        return len(self._parts)


def _merged(found: Sequence[Ways]) -> Ways:
    if len(found) == 1:
        return found[0]
    keys = dict.fromkeys(key for ways in found for key in ways)
    return {key: tuple(entry for ways in found for entry in ways.get(key, ())) for key in keys}


def _ways(rules: Sequence[Rule], gates: dict[object, Rule], terms: dict[object, Rule]) -> Ways:
    found: dict[Key, dict[str, Rule]] = {}
    for rule in rules:
        for action in rule.actions:
            for principal in rule.principals:
                found.setdefault((action, principal), {})[rule.id] = rule

    def entry(rule: Rule) -> Entry:
        gate = gates.setdefault(_when_it_holds(rule), rule)
        return Entry(rule.id, gate, terms.setdefault(_what_it_releases(rule), rule), rule)

    # One way after the other, so that what is read together lies together.
    return {key: tuple(map(entry, ways.values())) for key, ways in found.items()}


def scopes_of(resource: Resource) -> tuple[str, ...]:
    """Index keys of everything a rule could have said to mean this resource."""
    found: tuple[str, ...] = ()
    if resource.dataset is not None:
        tags = frozenset(tag for column in resource.columns for tag in column.effective_tags)
        name = f"dataset:{resource.dataset.tenant}/{resource.dataset.name}"
        found = (name, *_tag_scopes(resource.tenant, tags))
    return (*found, f"tenant:{resource.tenant}", "global")


def judging_scopes(resource: Resource) -> tuple[str, ...]:
    """Also of what the resource was made from: deny and restrict rules there judge it too."""
    if not resource.ancestors:
        return scopes_of(resource)
    found = dict.fromkeys(scopes_of(resource))
    for ancestor in resource.ancestors:
        tenant = ancestor.dataset.tenant
        found[f"dataset:{ancestor.dataset.unversioned}"] = None
        found |= dict.fromkeys(_tag_scopes(tenant, frozenset(ancestor.tags)))
        found[f"tenant:{tenant}"] = None
    return tuple(found)


@lru_cache(maxsize=4096)
def _tag_scopes(tenant: str, tags: frozenset[str]) -> tuple[str, ...]:
    """`pii.email` is also `pii`."""
    words = [tag.split(".") for tag in tags]
    above = {".".join(each[:depth]) for each in words for depth in range(1, len(each) + 1)}
    return tuple(
        scope for tag in sorted(above) for scope in (f"tag:{tenant}/{tag}", f"tag:*/{tag}")
    )


def _when_it_holds(rule: Rule) -> object:
    """Equal for rules of which each holds whenever the other does, and as long, and moves alike.

    A condition is taken by identity: to Python `x == 1` and `x == true` are equal trees.
    """
    return (
        rule.kind, rule.purposes, rule.splits, rule.expires_at, rule.time_edges,
        rule.valid_seconds, moves(rule), None if rule.when is None else id(rule.when),
    )  # fmt: skip


def _what_it_releases(rule: Rule) -> object:
    """Equal for rules that release the same; what holds typed values is taken by identity."""
    return (
        rule.columns, rule.tags, rule.masks, rule.tag_masks, rule.limits, rule.valid_seconds,
        rule.combinable, rule.accepts, None if rule.where is None else id(rule.where),
        id(rule.obligations) if rule.obligations else None,
    )  # fmt: skip
