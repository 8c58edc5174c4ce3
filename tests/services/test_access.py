"""Asking, being denied, being granted: over real rules, a real journal and real keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.config import Settings
from gateway.domain.events import EventKind
from gateway.errors import (
    AccessDenied,
    InvalidInput,
    LeaseExpired,
    LeaseRevoked,
    NotFound,
    Unavailable,
)
from gateway.services import (
    describe,
    down_scope,
    publish,
    refusals,
    request_access,
    revoke,
    tenants,
    trial,
    uploads,
)
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.services.revoke import Selector
from tests.services.conftest import open_house
from tests.services.simulator import OPERATOR, add_rules, add_tenant, add_version, caller

RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.research
    kind: allow
    explain: requester
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [health-research]
    columns: [age, hr]
    masks: {age: "x-bucket:10"}
"""
OWNER = caller("clinic", "owner", "owner")
TRAINER = caller("startup", "ml", "trainer")
STRANGER = caller("rival", "spy", "trainer", "owner", "auditor", "operator")
ASK = Ask(dataset="clinic/icu", purpose="health-research")


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


@pytest.fixture
def shared(house: House) -> House:
    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"))
        await add_tenant(house, "rival", ("spy", "trainer"))
        add_version(house, "clinic", "icu", ["age", "hr", "name"])
        await add_rules(house, "clinic", RULES)

    run(arrange())
    return house


def kinds(house: House, start: int) -> list[EventKind]:
    return [event.kind for event in house.journal.read(start) if event.kind != "TenantHeads"]


def test_what_is_unseen_and_what_is_not_there_answer_alike(shared: House) -> None:
    words = []
    for name in ("clinic/icu", "clinic/nothing"):
        for act in (
            request_access.check(shared, STRANGER, Ask(dataset=name, purpose="research")),
            describe.classify(shared, STRANGER, request_access.DatasetRef.parse(name), {"a": []}),
        ):
            with pytest.raises(NotFound) as caught:
                run(act)
            words.append(caught.value.message.replace(name, "X"))
    assert len(set(words)) == 1


def test_a_tenant_that_is_not_there_denies_like_one_of_strangers(shared: House) -> None:
    wanted = W.RegistrationRequest(dataset="clinic/new", files=(W.SourceFile(name="f", bytes=1),))
    told = []
    for tenant in ("clinic", "ghost"):
        start = shared.journal.durable_size
        for act in (
            uploads.begin(shared, STRANGER, replace(wanted, dataset=f"{tenant}/new")),
            publish.current(shared, STRANGER, tenant),
        ):
            with pytest.raises(AccessDenied) as caught:
                run(act)
            told.append((caught.value.message, caught.value.decision, caught.value.advice))
        assert len(kinds(shared, start)) == 2
    assert len(set(told)) == 1


def test_a_stranger_sees_nothing_and_every_denial_is_recorded(shared: House) -> None:
    start = shared.journal.durable_size
    assert run(describe.datasets(shared, STRANGER)) == []
    with pytest.raises(NotFound):
        run(request_access.request_grant(shared, STRANGER, ASK))
    assert kinds(shared, start) == [EventKind.AccessDecided]


def test_asking_for_what_is_not_there_is_recorded_too(shared: House) -> None:
    start = shared.journal.durable_size
    with pytest.raises(NotFound):
        run(request_access.check(shared, STRANGER, Ask(dataset="clinic/nothing", purpose="safety")))
    assert kinds(shared, start) == [EventKind.RequestRefused]


def test_strangers_cannot_fill_the_journal(shared: House) -> None:
    async def knock() -> None:
        for _ in range(100):
            await refusals.record_stranger(shared, "/v1", "not-authenticated")

    start, shared.now = shared.journal.durable_size, lambda: 2e9
    run(knock())
    assert kinds(shared, start) == [EventKind.RequestRefused] * refusals.PER_SECOND_MAX
    assert shared.strangers.left_out == 100 - refusals.PER_SECOND_MAX


