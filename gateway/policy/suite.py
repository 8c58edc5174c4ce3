"""Suites: tables of requests and the answers they must get (docs/formats/policy-v1.md §8).

A suite travels with the rules it tests, in the same bundle. Whatever combination it does not
list must be denied, so that a suite fails when a rule begins to allow more than was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from gateway.domain.access import ACTIONS, AccessRequest, Decision, Plan, Resource
from gateway.domain.dataset import Column
from gateway.domain.masks import parse_mask
from gateway.domain.purpose import parse_purpose
from gateway.domain.rowfilter import Filter, text_of
from gateway.errors import InvalidInput
from gateway.policy import fixtures
from gateway.policy.bundle import SUITE_SUFFIX, PolicyBundle
from gateway.policy.documents import Fields, Node, Place, parsed, read_document, word
from gateway.policy.documents import Scalar as Text
from gateway.policy.filters import parse_where
from gateway.policy.fixtures import Row
from gateway.policy.judge import Judge
from gateway.policy.schema import Schema, default_schema, moment
from gateway.policy.version import check_format

SUITE = "gateway-policy-test"
CASES_MAX = 5_000
Seen = tuple[dict[str, str | None], ...]
Show = Callable[[Sequence[Column], Sequence[Row], Plan], Seen]  # shards.fixture_rows.visible


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
    visible: Seen | None = None  # of the dataset's rows; None = it has none, or all is denied

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
    bundle: PolicyBundle,
    *,
    beside: Iterable[PolicyBundle] = (),
    schema: Schema | None = None,
    show: Show | None = None,
) -> list[SuiteResult]:
    """Run every suite of the bundle; no suites, no results.

    Args:
        bundle: rules and suites.
        beside: bundles of other tenants that are in force too, such as the platform's.
        schema: the one that ships with the gateway when absent.
        show: what a Plan releases of rows; a suite that has rows is refused without it.

    Raises:
        PolicyError: a suite cannot be read.
    """
    known = schema or default_schema()
    judge = Judge.build([bundle, *beside], known)
    results: list[SuiteResult] = []
    for path in sorted(bundle.files):
        if not path.endswith(SUITE_SUFFIX):
            continue
        for result in _Suite(path, bundle, judge, known, show).run():
            results.append(result)
            if len(results) > CASES_MAX:
                raise Place(path).refuse(f"more than {CASES_MAX} cases", "split the suites")
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    place: Place
    dataset: str = ""
    effect: str = "deny"
    columns: tuple[str, ...] | None = None
    masks: dict[str, str] | None = None
    rules: tuple[str, ...] | None = None
    reasons: tuple[str, ...] | None = None
    advice: str | None = None
    where: Filter | None = None
    rows: tuple[Row, ...] | None = None


class _Suite:
    """One file: its fixtures, then its tests."""

    def __init__(
        self, path: str, bundle: PolicyBundle, judge: Judge, schema: Schema, show: Show | None
    ) -> None:
        self._path = path
        self._judge = judge
        self._schema = schema
        self._show = show
        self._rows: dict[str, tuple[Row, ...]] = {}  # by name of the dataset
        self._own = Resource(tenant=bundle.tenant)
        top = Fields(read_document(bundle.files[path], path), "a suite")
        check_format(top, SUITE)
        now = top.required("now")
        self._now = moment(now.text)
        if self._now is None:
            raise now.place.refuse("a time with zone is needed", "write `2026-01-01T00:00:00Z`")
        self._subjects = {name: fixtures.subject(node) for name, _, node in top.pairs("subjects")}
        self._resources = {
            name: self._resource(name, node) for name, _, node in top.pairs("datasets")
        }
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
            key, what = _expected(Fields(node, "an expectation"), datasets, self._schema)
            if what.rows is not None and key[1] not in self._rows:
                raise what.place.refuse("the dataset of these `rows` has none itself")
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
            seen = self._seen(dataset, decision.plan, wanted.place)
            problems = tuple(self._problems(wanted, decision, seen))
            yield SuiteResult(
                place=f"{self._path}:{wanted.place.line}",
                test=name,
                subject=subject,
                dataset=dataset,
                action=action,
                ok=not problems,
                problems=problems,
                rules=decision.rules,
                visible=seen,
            )

    def _seen(
        self, dataset: str, plan: Plan | None, place: Place, rows: tuple[Row, ...] | None = None
    ) -> Seen | None:
        """What the Plan releases of the dataset's rows, or of these."""
        of = self._rows.get(dataset) if rows is None else rows
        if plan is None or of is None:
            return None
        if self._show is None:
            raise place.refuse("rows cannot be tried here")
        try:
            return self._show(self._resources[dataset].columns, of, plan)
        except InvalidInput as cause:
            raise place.refuse(cause.message, cause.advice) from cause

    def _resource(self, name: str, node: Node) -> Resource:
        own = Fields(node, "a dataset")
        found = fixtures.resource(own)
        if own.node("rows") is not None:
            known = {column.name for column in found.columns}
            self._rows[name] = tuple(fixtures.row(each, known) for each in own.items("rows"))
        own.finish()
        return found

    def _asked(self, own: Fields) -> dict[str, Any]:
        purpose, split, run = own.scalar("purpose"), own.scalar("split"), own.scalar("run")
        return {
            "purpose": parsed(purpose, parse_purpose) if purpose else None,
            "columns": tuple(item.text for item in own.scalars("columns")) or None,
            "split": split.text if split else None,
            "run": run.text if run else None,
            "context": fixtures.values(own, "context"),
        }

    def _problems(self, wanted: _Expected, decision: Decision, seen: Seen | None) -> Iterator[str]:
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
            got_rows = plan.row_filter if plan else None
            if got_rows != wanted.where:
                got_text = text_of(got_rows or ("null", ""))
                yield f"where: expected {text_of(wanted.where)}, got {got_text}"
        if wanted.rows is not None and plan is not None and seen is not None:
            yield from self._hidden_or_shown(wanted, plan, seen)

    def _hidden_or_shown(self, wanted: _Expected, plan: Plan, seen: Seen) -> Iterator[str]:
        assert wanted.rows is not None
        extra = {name for row in wanted.rows for name in row} - set(plan.names)
        if extra:
            yield f"rows: `{min(extra)}` is not released"
            return
        plain = tuple(replace(column, mask=None) for column in plan.columns)
        plan = replace(plan, columns=plain, row_filter=None)
        # As the types write them: `5`, `5.0` and `05` are one number.
        expected = self._seen(wanted.dataset, plan, wanted.place, wanted.rows) or ()
        for number, (one, got) in enumerate(zip(expected, seen, strict=False), 1):
            if one != got:
                yield f"rows: expected {_shown(one)} as row {number}, got {_shown(got)}"
                return
        if len(expected) != len(seen):
            yield f"rows: expected {len(expected)} rows, got {len(seen)}"


