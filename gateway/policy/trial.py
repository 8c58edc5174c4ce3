"""One request on trial: typed facts, and for every candidate rule TRUE, FALSE or UNKNOWN.

An allow rule counts only when TRUE; deny and restrict rules count when TRUE or UNKNOWN. An
error inside one rule is UNKNOWN for that rule and touches no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from gateway.domain.access import AccessRequest, Resource
from gateway.domain.purpose import and_above
from gateway.policy.conditions import Truth
from gateway.policy.index import Entry
from gateway.policy.rules import KINDS, Rule
from gateway.policy.schema import PURPOSE, Schema

_by_id = itemgetter(0)


class RequestFacts:
    """The declared attributes of one request; anything else does not exist."""

    __slots__ = ("_known", "_now", "_request", "_resource", "_schema")

    def __init__(
        self, schema: Schema, request: AccessRequest, resource: Resource, now: float
    ) -> None:
        """`now` is Unix seconds; it is `context.time`."""
        self._schema = schema
        self._request = request
        self._resource = resource
        self._now = now
        self._known: dict[str, Any] = {}

    def value(self, name: str) -> Any:
        """The typed value, or None for UNKNOWN."""
        if name not in self._known:
            self._known[name] = self._schema.value(name, self._raw(name))
        return self._known[name]

    def of_ancestors(self) -> tuple[RequestFacts, ...]:
        """The same request, of each version that the resource was made from."""
        made = (
            Resource(tenant=a.dataset.tenant, dataset=a.dataset, columns=a.columns)
            for a in self._resource.ancestors
        )
        return tuple(RequestFacts(self._schema, self._request, r, self._now) for r in made)

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """The known ones of these, plain."""
        return {name: value for name in names if (value := self.value(name)) is not None}

    def _raw(self, name: str) -> Any:
        if name == PURPOSE:
            return self._request.purpose
        root, _, rest = name.partition(".")
        fixed, open_ended = self._sources(root)
        if rest in fixed:
            return fixed[rest]
        key = name if root == "workload" else rest
        return open_ended.get(key)

    def _sources(self, root: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the gateway knows by itself, which nothing can shadow, and the rest."""
        request, resource = self._request, self._resource
        if root == "subject":
            own = request.subject
            return {"id": own.id, "tenant": own.tenant, "type": own.type}, own.attributes
        if root == "resource":
            ref = resource.dataset
            return {
                "tenant": resource.tenant,
                "name": ref.name if ref else None,
                "version": ref.version if ref else None,
                "split": request.split,
            }, resource.attributes
        if root == "workload":
            return {"run": request.run}, {**request.context, **request.subject.attributes}
        return {"time": datetime.fromtimestamp(self._now, UTC).isoformat()}, request.context


class Trial:
    """Judges candidates for one request and remembers what it found."""

    __slots__ = ("_entries", "_hits", "_now", "_truths", "facts", "request")

    def __init__(
        self, request: AccessRequest, facts: RequestFacts, found: Mapping[str, Entry], now: float
    ) -> None:
        """`found` are the candidates by rule id, `now` Unix seconds."""
        self.request = request
        self.facts = facts
        self._now = now
        self._entries = found
        self._truths: dict[str, Truth] = {}
        self._hits: dict[str, list[Entry]] | None = None

    def truth(self, rule: Rule) -> Truth:
        """TRUE, FALSE or UNKNOWN; never raises."""
        try:
            return self._truths[rule.id]
        except KeyError:
            pass
        try:
            truth = self._judge(rule)
        except Exception:  # noqa: BLE001 - one broken rule is UNKNOWN and breaks no other
            truth = None
        self._truths[rule.id] = truth
        return truth

    def counts(self, rule: Rule) -> bool:
        """Whether the rule takes part in the decision."""
        truth = self.truth(rule)
        return truth is True if rule.kind == "allow" else truth is not False

    def counting(self) -> set[str]:
        """Ids of all candidates that count, for Casbin's matcher."""
        return {entry[0] for entries in self._judged().values() for entry in entries}

    def hits(self, kind: str) -> tuple[str, ...]:
        """Ids of the candidates of this kind that count, sorted."""
        return tuple(sorted([entry[0] for entry in self._judged()[kind]]))

    def rules(self, kind: str) -> list[Rule]:
        """The candidates of this kind that count, by id."""
        return [entry.rule for entry in sorted(self._judged()[kind], key=_by_id)]

    def terms(self, kind: str) -> list[Rule]:
        """What they release: of those that release the same the first, by id."""
        found = {entry[2].id: entry[2] for entry in sorted(self._judged()[kind], key=_by_id)}
        return list(found.values())

    def gates(self, kind: str | None = None) -> list[Rule]:
        """Of candidates that hold alike one; with a kind, of those that count."""
        entries = self._entries.values() if kind is None else self._judged()[kind]
        return list({entry[1].id: entry[1] for entry in entries}.values())

    def candidates(self) -> tuple[Rule, ...]:
        """Every candidate, by id."""
        return tuple(self._entries[name].rule for name in sorted(self._entries))

    def _judged(self) -> dict[str, list[Entry]]:
        if self._hits is None:
            self._hits = {kind: [] for kind in KINDS}
            counts: dict[str, bool] = {}
            for entry in self._entries.values():
                gate = entry[1]
                name = gate.id
                if name not in counts:
                    counts[name] = self.counts(gate)
                if counts[name]:
                    self._hits[gate.kind].append(entry)
        return self._hits

    def is_in_force(self, rule: Rule) -> bool:
        """Whether it has not expired."""
        return rule.expires_at is None or self._now < rule.expires_at

    def purpose_fits(self, rule: Rule) -> Truth:
        """Whether the request's purpose is one of the rule's, or below one."""
        if not rule.purposes:
            return True
        purpose = self.facts.value(PURPOSE)
        return None if purpose is None else not and_above(purpose).isdisjoint(rule.purposes)

    def split_fits(self, rule: Rule) -> bool:
        """A request for the whole version asks for every split at once."""
        if not rule.splits:
            return True
        if self.request.split is None:
            return rule.kind != "allow"
        return self.request.split in rule.splits

    def _judge(self, rule: Rule) -> Truth:
        if not self.is_in_force(rule) or not self.split_fits(rule):
            return False
        fits = self.purpose_fits(rule)
        if fits is not True or rule.when is None:
            return fits
        found = rule.when.judge(self.facts)
        if found is False and rule.kind != "allow":
            return self._judge_of_ancestors(rule)
        return found

    def _judge_of_ancestors(self, rule: Rule) -> Truth:
        """A condition that speaks of what the resource was made from holds for it too."""
        assert rule.when is not None
        found = [rule.when.judge(facts) for facts in self.facts.of_ancestors()]
        return True if True in found else None if None in found else False