def test_another_purpose_is_denied_with_what_would_have_to_change(shared: House) -> None:
    ask = Ask(dataset="clinic/icu", purpose="marketing")
    with pytest.raises(AccessDenied) as caught:
        run(request_access.request_grant(shared, TRAINER, ask))
    assert "health-research" in caught.value.advice
    assert caught.value.decision is not None
    assert shared.catalog.decision(caught.value.decision).effect == "deny"


def test_an_allowed_ask_becomes_a_grant_of_exactly_the_plan(shared: House) -> None:
    decision, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    assert grant.decision == decision.id
    assert [(c.name, c.mask) for c in grant.plan.columns] == [("age", "x-bucket:10"), ("hr", None)]
    assert shared.journal.durable_size > 0
    assert shared.catalog.grant(grant.id).plan.digest == grant.plan.digest


def test_all_ranks_of_one_run_share_one_grant(shared: House) -> None:
    ask = Ask(dataset="clinic/icu", purpose="health-research", run="epoch-7")
    grants = {run(request_access.request_grant(shared, TRAINER, ask))[1].id for _ in range(3)}
    assert len(grants) == 1


def test_a_run_of_another_tenant_cannot_be_named(shared: House) -> None:
    ask = Ask(dataset="clinic/icu", purpose="health-research", run="clinic:theirs")
    with pytest.raises(InvalidInput):
        run(request_access.request_grant(shared, TRAINER, ask))


def test_check_makes_no_grant(shared: House) -> None:
    decision = run(request_access.check(shared, TRAINER, ASK))
    assert decision.is_allowed
    assert shared.catalog.grants(owner="clinic") == []


def test_a_suspended_or_unknown_action_is_not_a_data_action(shared: House) -> None:
    with pytest.raises(InvalidInput):
        run(request_access.check(shared, TRAINER, Ask(dataset="clinic/icu", action="operate")))


def test_only_the_owner_classifies_and_it_raises_the_epoch(shared: House) -> None:
    before = shared.catalog.policy_epoch
    ref = request_access.DatasetRef.parse("clinic/icu")
    with pytest.raises(AccessDenied):
        run(describe.classify(shared, TRAINER, ref, {"age": ["pii"]}))
    assert shared.catalog.policy_epoch == before
    run(describe.classify(shared, OWNER, ref, {"age": ["pii.indirect"]}))
    assert shared.catalog.policy_epoch == before + 1


def test_revoking_needs_a_selection_and_the_right(shared: House) -> None:
    _, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    for who, selector, error in (
        (OWNER, Selector(), InvalidInput),
        (STRANGER, Selector(grant=grant.id), NotFound),
        (STRANGER, Selector(dataset="clinic/icu"), NotFound),
    ):
        with pytest.raises(error):
            run(revoke.revoke(shared, who, selector, "no"))
    assert not shared.catalog.grant(grant.id).revoked


def test_the_owner_takes_back_and_the_epoch_rises(shared: House) -> None:
    _, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    before = shared.catalog.policy_epoch
    done = run(revoke.revoke(shared, OWNER, Selector(subject="startup/ml"), "contract ended"))
    assert (done.grants, done.streams_stopped) == ((grant.id,), 0)
    assert shared.catalog.policy_epoch == before + 1


def test_a_revoked_or_expired_grant_gives_no_token(shared: House) -> None:
    _, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    subject = TRAINER.subject
    assert down_scope.own_grant(shared, subject, grant.id).id == grant.id
    shared.now = lambda: grant.expires_at
    with pytest.raises(LeaseExpired):
        down_scope.own_grant(shared, subject, grant.id)
    shared.now = time.time
    run(revoke.revoke(shared, OWNER, Selector(grant=grant.id), "contract ended"))
    with pytest.raises(LeaseRevoked):
        down_scope.own_grant(shared, subject, grant.id)


