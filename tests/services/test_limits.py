"""Limits bound a Grant and its parts together, and a rule that allows less now acts now."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.domain.access import Limits
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant, OrderSpec
from gateway.errors import LimitExceeded, PlanChanged
from gateway.services import limits, request_access, stream
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.services.simulator import add_rules, caller
from tests.services.test_access import ASK, RULES, TRAINER, run, shared
from tests.services.test_down_scope import grant_of, narrower

__all__ = ["shared"]


def limited(**bounds: int) -> Ask:
    return dataclasses.replace(ASK, limits=Limits(**bounds))


def begun(house: House, grant: Grant, order: OrderSpec) -> str:
    """A lease that control recorded; no worker serves it."""
    lease = house.id("lease_")
    facts = {
        "lease": lease,
        "grant": grant.id,
        "run": grant.run,
        "worker": 0,
        "order": dataclasses.asdict(order),
        "segments": 4,
        "view": False,
        "expires_at": grant.expires_at,
        "policy_epoch": house.catalog.policy_epoch,
        "plan_digest": "0" * 64,
    }
    house.record(
        EventDraft(
            kind=EventKind.LeaseOpened,
            owner_tenant=grant.owner_tenant,
            actor_tenant=grant.subject_tenant,
            actor=grant.subject,
            facts=facts,
        )
    )
    return lease


def intended(house: House, grant: Grant, lease: str, rows: int) -> None:
    facts = {"lease": lease, "grant": grant.id, "first": 0, "last": 0, "rows": rows, "bytes": 8}
    house.record(
        EventDraft(
            kind=EventKind.SegmentIntent,
            owner_tenant=grant.owner_tenant,
            actor_tenant=grant.subject_tenant,
            actor=grant.subject,
            facts=facts,
        )
    )


def test_another_seed_is_another_pass(shared: House) -> None:
    grant = grant_of(shared, limited(max_epochs=1))
    begun(shared, grant, OrderSpec(seed=1, shuffle=True))
    for order in (OrderSpec(seed=2, shuffle=True), OrderSpec(seed=1), OrderSpec(seed=1, lanes=2)):
        with pytest.raises(LimitExceeded):
            limits.require_pass(shared, grant, order)
    holder = dataclasses.replace(TRAINER, grant=grant.id)
    with pytest.raises(LimitExceeded):
        run(stream.open_lease(shared, holder, LeaseRequest(order=OrderRequest(seed=2))))


def test_ranks_worlds_and_reconnections_of_one_pass_are_one(shared: House) -> None:
    grant = grant_of(shared, limited(max_epochs=1))
    for rank, world in ((0, 2), (1, 2), (0, 2), (0, 4)):
        order = OrderSpec(seed=1, shuffle=True, rank=rank, world=world)
        limits.require_pass(shared, grant, order)
        begun(shared, grant, order)


def test_passes_of_the_parts_of_a_grant_count_together(shared: House) -> None:
    parent = grant_of(shared, limited(max_epochs=2))
    parts = [grant_of(shared, narrower(parent, run=name)) for name in ("a", "b", "c")]
    begun(shared, parts[0], OrderSpec(seed=1))
    begun(shared, parts[1], OrderSpec(seed=2))
    with pytest.raises(LimitExceeded):
        limits.require_pass(shared, parts[2], OrderSpec(seed=3))
    limits.require_pass(shared, parts[2], OrderSpec(seed=2))


def test_rows_and_bytes_of_the_parts_of_a_grant_are_one_budget(shared: House) -> None:
    parent = grant_of(shared, limited(max_rows=100, max_bytes=1000))
    parts = [grant_of(shared, narrower(parent, run=name)) for name in ("a", "b")]
    intended(shared, parts[0], begun(shared, parts[0], OrderSpec()), rows=80)
    limits.require_budget(shared, parts[1], 20, 8)
    for rows, size in ((21, 8), (1, 993)):
        with pytest.raises(LimitExceeded, match=r"is 100+: \d+ are used, and the next segment has"):
            limits.require_budget(shared, parts[1], rows, size)


def test_a_run_that_asks_for_less_does_not_get_its_wider_grant_back(shared: House) -> None:
    wide = grant_of(shared, dataclasses.replace(limited(max_rows=1000), run="r1"))
    narrow = grant_of(shared, dataclasses.replace(limited(max_rows=10), run="r1"))
    assert narrow.plan.limits.max_rows == 10
    assert grant_of(shared, dataclasses.replace(ASK, run="r1")).id in (wide.id, narrow.id)


def test_smaller_limits_of_a_newer_rule_end_the_stream_and_bind_the_next(shared: House) -> None:
    old = grant_of(shared, dataclasses.replace(limited(max_rows=1000), run="r1"))
    lease = shared.catalog.lease(begun(shared, old, OrderSpec()))
    job = caller("startup", "ml", "trainer")
    less = RULES + "    limits: {max_rows: 50}\n"
    assert stream.judge_lease(shared, lease) == shared.catalog.policy_epoch
    run(add_rules(shared, "clinic", less))
    with pytest.raises(PlanChanged, match="less than was granted"):
        stream.judge_lease(shared, lease)
    _, again = run(request_access.request_grant(shared, job, dataclasses.replace(ASK, run="r1")))
    assert again.id != old.id
    assert again.plan.limits.max_rows == 50


def test_a_new_obligation_ends_streams_whose_grant_does_not_say_it(shared: House) -> None:
    old = grant_of(shared, dataclasses.replace(ASK, run="r1"))
    lease = shared.catalog.lease(begun(shared, old, OrderSpec()))
    run(add_rules(shared, "clinic", RULES + "    obligations: {no_redistribution: true}\n"))
    with pytest.raises(PlanChanged, match="oblige"):
        stream.judge_lease(shared, lease)
    again = grant_of(shared, dataclasses.replace(ASK, run="r1"))
    assert again.plan.obligations == (("no_redistribution", True),)


def test_a_moment_that_the_rules_wait_for_ends_the_grant_at_that_moment(shared: House) -> None:
    ends = "    when: context.time < timestamp'2100-01-01T00:00:00Z'\n"
    run(add_rules(shared, "clinic", RULES + ends))
    assert grant_of(shared, ASK).expires_at == 4102444800
