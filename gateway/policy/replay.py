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


def replay(
    before: Judge,
    after: Judge,
    recorded: Iterable[Recorded],
    *,
    now: float,
    since: str | None = None,
    schema: Schema | None = None,
) -> PolicyReplay:
    """Judge them all twice.

    Args:
        before: the rules in force.
        after: the candidate.
        recorded: requests for datasets of one tenant.
        now: Unix seconds at which both judge.
        since: time of the oldest, as it is shown.
        schema: the one that ships with the gateway when absent.
    """
    known = schema or default_schema()
    judged = 0
    counts: Counter[_Key] = Counter()
    firsts: dict[_Key, tuple[Recorded, Decision, Decision]] = {}
    foreign: dict[tuple[str, str, str], set[str]] = {}
    for one in recorded:
        judged += 1
        request = one.request
        is_foreign = request.subject.tenant != request.tenant
        asked = _as_known_to_owner(request, known) if is_foreign else request
        old, new = (_decide(judge, asked, one.resource, now) for judge in (before, after))
        kind = difference(old, new)
        if kind is None:
            continue
        dataset = str(request.dataset.unversioned if request.dataset else "")
        if is_foreign:
            key = (kind, dataset, request.subject.tenant)
            foreign.setdefault(key, set()).add(request.subject.id)
            continue
        own = (
            kind,
            dataset,
            request.run or "",
            request.subject.id,
            request.action,
            request.purpose or "",
        )
        counts[own] += 1
        firsts.setdefault(own, (one, old, new))
    changes = tuple(_change(key, counts[key], *firsts[key][1:]) for key in sorted(firsts))
    return PolicyReplay(
        judged=judged,
        since=since,
        changes=changes[:CHANGES_MAX],
        foreign=tuple(
            ForeignChange(kind=kind, dataset=dataset, tenant=tenant, subjects=len(subjects))
            for (kind, dataset, tenant), subjects in sorted(foreign.items())
            if len(subjects) >= FOREIGN_MIN
        ),
        more=max(0, len(changes) - CHANGES_MAX),
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


def _as_known_to_owner(request: AccessRequest, schema: Schema) -> AccessRequest:
    """Without what the recipient or the request alone says of itself."""
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
