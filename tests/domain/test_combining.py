"""What one recipient was given must fit into one grant: refusals first, then the algebra."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.access import Plan, PlannedColumn
from gateway.domain.combining import Planned, is_covered, with_planned, would_combine
from gateway.domain.dataset import DatasetRef

NAMES = {"name": 1, "town": 2, "diagnosis": 3, "age": 4}
ADULTS = ("cmp", ">=", "age", ("int", 18))
LOCAL = ("cmp", "==", "town", ("str", "a"))


def plan(*columns: str, where: tuple[object, ...] | None = None, split: str | None = None) -> Plan:
    """`age~x-bucket:10` is a masked column."""
    parts = [column.partition("~") for column in columns]
    return Plan(
        dataset=DatasetRef("clinic", "icu", 1),
        split=split,
        columns=tuple(
            PlannedColumn(field_id=NAMES[name], name=name, mask=mask or None)
            for name, _, mask in parts
        ),
        row_filter=where,
        purpose="research",
        action="stream",
    )


def whole(given_: Plan) -> Planned:
    """Of a rule that releases just this."""
    return Planned(plan=given_, unit=given_)


def part(given_: Plan, unit: Plan) -> Planned:
    return Planned(plan=given_, unit=unit)


def test_two_alternatives_are_not_put_side_by_side() -> None:
    assert would_combine(whole(plan("town", "diagnosis")), [whole(plan("name", "town"))])


def test_the_raw_column_after_the_masked_one_needs_a_unit_that_has_both() -> None:
    masked, raw = plan("age~x-bucket:10", "town"), plan("age", "diagnosis")
    assert would_combine(whole(raw), [whole(masked)])
    assert not would_combine(part(raw, plan("age", "town", "diagnosis")), [whole(masked)])


def test_two_masks_of_one_column_together_tell_more_than_each() -> None:
    tens, sevens = plan("age~x-bucket:10"), plan("age~x-bucket:7")
    assert would_combine(whole(sevens), [whole(tens)])


def test_rows_of_two_filters_are_not_joined() -> None:
    adults, local = plan("name", where=ADULTS), plan("name", where=LOCAL)
    assert would_combine(whole(local), [whole(adults)])
    assert not would_combine(whole(plan("name", where=("and", ADULTS, LOCAL))), [whole(adults)])
    assert not would_combine(whole(plan("name")), [whole(adults)])


def test_a_third_plan_that_fits_each_but_not_all_is_refused() -> None:
    earlier = [part(plan("name"), plan("name", "town", "age"))]
    assert not would_combine(part(plan("town"), plan("town", "diagnosis")), earlier)
    earlier.append(part(plan("town"), plan("town", "diagnosis")))
    assert would_combine(part(plan("diagnosis"), plan("town", "diagnosis")), earlier)


def test_parts_of_one_rule_may_be_asked_for_one_by_one() -> None:
    unit = plan("name", "town", "diagnosis")
    assert not would_combine(part(plan("town", "diagnosis"), unit), [part(plan("name"), unit)])


def test_less_than_before_is_always_fine() -> None:
    assert not would_combine(whole(plan("name")), [whole(plan("name", "town"))])
    assert not would_combine(whole(plan("age~x-bucket:10")), [whole(plan("age", "name"))])


def test_two_splits_share_no_row() -> None:
    train = whole(plan("name", "town", split="train"))
    assert not would_combine(whole(plan("town", "diagnosis", split="test")), [train])
    assert would_combine(whole(plan("town", "diagnosis")), [train])


COLUMNS = st.lists(
    st.sampled_from(["name", "town", "diagnosis", "age", "age~x-bucket:10", "age~x-bucket:7"]),
    min_size=1,
    max_size=4,
    unique_by=lambda column: column.partition("~")[0],
)
PLANS = st.builds(
    lambda columns, where, split: plan(*columns, where=where, split=split),
    COLUMNS,
    st.sampled_from([None, ADULTS, LOCAL, ("and", ADULTS, LOCAL)]),
    st.sampled_from([None, "train", "test"]),
)


@st.composite
def planned(draw: st.DrawFn) -> Planned:
    unit = draw(PLANS)
    kept = draw(st.sets(st.sampled_from([c.field_id for c in unit.columns]), min_size=1))
    return part(replace(unit, columns=tuple(c for c in unit.columns if c.field_id in kept)), unit)


@given(st.lists(planned(), max_size=8))
def test_all_that_was_ever_given_fits_into_one_unit(asked: list[Planned]) -> None:
    given_: list[Planned] = []
    known: tuple[Planned, ...] = ()
    for one in asked:
        if not would_combine(one, known):
            given_.append(one)
            known = with_planned(known, one)
    for split in ("train", "test"):
        seen = [one for one in given_ if one.plan.split in (None, split)]
        assert not seen or any(
            all(is_covered(replace(one.plan, split=split), other.unit) for one in seen)
            for other in seen
        )


@given(st.lists(planned(), max_size=6), planned())
def test_forgetting_what_is_covered_changes_no_answer(
    earlier: list[Planned], wanted: Planned
) -> None:
    known: tuple[Planned, ...] = ()
    for one in earlier:
        known = with_planned(known, one)
    assert would_combine(wanted, known) is would_combine(wanted, earlier)
    assert len(known) <= len(earlier)


@given(planned(), planned(), planned())
def test_covering_is_an_order(a: Planned, b: Planned, c: Planned) -> None:
    assert is_covered(a.plan, a.plan)
    if is_covered(a.plan, b.plan) and is_covered(b.plan, c.plan):
        assert is_covered(a.plan, c.plan)
