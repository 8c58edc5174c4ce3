"""Suites: tables of requests and the answers they must get (docs/formats/policy-v0.md §8).

A suite travels with the rules it tests, in the same bundle. Whatever combination it does not
list must be denied, so that a suite fails when a rule begins to allow more than was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from gateway.domain.access import ACTIONS, AccessRequest, Decision, Resource, Scalar, Subject
from gateway.domain.dataset import Column, DatasetRef, parse_name, parse_tag
from gateway.domain.purpose import parse_purpose
from gateway.domain.rowfilter import text_of
from gateway.policy.bundle import SUITE_SUFFIX, PolicyBundle
from gateway.policy.documents import Fields, Node, Place, parsed, plain_value, read_document, word
from gateway.policy.documents import Scalar as Text
from gateway.policy.filters import parse_where
from gateway.policy.judge import Judge
from gateway.policy.schema import Schema, default_schema, moment

FORMAT = "gateway-policy-test/v0"
CASES_MAX = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """One combination of a suite and what came of it."""

    place: str  # `file:line` of the expectation, or of the test for what it does not list
    test: str
    subject: str
    dataset: str  # "" = the tenant itself
    action: str
    ok: bool
    problems: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()  # ids of those that took part

    @property
    def text(self) -> str:
        """One line for people."""
        on = f" on {self.dataset}" if self.dataset else ""
        what = "; ".join(self.problems) or "as expected"
        return f"{self.place}: {self.test}: {self.subject} {self.action}{on}: {what}"

    def to_dict(self) -> dict[str, Any]:
        """JSON shape."""
        return asdict(self)


def run_suites(
    bundle: PolicyBundle, *, beside: Iterable[PolicyBundle] = (), schema: Schema | None = None
) -> list[SuiteResult]:
    """Run every suite of the bundle; no suites, no results.

    Args:
        bundle: rules and suites.
        beside: bundles of other tenants that are in force too, such as the platform's.
        schema: the one that ships with the gateway when absent.

    Raises:
        PolicyError: a suite cannot be read.
    """
    known = schema or default_schema()
    judge = Judge.build([bundle, *beside], known)
    results: list[SuiteResult] = []
    for path in sorted(bundle.files):
        if not path.endswith(SUITE_SUFFIX):
            continue
        for result in _Suite(path, bundle, judge, known).run():
            results.append(result)
            if len(results) > CASES_MAX:
                raise Place(path).refuse(f"more than {CASES_MAX} cases", "split the suites")
    return results


def uncovered(bundle: PolicyBundle, results: Iterable[SuiteResult]) -> tuple[str, ...]:
    """Ids of the rules that took part in no result."""
    covered = {rule for result in results for rule in result.rules}
    return tuple(rule.id for rule in bundle.rules if rule.id not in covered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    place: Place
    effect: str = "deny"
    columns: tuple[str, ...] | None = None
    masks: dict[str, str] | None = None
    rules: tuple[str, ...] | None = None
    reasons: tuple[str, ...] | None = None
    advice: str | None = None
    where: Text | None = None


class _Suite:
    """One file: its fixtures, then its tests."""

    def __init__(self, path: str, bundle: PolicyBundle, judge: Judge, schema: Schema) -> None:
        self._path = path
        self._judge = judge
        self._schema = schema
        self._own = Resource(tenant=bundle.tenant)
        top = Fields(read_document(bundle.files[path], path), "a suite")
        version = top.required("format")
        if version.text != FORMAT:
            raise version.place.refuse(f"`{version.text[:80]}` is not `{FORMAT}`")
        now = top.required("now")
        self._now = moment(now.text)
        if self._now is None:
            raise now.place.refuse("a time with zone is needed", "write `2026-01-01T00:00:00Z`")
        self._subjects = {name: _subject(node) for name, _, node in top.pairs("subjects")}
        self._resources = {name: _resource(node) for name, _, node in top.pairs("datasets")}
        self._tests = top.items("tests")
        top.finish()

    def run(self) -> Iterator[SuiteResult]:
        for node in self._tests:
            yield from self._test(Fields(node, "a test"))

    def _test(self, own: Fields) -> Iterator[SuiteResult]:
        name = own.required("name").text
        subjects = [word(item, self._subjects) for item in own.needed("subjects")]
        datasets = [word(item, self._resources) for item in own.scalars("datasets")] or [""]
        actions = [word(item, ACTIONS) for item in own.needed("actions")]
        ask = self._asked(own)
        expected = {}
        for node in own.items("expected"):
            key, what = _expected(Fields(node, "an expectation"), datasets)
            if key in expected or key not in product(subjects, datasets, actions):
                raise what.place.refuse("this stands twice, or is not among what is asked")
            expected[key] = what
        own.finish()
        for subject, dataset, action in product(subjects, datasets, actions):
            resource = self._resources[dataset] if dataset else self._own
            decision = self._judge.decide(
                AccessRequest(
                    subject=self._subjects[subject],
                    action=action,
                    dataset=resource.dataset,
                    tenant=resource.tenant,
                    **ask,
                ),
                resource,
                decision_id="dec_suite",
                now=self._now.timestamp() if self._now else 0.0,
                policy_epoch=0,
                catalog_index=0,
            )
            wanted = expected.get((subject, dataset, action), _Expected(place=own.place))
            problems = tuple(self._problems(wanted, decision))
            yield SuiteResult(
                place=f"{self._path}:{wanted.place.line}",
                test=name,
                subject=subject,
                dataset=dataset,
                action=action,
                ok=not problems,
                problems=problems,
                rules=decision.rules,
            )

    def _asked(self, own: Fields) -> dict[str, Any]:
        purpose, split, run = own.scalar("purpose"), own.scalar("split"), own.scalar("run")
        return {
            "purpose": parsed(purpose, parse_purpose) if purpose else None,
            "columns": tuple(item.text for item in own.scalars("columns")) or None,
            "split": split.text if split else None,
            "run": run.text if run else None,
            "context": _values(own, "context"),
        }

    def _problems(self, wanted: _Expected, decision: Decision) -> Iterator[str]:
        if decision.effect.value != wanted.effect:
            codes = ", ".join(reason.code for reason in decision.reasons)
            yield f"expected {wanted.effect}, got {decision.effect.value} ({codes})"
            return
        plan = decision.plan
        found = {
            "columns": plan.names if plan else (),
            "masks": {c.name: c.mask for c in plan.columns if c.mask} if plan else {},
            "rules": decision.rules,
            "reasons": tuple(reason.code for reason in decision.reasons),
            "advice": decision.advice,
        }
        for name, got in found.items():
            expected = getattr(wanted, name)
            if expected is not None and expected != got:
                yield f"{name}: expected {_shown(expected)}, got {_shown(got)}"
        if wanted.where is not None:
            tree = parse_where(wanted.where, self._schema)
            got_rows = plan.row_filter if plan else None
            if got_rows != tree:
                yield f"where: expected {text_of(tree)}, got {text_of(got_rows or ('null', ''))}"


def _subject(node: Node) -> Subject:
    own = Fields(node, "a subject")
    name = own.required("id")
    tenant, slash, _ = name.text.partition("/")
    if not slash:
        raise name.place.refuse("a subject is `tenant/name`")
    found = Subject(
        id=name.text,
        tenant=tenant,
        type=own.one_of("type", ("person", "job"), "job"),
        roles=tuple(item.text for item in own.scalars("roles")),
        attributes=_values(own, "attributes"),
    )
    own.finish()
    return found


def _resource(node: Node) -> Resource:
    own = Fields(node, "a dataset")
    name = own.required("ref")
    ref = parsed(name, DatasetRef.parse)
    columns = tuple(
        _column(number, name, column)
        for number, (name, _, column) in enumerate(own.pairs("columns"), 1)
    )
    found = Resource(
        tenant=ref.tenant,
        dataset=DatasetRef(ref.tenant, ref.name, ref.version or 1),
        columns=columns,
        splits=tuple(
            parsed(item, lambda text: parse_name(text, what="split"))
            for item in own.scalars("splits")
        ),
        suspended=own.one_of("suspended", ("true", "false"), "false") == "true",
        attributes=_values(own, "attributes"),
    )
    own.finish()
    return found


def _column(number: int, name: str, node: Node) -> Column:
    own = Fields(node, "a column")
    kind = own.required("type").text
    tags = tuple(sorted(parsed(item, parse_tag) for item in own.scalars("tags")))
    own.finish()
    return Column(field_id=number, name=name, type=kind, tags=tags)


def _values(own: Fields, name: str) -> dict[str, Scalar]:
    return {key: plain_value(node) for key, _, node in own.pairs(name)}


def _expected(own: Fields, datasets: list[str]) -> tuple[tuple[str, str, str], _Expected]:
    subject, action = own.required("subject").text, own.required("action").text
    dataset = own.text("dataset", datasets[0] if len(datasets) == 1 else "")
    advice = own.scalar("advice")
    masks = {
        key: node.text for key, _, node in own.pairs("masks") if isinstance(node, Text)
    } if own.node("masks") else None  # fmt: skip
    found = _Expected(
        place=own.place,
        effect=own.one_of("effect", ("allow", "deny"), "allow"),
        columns=_texts(own, "columns"),
        masks=masks,
        rules=_texts(own, "rules"),
        reasons=_texts(own, "reasons"),
        advice=advice.text if advice else None,
        where=own.scalar("where"),
    )
    own.finish()
    return (subject, dataset, action), found


def _texts(own: Fields, name: str) -> tuple[str, ...] | None:
    return tuple(item.text for item in own.scalars(name)) if own.node(name) else None


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    return str(value)