def test_only_operators_add_tenants(shared: House) -> None:
    wanted = W.TenantRequest(tenant="newcomer")
    for who in (OWNER, STRANGER):
        with pytest.raises((AccessDenied, NotFound)):
            run(tenants.add_tenant(shared, who, wanted))
    run(tenants.add_tenant(shared, OPERATOR, wanted))
    assert shared.catalog.tenant("newcomer").name == "newcomer"


def test_operators_get_no_data(shared: House) -> None:
    with pytest.raises(AccessDenied, match="no rule permits"):
        run(request_access.request_grant(shared, OPERATOR, ASK))


def test_a_role_named_by_another_tenant_is_not_ours(shared: House) -> None:
    impostor = caller("rival", "ml", "trainer")
    with pytest.raises(NotFound):
        run(request_access.request_grant(shared, impostor, ASK))


def test_a_wrong_bundle_is_refused_and_the_old_one_stays(shared: House) -> None:
    before = shared.catalog.bundle("clinic")
    with pytest.raises(InvalidInput):
        run(publish.publish(shared, OWNER, "clinic", {"x.yaml": "rules: [ {id: 1} ]"}, None))
    assert shared.catalog.bundle("clinic") == before


def test_rules_that_nobody_could_ever_change_are_refused(shared: House) -> None:
    before = shared.catalog.bundle("clinic")
    with pytest.raises(InvalidInput, match="nobody of `clinic` could publish") as refused:
        run(publish.publish(shared, OWNER, "clinic", {"icu.yaml": RULES}, None))
    assert "--dir" in refused.value.advice
    wanted = W.TrialRequest(files={"icu.yaml": RULES}, parts=("lint",))
    (problem,) = run(trial.trial(shared, OWNER, "clinic", wanted)).problems
    assert "nobody of `clinic` could publish" in problem.message
    assert shared.catalog.bundle("clinic") == before


def test_locked_data_leaves_only_for_a_region_that_the_rule_believes(shared: House) -> None:
    lock = "    accepts: [recipient]\n    obligations: {region_lock: 'eu, ch'}\n"
    run(add_rules(shared, "clinic", RULES + lock))

    def inside(region: str) -> Caller:
        attributes = {"region": region}
        return replace(TRAINER, subject=replace(TRAINER.subject, attributes=attributes))

    for who in (TRAINER, inside("us")):
        with pytest.raises(AccessDenied) as caught:
            run(request_access.request_grant(shared, who, ASK))
        assert caught.value.facts["reasons"] == ["region-locked"]
    _, grant = run(request_access.request_grant(shared, inside("ch"), ASK))
    assert grant.plan.obligations == (("region_lock", "eu, ch"),)
    recorded = [e.facts["region"] for e in shared.journal.read(0) if e.kind == "AccessDecided"]
    assert recorded == [None, "us", "ch"]


def test_a_clock_behind_the_journal_denies(shared: House) -> None:
    shared.now = lambda: 1_000_000.0
    with pytest.raises(Unavailable, match="clock"):
        run(request_access.check(shared, TRAINER, ASK))


def test_everything_survives_a_restart(shared: House, settings: Settings) -> None:
    _, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    epoch, judge = shared.catalog.policy_epoch, shared.judge.digest
    run(bootstrap.close(shared))
    again = open_house(settings)
    try:
        assert again.catalog.grant(grant.id) == grant
        assert again.catalog.policy_epoch == epoch
        assert again.judge.digest == judge
    finally:
        again.journal.close()


def test_an_edited_bundle_file_is_not_obeyed(shared: House) -> None:
    digest = shared.catalog.bundle("clinic")
    path = shared.places.bundles / f"{digest}.json"
    path.write_text(path.read_text().replace("health-research", "marketing"))
    with pytest.raises(Exception, match="not the recorded one"):
        publish.load(shared, "clinic")


def test_single_shards_are_refused_and_not_granted_as_all() -> None:
    with pytest.raises(InvalidInput, match="one by one"):
        W.AccessAsk(dataset="clinic/icu", shards=(0, 2))
    with pytest.raises(InvalidInput, match="one by one"):
        W.AuthorizationDetail(type="dataset_access", dataset="clinic/icu", shards=(0, 2))
