"""Recorded requests, judged by the rules in force and by a candidate, both as of now.

Of one's own tenant everything is told. People and jobs of others are counted, never fewer than
FOREIGN_MIN of one tenant together, and judged without the attributes that only they vouch for:
nothing that a candidate rule can ask about them tells its author more than his own record does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.domain.access import AccessRequest, Decision, Resource, Scalar, Subject
from gateway.policy.answers import difference, in_words
from gateway.policy.bundle import PolicyBundle
from gateway.policy.diff import changed_rules
from gateway.policy.judge import Judge
from gateway.policy.rules import ACCEPTABLE
from gateway.policy.schema import Schema, default_schema
from gateway.wire.policy import ForeignChange, PolicyReplay, ReplayedChange

FOREIGN_MIN = 5
CHANGES_MAX = 500
_Key = tuple[str, str, str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One request as it was asked, for data as the catalogue knows it now."""

    request: AccessRequest
    resource: Resource
    times: int = 1  # how often it was asked


def replay(
    before: PolicyBundle,
    after: PolicyBundle,
    recorded: Iterable[Recorded],
    *,
    now: float,
    beside: Iterable[PolicyBundle] = (),
    since: str | None = None,
) -> PolicyReplay:
    """Judge them all by both bundles; what meets no rule that changed is known to be the same.

    Args:
        before: the rules in force.
        after: the candidate.
        recorded: requests for datasets of one tenant.
        now: Unix seconds at which both judge.
        beside: bundles of others that judge the same data.
        since: time of the oldest, as it is shown.
    """
    others = tuple(beside)
    judges = (Judge.build([before, *others]), Judge.build([after, *others]))
    concerned = Judge.build(_of_changed(before, after))
    found = _Found()
    for one in recorded:
        found.judged += one.times
        request = one.request
        if not concerned.meets(request, one.resource):
            continue
        if request.subject.tenant != request.tenant:
            request = as_known_to_owner(request, default_schema())
        old, new = (_decide(judge, request, one.resource, now) for judge in judges)
        found.take(request, old, new, one.times)
    return found.told(since)


def _of_changed(before: PolicyBundle, after: PolicyBundle) -> list[PolicyBundle]:
    """What changed, old and new, as one bundle to look rules up in."""
    pairs = changed_rules(before, after)
    rules = tuple(rule for pair in pairs for rule in pair if rule is not None)
    return [PolicyBundle(tenant=before.tenant, files={}, rules=rules, digest="")]


class _Found:
    """Changes: one's own in full, of others who they are, so that they can be counted."""

    def __init__(self) -> None:
        self.judged = 0
        self._counts: Counter[_Key] = Counter()
        self._firsts: dict[_Key, tuple[Decision, Decision]] = {}
        self._foreign: dict[tuple[str, str, str], set[str]] = {}

    def take(self, request: AccessRequest, old: Decision, new: Decision, times: int) -> None:
        kind = difference(old, new)
        if kind is None:
            return
        subject = request.subject
        dataset = str(request.dataset.unversioned if request.dataset else "")
        if subject.tenant != request.tenant:
            self._foreign.setdefault((kind, dataset, subject.tenant), set()).add(subject.id)
            return
        run, purpose = request.run or "", request.purpose or ""
        key = (kind, dataset, run, subject.id, request.action, purpose)
        self._counts[key] += times
        self._firsts.setdefault(key, (old, new))

    def told(self, since: str | None) -> PolicyReplay:
        listed = sorted(self._firsts)
        return PolicyReplay(
            judged=self.judged,
            since=since,
            changes=tuple(
                _change(key, self._counts[key], *self._firsts[key]) for key in listed[:CHANGES_MAX]
            ),
            foreign=tuple(
                ForeignChange(kind=kind, dataset=dataset, tenant=tenant, subjects=len(subjects))
                for (kind, dataset, tenant), subjects in sorted(self._foreign.items())
                if len(subjects) >= FOREIGN_MIN
            ),
            more=max(0, len(listed) - CHANGES_MAX),
        )


def _decide(judge: Judge, request: AccessRequest, resource: Resource, now: float) -> Decision:
    return judge.decide(request, resource, decision_id="", now=now, policy_epoch=0, catalog_index=0)


def _change(key: _Key, requests: int, old: Decision, new: Decision) -> ReplayedChange:
    kind, dataset, run, subject, action, purpose = key
    return ReplayedChange(
        kind=kind,
        dataset=dataset,
        run=run or None,
        subject=subject,
        action=action,
        purpose=purpose or None,
        requests=requests,
        before=in_words(old),
        after=in_words(new),
    )


def as_known_to_owner(request: AccessRequest, schema: Schema) -> AccessRequest:
    """The request of another tenant without what he or the request alone vouches for."""
    subject: Subject = replace(
        request.subject, attributes=_vouched(request.subject.attributes, "subject.", schema)
    )
    return replace(request, subject=subject, context=_vouched(request.context, "context.", schema))


def _vouched(values: Mapping[str, Scalar], root: str, schema: Schema) -> dict[str, Scalar]:
    found = {}
    for name, value in values.items():
        declared = schema.attributes.get(name if "." in name else f"{root}{name}")
        if declared is not None and declared.authority not in ACCEPTABLE:
            found[name] = value
    return found
