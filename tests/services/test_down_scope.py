"""A narrower Grant cut from one's own."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.domain.access import DATA_ACTIONS, Limits
from gateway.domain.events import EventKind
from gateway.domain.lease import Grant
from gateway.domain.run_names import run_uuid
from gateway.errors import AccessDenied, InvalidInput, LeaseRevoked, NotFound
from gateway.services import grants, request_access, revoke, runs
from gateway.services.gateway import Gateway
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.revoke import Selector
from gateway.wire.access import RevocationRequest
from tests.services.simulator import caller
from tests.services.test_access import ASK, OWNER, TRAINER, kinds, run, shared

__all__ = ["shared"]


def grant_of(house: House, ask: Ask) -> Grant:
    grant: Grant = run(request_access.request_grant(house, TRAINER, ask))[1]
    return grant


def narrower(parent: Grant, **wanted: object) -> Ask:
    return Ask(dataset="", parent=parent.id, **wanted)  # type: ignore[arg-type]


def test_a_part_of_anothers_grant_cannot_be_had(shared: House) -> None:
    parent = grant_of(shared, ASK)
    other, start = caller("startup", "someone", "trainer"), shared.journal.durable_size
    with pytest.raises(NotFound):
        run(request_access.request_grant(shared, other, narrower(parent)))
    with pytest.raises(NotFound):
        run(revoke.revoke(shared, other, Selector(grant=parent.id), "not mine"))
    assert kinds(shared, start) == [EventKind.RequestRefused] * 2


def test_what_the_parent_does_not_have_is_denied_though_the_rules_allow_it(shared: House) -> None:
    parent = grant_of(shared, Ask(dataset="clinic/icu", purpose="health-research", columns=("hr",)))
    with pytest.raises(AccessDenied, match="not within the grant") as caught:
        run(request_access.request_grant(shared, TRAINER, narrower(parent, columns=("age", "hr"))))
    assert caught.value.decision is not None
    assert shared.catalog.decision(caught.value.decision).effect == "deny"


def test_another_purpose_is_denied(shared: House) -> None:
    parent = grant_of(shared, ASK)
    with pytest.raises(AccessDenied):
        run(request_access.request_grant(shared, TRAINER, narrower(parent, purpose="marketing")))


def test_a_part_of_a_grant_for_one_run_is_for_no_other(shared: House) -> None:
    parent = grant_of(shared, dataclasses.replace(ASK, run="night"))
    with pytest.raises(AccessDenied, match="not within the grant"):
        run(request_access.request_grant(shared, TRAINER, narrower(parent, run="day")))
    assert grant_of(shared, narrower(parent, columns=("hr",))).run == parent.run


def test_another_action_is_denied_and_not_quietly_the_parents(shared: House) -> None:
    parent = grant_of(shared, ASK)
    for action in set(DATA_ACTIONS) - {parent.plan.action}:
        with pytest.raises(AccessDenied):
            run(request_access.request_grant(shared, TRAINER, narrower(parent, action=action)))


def test_a_child_has_fewer_columns_and_no_larger_limits(shared: House) -> None:
    limited = Ask(dataset="clinic/icu", purpose="health-research", limits=Limits(max_rows=100))
    parent = grant_of(shared, limited)
    child = grant_of(shared, narrower(parent, columns=("hr",), limits=Limits(max_rows=500)))
    assert child.parent == parent.id
    assert child.plan.names == ("hr",)
    assert child.plan.limits.max_rows == 100
    assert child.expires_at <= parent.expires_at
    assert child.plan.is_within(parent.plan)
    assert not parent.plan.is_within(child.plan)


def test_revoking_the_parent_ends_children_and_their_children(shared: House) -> None:
    parent = grant_of(shared, ASK)
    child = grant_of(shared, narrower(parent, columns=("hr",)))
    grandchild = grant_of(shared, narrower(child))
    done = run(revoke.revoke(shared, OWNER, Selector(grant=parent.id), "over"))
    assert set(done.grants) == {parent.id, child.id, grandchild.id}
    with pytest.raises(LeaseRevoked):
        run(request_access.request_grant(shared, TRAINER, narrower(child)))


def test_revoking_the_child_leaves_the_parent(shared: House) -> None:
    parent = grant_of(shared, ASK)
    child = grant_of(shared, narrower(parent, columns=("hr",)))
    run(revoke.revoke(shared, OWNER, Selector(grant=child.id), "over"))
    assert not shared.catalog.grant(parent.id).revoked


def test_a_reason_is_one_printable_line(shared: House) -> None:
    parent = grant_of(shared, ASK)
    for reason in ("over\nand out", "over\u202e", "x" * 1001):
        with pytest.raises(InvalidInput, match="one line"):
            run(revoke.revoke(shared, OWNER, Selector(grant=parent.id), reason))
    assert not shared.catalog.grant(parent.id).revoked


def test_a_run_is_named_alike_wherever_its_grants_are_chosen(shared: House) -> None:
    grant = grant_of(shared, dataclasses.replace(ASK, run="run:night"))
    assert grant.run == "startup:night"
    for name in ("night", "run:night", "startup:night", "run:startup:night", run_uuid(grant.run)):
        assert run(grants.list_(shared, TRAINER, {"run": name})) == [grant]
        assert run(runs.show(shared, TRAINER, name)).run == grant.run
    for name in ("startup:night", "run:startup:night", run_uuid(grant.run)):
        assert run(grants.list_(shared, OWNER, {"run": name})) == [grant]
    assert run(grants.list_(shared, OWNER, {"run": "night"})) == []
    revoked = run(Gateway(shared).revoke(OWNER, RevocationRequest(run="run:startup:night")))
    assert revoked.grant_ids == (grant.id,)
