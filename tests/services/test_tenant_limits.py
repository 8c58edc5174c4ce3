"""Limits of a tenant hold over tokens, grants, ranks and restarts; who hits one is told which."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pyarrow as pa
import pytest

from gateway import bootstrap
from gateway.config import Settings
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant, OrderSpec
from gateway.domain.tenant import DAY_SECONDS
from gateway.errors import LeaseExpired, LimitExceeded, NotAuthenticated
from gateway.services import limits, rates, request_access, stream, tenant_limits, tenants, uploads
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.wire import RegistrationRequest, SourceFile, TenantChanges
from tests.services.conftest import open_house
from tests.services.registrations import registered
from tests.services.simulator import add_rules, add_version, caller
from tests.services.test_access import ASK, OWNER, RULES, STRANGER, TRAINER, kinds, run, shared
from tests.services.test_down_scope import grant_of
from tests.services.test_exchange import Job
from tests.services.test_limits import begun, intended
from tests.services.test_tenants import change

__all__ = ["shared"]
NOON = time.time() // DAY_SECONDS * DAY_SECONDS + 1.5 * DAY_SECONDS  # of tomorrow


@pytest.fixture
def noon(shared: House) -> House:
    """A day that does not end while a test runs; the journal has the house's clock."""
    shared.now = lambda: NOON
    setup = shared.journal._setup
    shared.journal._setup = dataclasses.replace(setup, now=lambda: shared.now())  # noqa: PLW0108 - it changes
    return shared


def record(house: House, of: Grant, kind: EventKind, /, **facts: object) -> None:
    house.record(
        EventDraft(
            kind=kind,
            owner_tenant=of.owner_tenant,
            actor_tenant=of.subject_tenant,
            actor=of.subject,
            facts=facts,
        )
    )


def sent(house: House, grant: Grant, lease: str, size: int) -> None:
    facts = {"lease": lease, "grant": grant.id, "first": 0, "last": 0, "rows": 1, "bytes": size}
    record(house, grant, EventKind.SegmentIntent, **facts)


def used(house: House, tenant: str = "startup") -> int:
    return tenant_limits.bytes_today(house, tenant)


def test_a_tenant_has_no_more_streams_open_than_its_limit(shared: House) -> None:
    change(shared, "startup", TenantChanges(max_streams=2))
    grants = [grant_of(shared, dataclasses.replace(ASK, run=name)) for name in ("a", "b")]
    leases = [begun(shared, grant, OrderSpec()) for grant in grants]
    for grant in grants:
        with pytest.raises(LimitExceeded) as caught:
            limits.require_room(shared, grant, OrderSpec())
        facts = caught.value.facts
        assert (facts["limit"], facts["raised_by"]) == ("max_streams", "operator")
        assert "--max-streams N" in caught.value.advice
    tenant_limits.require_stream(shared, "clinic")
    record(shared, grants[0], EventKind.LeaseClosed, lease=leases[0], reason_code="returned")
    limits.require_room(shared, grants[1], OrderSpec())


def test_a_stream_whose_time_is_up_takes_no_place_from_that_second_on(noon: House) -> None:
    change(noon, "startup", TenantChanges(max_streams=1))
    grant = grant_of(noon, ASK)
    lease = begun(noon, grant, OrderSpec())
    end, epoch = int(NOON) + 60, noon.catalog.policy_epoch
    record(noon, grant, EventKind.LeaseRenewed, lease=lease, expires_at=end, policy_epoch=epoch)
    noon.now = lambda: end - 0.001
    with pytest.raises(LimitExceeded):
        limits.require_room(noon, grant, OrderSpec())
    noon.now = lambda: float(end)
    limits.require_room(noon, grant, OrderSpec())
    with pytest.raises(LeaseExpired):  # its place may be another's: it does not come back
        run(stream.renew(noon, TRAINER, lease))


def test_bytes_of_a_day_count_over_grants_and_datasets(noon: House) -> None:
    add_version(noon, "clinic", "lab", ["age", "hr"])
    run(add_rules(noon, "clinic", RULES + RULES.partition("rules:")[2].replace("icu", "lab")))
    change(noon, "startup", TenantChanges(max_bytes=100))
    one, two = (grant_of(noon, dataclasses.replace(ASK, run=name)) for name in ("a", "b"))
    sent(noon, one, begun(noon, one, OrderSpec()), 60)
    limits.require_budget(noon, two, 1, 40)
    sent(noon, two, begun(noon, two, OrderSpec()), 40)
    other = grant_of(noon, Ask(dataset="clinic/lab", purpose="health-research"))
    for grant in (one, two, other):
        with pytest.raises(LimitExceeded) as caught:
            limits.require_budget(noon, grant, 1, 1)
        facts = caught.value.facts
        assert (facts["limit"], facts["raised_by"]) == ("max_bytes", "operator")
        assert facts["retry_after_seconds"] == DAY_SECONDS / 2
    assert used(noon, "clinic") == 0
    noon.now = lambda: NOON + DAY_SECONDS / 2
    limits.require_budget(noon, one, 1, 100)


def test_only_what_was_charged_on_a_day_is_given_back_on_it(noon: House) -> None:
    grant = grant_of(noon, ASK)
    first, second = (begun(noon, grant, OrderSpec(seed=seed)) for seed in (1, 2))
    for lease in (first, second):
        sent(noon, grant, lease, 50)
    record(noon, grant, EventKind.LeaseClosed, lease=first, reason_code="returned")
    assert used(noon) == 50
    noon.now = lambda: NOON + DAY_SECONDS
    third = begun(noon, grant, OrderSpec(seed=3))
    sent(noon, grant, third, 7)
    record(noon, grant, EventKind.LeaseClosed, lease=second, reason_code="returned")
    assert used(noon) == 7
    confirmed = {"segments": [0], "rows": 1, "bytes": 50}
    record(noon, grant, EventKind.SegmentsConfirmed, lease=second, **confirmed)
    assert used(noon) == 57, "it was released after all"


