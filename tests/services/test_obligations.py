"""What is owed after a Grant: both sides follow it, and only the recipient can say it is done."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.config import Settings
from gateway.domain.events import EventKind
from gateway.domain.lease import Grant, OrderSpec
from gateway.errors import AccessDenied, Conflict, InvalidInput, NotFound
from gateway.services import obligations, request_access, revoke, shapes
from gateway.services.house import House
from gateway.services.revoke import Selector
from tests.services.conftest import open_house
from tests.services.simulator import add_rules, caller
from tests.services.test_access import ASK, OWNER, RULES, STRANGER, TRAINER, run, shared
from tests.services.test_down_scope import grant_of
from tests.services.test_limits import begun, intended

__all__ = ["shared"]
DUTIES = RULES + "    obligations: {delete_after: P30D, no_redistribution: true}\n"
DAY = 86_400
TEXT = "everything was wiped; signed, the DPO of the startup"
SHOWN = W.FulfilmentRequest(
    evidence_sha256=hashlib.sha256(TEXT.encode()).hexdigest(), evidence=TEXT
)
BOSS = caller("startup", "boss", "owner")


def read(house: House) -> Grant:
    """A Grant under which rows were released."""
    run(add_rules(house, "clinic", DUTIES))
    grant = grant_of(house, ASK)
    intended(house, grant, begun(house, grant, OrderSpec()), rows=10)
    return grant


def seen(house: House, who: Any, **only: bool) -> list[W.ObligationView]:
    found: list[W.ObligationView] = run(obligations.list_(house, who, **only))
    return found


def later(house: House, monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = house.now() + days * DAY
    monkeypatch.setattr(house, "now", lambda: now)


def test_nothing_is_owed_for_what_was_never_released(shared: House) -> None:
    run(add_rules(shared, "clinic", DUTIES))
    grant_of(shared, ASK)
    assert seen(shared, OWNER) == []


def test_owner_and_recipient_see_it_and_nobody_else(shared: House) -> None:
    grant = read(shared)
    (owners,), (recipients,) = seen(shared, OWNER), seen(shared, TRAINER)
    assert owners == recipients
    assert (owners.name, owners.state, owners.grant) == ("delete_after", "running", grant.id)
    assert seen(shared, STRANGER) == []


def test_strangers_owners_and_colleagues_without_a_role_cannot_say_it_is_done(
    shared: House,
) -> None:
    read(shared)
    (one,) = seen(shared, TRAINER)
    for who in (STRANGER, OWNER):
        with pytest.raises(NotFound, match="of yours"):
            run(obligations.fulfil(shared, who, one.id, SHOWN))
    with pytest.raises(AccessDenied):
        run(obligations.fulfil(shared, caller("startup", "clerk"), one.id, SHOWN))
    holder = dataclasses.replace(TRAINER, grant=one.grant)
    with pytest.raises(AccessDenied):
        run(obligations.fulfil(shared, holder, one.id, SHOWN))
    for wrong in (one.id + "x", "obl_x", one.id.replace("delete_after", "no_redistribution")):
        with pytest.raises(NotFound):
            run(obligations.fulfil(shared, TRAINER, wrong, SHOWN))


@pytest.mark.parametrize(
    "shown",
    [
        W.FulfilmentRequest(evidence_sha256="0" * 63),
        W.FulfilmentRequest(evidence_sha256="0" * 64, evidence="something else"),
        W.FulfilmentRequest(evidence_sha256="0" * 64, evidence="x" * 8193),
        W.FulfilmentRequest(evidence_sha256="0" * 64, evidence="\ud800"),
    ],
)
def test_evidence_that_is_none_is_refused(shared: House, shown: W.FulfilmentRequest) -> None:
    read(shared)
    (one,) = seen(shared, TRAINER)
    with pytest.raises(InvalidInput):
        run(obligations.fulfil(shared, TRAINER, one.id, shown))
    assert seen(shared, TRAINER)[0].state == "running"


def test_it_is_due_after_the_grant_and_overdue_after_its_period(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = read(shared)
    run(revoke.revoke(shared, OWNER, Selector(grant=grant.id), "over"))
    later(shared, monkeypatch, 1)
    assert [view.state for view in seen(shared, OWNER)] == ["due"]
    assert seen(shared, OWNER, overdue=True) == []
    later(shared, monkeypatch, 30)
    assert [view.state for view in seen(shared, OWNER, overdue=True)] == ["overdue"]
    run(obligations.fulfil(shared, TRAINER, seen(shared, TRAINER)[0].id, SHOWN))
    assert seen(shared, OWNER, overdue=True) == []


def test_the_digest_is_recorded_in_clear_the_text_sealed_and_once_is_enough(
    shared: House, settings: Settings
) -> None:
    read(shared)
    (one,) = seen(shared, TRAINER)
    done = run(obligations.fulfil(shared, BOSS, one.id, SHOWN))
    assert (done.state, done.fulfilled_by, done.evidence) == ("fulfilled", "startup/boss", TEXT)
    with pytest.raises(Conflict):
        run(obligations.fulfil(shared, TRAINER, one.id, SHOWN))
    (event,) = [e for e in shared.journal.read(0) if e.kind == EventKind.ObligationFulfilled]
    assert event.facts["evidence_sha256"] == SHOWN.evidence_sha256
    assert TEXT not in str(event.envelope())
    run(bootstrap.close(shared))
    again = open_house(settings)
    assert seen(again, OWNER) == [done]
    run(bootstrap.close(again))


def test_the_recipient_reads_the_level_of_each_before_and_after_asking(shared: House) -> None:
    grant = read(shared)
    levels = {"delete_after": "tracked", "no_redistribution": "declared"}
    plan = run(request_access.check(shared, TRAINER, ASK)).plan
    assert shapes.plan_view(plan).obligation_levels == levels
    shown = shapes.grant_view(grant)
    assert shown.obligations == {"delete_after": "P30D", "no_redistribution": True}
    assert shown.obligation_levels == levels