def _expected(
    own: Fields, datasets: list[str], schema: Schema
) -> tuple[tuple[str, str, str], _Expected]:
    subject, action = own.required("subject").text, own.required("action").text
    dataset = own.text("dataset", datasets[0] if len(datasets) == 1 else "")
    advice = own.scalar("advice")
    where = own.scalar("where")
    found = _Expected(
        place=own.place,
        dataset=dataset,
        rows=fixtures.rows(own),
        effect=own.one_of("effect", ("allow", "deny"), "allow"),
        columns=_texts(own, "columns"),
        masks=_masks(own) if own.node("masks") else None,
        rules=_texts(own, "rules"),
        reasons=_texts(own, "reasons"),
        advice=advice.text if advice else None,
        where=parse_where(where, schema) if where else None,
    )
    own.finish()
    return (subject, dataset, action), found


def _masks(own: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, _, node in own.pairs("masks"):
        if not isinstance(node, Text):
            raise node.place.refuse("a mask is a name")
        parsed(node, parse_mask)
        found[name] = node.text
    return found


def _texts(own: Fields, name: str) -> tuple[str, ...] | None:
    return tuple(item.text for item in own.scalars(name)) if own.node(name) else None


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}={'NULL' if v is None else v}" for k, v in value.items()) or "none"
    return str(value)
