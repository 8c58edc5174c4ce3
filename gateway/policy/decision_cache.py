"""Decisions of one policy snapshot, remembered while nothing they rest on can have changed.

A new snapshot starts empty, so no entry outlives its rules. An entry answers only the very
same question: request and resource are compared whole, values with their types (to Python
`True == 1`; what equals a text is one), within the time in which no candidate rule could change
by itself. What was UNKNOWN or an accident is never remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from gateway.domain.access import AccessRequest, Decision, Resource, Scalar
from gateway.policy.trial import Trial

ENTRIES_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Entry:
    request: AccessRequest
    resource: Resource
    decision: Decision
    since: float  # Unix seconds; the answer holds in [since, until)
    until: float
    values: tuple[dict[str, Scalar], ...]  # of the mappings as they were: a caller may change his
    types: tuple[tuple[int, str, type], ...]  # of values that are no text: which mapping, name


class DecisionCache:
    """Bounded; threads may share it (each step is one operation of a dict)."""

    __slots__ = ("_entries", "_moving")

    def __init__(self, moving: frozenset[str]) -> None:
        """Begin empty; `moving` are the ids of the rules that `moves`."""
        self._entries: dict[object, _Entry] = {}
        self._moving = moving

    def find(self, request: AccessRequest, resource: Resource, now: float) -> Decision | None:
        """The Decision for this question at this time, if it is known."""
        entry = self._entries.get(_key(request))
        if (
            entry is None
            or not entry.since <= now < entry.until
            or request != entry.request
            or resource != entry.resource
        ):
            return None
        given = _mappings(request, resource)
        if given != entry.values:
            return None
        if entry.types:
            for which, name, kind in entry.types:
                if type(given[which][name]) is not kind:
                    return None
        return entry.decision

    def keep(self, trial: Trial, resource: Resource, decision: Decision, now: float) -> None:
        """Remember a Decision, unless it may not be: see the module."""
        until = self._until(trial, now)
        if until <= now:
            return
        if len(self._entries) >= ENTRIES_MAX:
            self._entries.clear()
        values = tuple(map(dict, _mappings(trial.request, resource)))
        types = tuple(
            (which, name, type(value))
            for which, mapping in enumerate(values)
            for name, value in mapping.items()
            if type(value) is not str
        )
        entry = _Entry(trial.request, resource, decision, now, until, values, types)
        self._entries[_key(trial.request)] = entry

    def _until(self, trial: Trial, now: float) -> float:
        """The first moment at which the answer could be another; `now` for: at once."""
        until = inf
        for rule in trial.gates():
            if rule.id in self._moving or trial.truth(rule) is None:
                return now
            if rule.expires_at is not None and now < rule.expires_at < until:
                until = rule.expires_at
        return until


def _key(request: AccessRequest) -> object:
    ref = request.dataset
    name = ref.name if ref else None
    return request.subject.id, request.tenant, name, request.action, request.purpose


def _mappings(request: AccessRequest, resource: Resource) -> tuple[Mapping[str, Scalar], ...]:
    return request.subject.attributes, request.context, resource.attributes