@pytest.mark.parametrize("is_killed", [True, False])
def test_no_restart_forgets_budgets(shared: House, settings: Settings, *, is_killed: bool) -> None:
    change(shared, "startup", TenantChanges(max_bytes=10**6))
    ask = dataclasses.replace(ASK, limits=request_access.Limits(max_rows=100, max_bytes=500))
    grant = grant_of(shared, ask)
    intended(shared, grant, begun(shared, grant, OrderSpec()), rows=90)
    before = used(shared)
    if is_killed:  # no snapshot: everything comes from the journal
        run(shared.settled())
        shared.journal.close()
    else:
        run(bootstrap.close(shared))
    again = open_house(settings)
    try:
        limits.require_budget(again, again.catalog.grant(grant.id), 10, 8)
        with pytest.raises(LimitExceeded):
            limits.require_budget(again, again.catalog.grant(grant.id), 11, 8)
        assert used(again) == before > 0
    finally:
        again.journal.close()


def test_what_comes_again_after_a_crash_needs_no_budget(shared: House) -> None:
    ask = dataclasses.replace(ASK, limits=request_access.Limits(max_rows=90))
    grant = grant_of(shared, ask)
    lost = begun(shared, grant, OrderSpec())
    intended(shared, grant, lost, rows=90)
    record(shared, grant, EventKind.LeaseClosed, lease=lost, reason_code="lost")
    lease = begun(shared, grant, OrderSpec())
    shared.workers._held[lease] = 0
    assert run(shared.workers.intent(lease, 0, 0, 90, 8))
    with pytest.raises(LimitExceeded, match="max_rows"):
        run(shared.workers.intent(lease, 1, 1, 1, 8))


def test_a_minute_has_a_last_request_and_one_record_of_it(shared: House) -> None:
    change(shared, "startup", TenantChanges(requests_per_minute=10))
    shared.now = lambda: 600.0
    start = shared.journal.durable_size
    mate = caller("startup", "boss", "owner")

    def count(who: Caller, times: int) -> None:
        for _ in range(times):
            run(rates.count(shared, who.subject, "/v1"))

    count(TRAINER, 5)
    for _ in range(3):
        with pytest.raises(LimitExceeded, match="`startup/ml` half of them") as caught:
            count(TRAINER, 1)
        assert caught.value.facts["limit"] == "requests_per_minute"
        assert caught.value.facts["retry_after_seconds"] == 60
    assert kinds(shared, start) == [EventKind.RequestRefused]
    count(mate, 5)  # what one of them uses up is not the others'
    count(STRANGER, 50)
    shared.now = lambda: 659.9
    with pytest.raises(LimitExceeded):
        count(mate, 1)
    shared.now = lambda: 660.0
    count(mate, 1)


def test_a_limit_that_sinks_within_a_minute_is_recorded_too(shared: House) -> None:
    present = shared.now()
    shared.now = lambda: present
    for _ in range(9):
        run(rates.count(shared, TRAINER.subject, "/v1"))
    change(shared, "startup", TenantChanges(requests_per_minute=4))
    start = shared.journal.durable_size
    for _ in range(2):
        with pytest.raises(LimitExceeded):
            run(rates.count(shared, TRAINER.subject, "/v1"))
    assert kinds(shared, start) == [EventKind.RequestRefused]


def test_requests_with_somebody_elses_name_count_for_nobody(shared: House, tmp_path: Path) -> None:
    job = Job(shared, tmp_path)
    token = job.api_token()
    change(shared, "startup", TenantChanges(requests_per_minute=4))
    shared.rates.taken.clear()
    shared.rates.minute = int(shared.now()) // 60
    for _ in range(8):
        with pytest.raises(NotAuthenticated):
            job.call("/v1/whoami", token[:-4] + "AAAA")
    assert shared.rates.taken == {}
    job.call("/v1/whoami", token)
    assert shared.rates.taken == {"startup/job": 1, "startup": 1}
    job.api_token()
    assert shared.rates.taken["startup"] == 2
    with pytest.raises(LimitExceeded):
        job.api_token()


def test_stored_bytes_count_a_shard_once_and_are_refused_before_they_are_stored(
    shared: House,
) -> None:
    table = pa.table({"n": list(range(500))})

    def register(*, append: bool) -> None:
        async def act() -> None:
            await registered(shared, OWNER, "clinic/n", table, append=append)

        run(act())

    register(append=False)
    one = run(tenant_limits.stored_bytes(shared, "clinic")) - 100  # of `icu`, in name only
    register(append=True)
    shown = run(tenants.show(shared, OWNER, "clinic"))
    assert shown.stored_bytes == 2 * one + 100
    change(shared, "clinic", TenantChanges(max_stored_bytes=3 * one + 99))
    before = set(shared.settings.state_dir.rglob("*.parquet"))
    start = shared.journal.durable_size
    with pytest.raises(LimitExceeded) as caught:
        register(append=True)
    assert (caught.value.facts["limit"], caught.value.facts["raised_by"]) == (
        "max_stored_bytes",
        "operator",
    )
    assert set(shared.settings.state_dir.rglob("*.parquet")) == before
    assert kinds(shared, start) == [EventKind.RequestRefused]
    change(shared, "clinic", TenantChanges(max_stored_bytes=3 * one + 100))
    register(append=True)
    wanted = RegistrationRequest(dataset="clinic/m", files=(SourceFile(name="f", bytes=1),))
    with pytest.raises(LimitExceeded):
        run(uploads.begin(shared, OWNER, wanted))
