"""Properties of decisions over random rule sets: order, index, oracle, attenuation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.access import AccessRequest, Decision, Plan, Resource
from gateway.domain.masks import is_at_least
from gateway.policy import index
from gateway.policy.bundle import PolicyBundle
from gateway.policy.index import Entry, scopes_of
from gateway.policy.judge import Judge
from gateway.policy.rules import Rule
from gateway.policy.trial import RequestFacts, Trial

from .scene import ICU, NOW, TRAINER, ask, request, text_of

WHEN = [
    "true",
    "false",
    "subject.type == 'job'",
    "subject.clearance >= 2",
    "not has context.mfa",
    "subject.clearance >= 2 or subject.type == 'job'",
    "context.time < timestamp'2026-01-01T00:00:00Z'",
]
WHO = ["startup/role:trainer", "startup/user:ml", "startup/*", "evil/*"]
WHERE = ["dataset:clinic/icu", "dataset:clinic/x", "tag:pii", "tag:health.special", "tenant:clinic"]
MASKS = ["x-bucket:4", "x-bucket:6", "replace-with-null", "x-drop", "mask-alphanum"]
TAG_MASKS = ["x-bucket:10", "truncate-to-year", "x-drop", "x-hmac-tenant"]
FILTERS = ["age > 17", "site = 'a'", "born is not null", "site = :subject.region"]


def some(words: list[str], most: int = 2) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=most, unique=True)


COMMON = {
    "principals": some(WHO),
    "scope": st.sampled_from(WHERE),
    "actions": some(["stream", "preview"]),
    "accepts": st.just(["recipient"]),
}
MAYBE = {
    "when": st.sampled_from(WHEN),
    "purpose": some(["research", "health-research", "audit"]),
    "splits": some(["train", "test"]),
    "expires": st.sampled_from(["2026-01-01", "2030-01-01"]),
}
LIMITS = {"limits": st.fixed_dictionaries({"max_rows": st.integers(1, 99)})}
SHAPES = {
    "masks": st.dictionaries(
        st.sampled_from(["age", "income", "site"]), st.sampled_from(MASKS), min_size=1
    ),
    "tag_masks": st.dictionaries(
        st.sampled_from(["pii", "pii.date", "health"]), st.sampled_from(TAG_MASKS), min_size=1
    ),
    "where": st.sampled_from(FILTERS),
}
COLUMNS = some([c.name for c in ICU.columns], 7)
ALLOW = st.fixed_dictionaries(
    {"kind": st.just("allow"), **COMMON, "columns": COLUMNS},
    optional={**MAYBE, **SHAPES, **LIMITS},
)
DENY = st.fixed_dictionaries({"kind": st.just("deny"), **COMMON}, optional=MAYBE)
RESTRICT = st.fixed_dictionaries(
    {"kind": st.just("restrict"), **COMMON, **LIMITS}, optional={**MAYBE, **SHAPES}
)
# One rule that allows most requests, so that most random sets decide something.
WIDE = st.fixed_dictionaries(
    {
        "kind": st.just("allow"),
        "principals": st.just(["startup/*"]),
        "scope": st.just("tenant:clinic"),
        "actions": st.just(["stream", "preview"]),
        "accepts": st.just(["recipient"]),
        "columns": st.just([c.name for c in ICU.columns]),
    },
    optional={**SHAPES, **LIMITS},
)
RULES = st.one_of(
    st.lists(st.one_of(ALLOW, ALLOW, DENY, RESTRICT), max_size=6),
    st.tuples(WIDE, st.lists(st.one_of(ALLOW, RESTRICT, RESTRICT, DENY), max_size=4)).map(
        lambda pair: [pair[0], *pair[1]]
    ),
)
SUBJECTS = [
    TRAINER,
    replace(TRAINER, attributes={"clearance": 3, "region": "a"}),
    replace(TRAINER, type="person", attributes={"clearance": "3"}),
    replace(TRAINER, roles=()),
]
REQUESTS = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["stream", "stream", "preview", "export"]),
        "purpose": st.sampled_from(["research", "disease-research", "audit", "research"]),
        "split": st.sampled_from([None, "train", "test"]),
        "subject": st.sampled_from(SUBJECTS),
        "columns": st.one_of(st.none(), COLUMNS.map(tuple)),
    }
)
CHECK = settings(
    max_examples=settings.default.max_examples // 2,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def read(rules: list[dict[str, Any]]) -> PolicyBundle:
    named = [{"id": f"clinic.r{number}", **one} for number, one in enumerate(rules)]
    return PolicyBundle.read({"r.yaml": text_of(*named)}, "clinic")


def essence(decision: Decision) -> tuple[Any, ...]:
    return (decision.effect, decision.reasons, decision.rules, decision.plan, decision.advice)


@CHECK
@given(RULES, REQUESTS, st.randoms())
def test_the_order_of_rules_never_matters(
    rules: list[dict[str, Any]], asked: dict[str, Any], chance: Any
) -> None:
    bundle = read(rules)
    shuffled = list(bundle.rules)
    chance.shuffle(shuffled)
    one = ask(Judge.build([bundle]), **asked)
    other = ask(Judge.build([replace(bundle, rules=tuple(shuffled))]), **asked)
    assert essence(one) == essence(other)


@CHECK
@given(RULES, REQUESTS)
def test_the_index_finds_every_rule_that_casbin_would(
    rules: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    judged = Judge.build([read(rules)])
    decision = ask(judged, **asked)
    if decision.reasons[0].code not in ("no-rule", "denied-by-rule", "rule-allows"):
        return
    ways = {row: one for one, row in judged._index.rules()}
    wanted = request(**asked)
    found = {one.id: Entry.alone(one) for one in ways.values()}
    trial = Trial(wanted, RequestFacts(judged._schema, wanted, ICU, NOW), found, NOW)
    rows = [row for row, one in ways.items() if one.kind != "restrict"]
    question = (trial.counting(), wanted.subject.principals, scopes_of(ICU), wanted.action)
    assert judged._loop.allows(question, rows) is decision.is_allowed


def by_definition(rules: tuple[Rule, ...], wanted: AccessRequest, resource: Resource) -> bool:
    """Allow or deny from the format page, without index, Casbin or memo."""
    judged = Judge.build([])
    facts = RequestFacts(judged._schema, wanted, resource, NOW)
    counting = {"allow": 0, "deny": 0, "restrict": 0}
    for one in rules:
        met = (
            one.key in scopes_of(resource)
            and (wanted.action in one.actions or "*" in one.actions)
            and set(one.principals) & set(wanted.subject.principals)
        )
        if met and Trial(wanted, facts, {}, NOW).counts(one):
            counting[one.kind] += 1
    return counting["allow"] > 0 and counting["deny"] == 0


@CHECK
@given(RULES, REQUESTS)
def test_decisions_agree_with_the_definition(
    rules: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    bundle = read(rules)
    decision = ask(Judge.build([bundle]), **asked)
    defined = by_definition(bundle.rules, request(**asked), ICU)
    if decision.is_allowed:
        assert defined
    elif decision.reasons[0].code in ("no-rule", "denied-by-rule", "purpose-not-permitted"):
        assert not defined


def assert_no_wider(before: Plan, after: Plan) -> None:
    old = {column.name: column.mask for column in before.columns}
    for column in after.columns:
        assert column.name in old
        assert is_at_least(column.mask, old[column.name])
    rows = () if before.row_filter is None else before.row_filter
    parts = set(rows[1:]) if rows[:1] == ("and",) else {rows} if rows else set()
    now = () if after.row_filter is None else after.row_filter
    assert parts <= (set(now[1:]) if now[:1] == ("and",) else {now})
    for name, value in before.limits.to_dict().items():
        assert after.limits.to_dict()[name] <= value
    assert set(before.obligations) <= set(after.obligations)


@CHECK
@given(RULES, st.one_of(ALLOW, DENY, RESTRICT), REQUESTS)
def test_one_more_rule_never_widens_a_plan(
    rules: list[dict[str, Any]], more: dict[str, Any], asked: dict[str, Any]
) -> None:
    before = ask(Judge.build([read(rules)]), **asked)
    after = ask(Judge.build([read([*rules, more])]), **asked)
    if before.plan is not None and after.plan is not None:
        assert_no_wider(before.plan, after.plan)
    if before.plan is None and after.plan is not None:
        assert more["kind"] == "allow"


@CHECK
@given(RULES, REQUESTS)
def test_what_rules_share_changes_no_answer(
    rules: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    bundle = read([*rules, *rules])
    sharing = Judge.build([bundle])
    with pytest.MonkeyPatch.context() as patched:
        for key in ("_when_it_holds", "_what_it_releases"):
            patched.setattr(index, key, lambda one: one.id)
        alone = Judge.build([bundle])
    assert essence(ask(sharing, **asked)) == essence(ask(alone, **asked))
    wanted = request(**asked)
    assert sharing.explain(wanted, ICU, NOW) == alone.explain(wanted, ICU, NOW)


@CHECK
@given(RULES, COLUMNS, REQUESTS)
def test_asking_for_less_never_gives_more(
    rules: list[dict[str, Any]], columns: list[str], asked: dict[str, Any]
) -> None:
    judged = Judge.build([read(rules)])
    everything = ask(judged, **{**asked, "columns": None})
    some = ask(judged, **{**asked, "columns": tuple(columns)})
    if some.plan is not None:
        assert everything.plan is not None
        assert set(some.plan.columns) <= set(everything.plan.columns)
        assert some.plan.row_filter == everything.plan.row_filter
        assert set(some.plan.names) <= set(columns)


@CHECK
@given(RULES, REQUESTS)
def test_explaining_agrees_with_deciding(
    rules: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    judged = Judge.build([read(rules)])
    decision = ask(judged, **asked)
    found = judged.explain(request(**asked), ICU, NOW)
    assert found.effect == decision.effect.value
    counting = {c.rule for c in found.candidates if c.counts}
    assert set(decision.rules) <= counting
    for candidate in found.candidates:
        assert (candidate.truth == "TRUE") is (not candidate.changes)
