"""An operator bounds and suspends tenants: who may, what dies with it, and what comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import gateway.wire as W
from gateway.config import Settings
from gateway.crypto.tokens import IdentityKey
from gateway.domain.events import EventKind
from gateway.domain.lease import OrderSpec
from gateway.domain.tenant import TenantLimits
from gateway.errors import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    TenantSuspended,
)
from gateway.services import request_access, stream, subjects, tenants
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.services.update_tenant import update_tenant
from gateway.wire import TenantChanges
from tests.services.conftest import open_house
from tests.services.simulator import OPERATOR, caller
from tests.services.test_access import ASK, OWNER, STRANGER, TRAINER, kinds, run, shared
from tests.services.test_down_scope import grant_of
from tests.services.test_exchange import Job
from tests.services.test_limits import begun

__all__ = ["shared"]
SUSPEND = TenantChanges(suspended=True, reason="the contract of Mrs. Smith ended")
RESUME = TenantChanges(suspended=False)


def change(
    house: House, tenant: str, wanted: TenantChanges, who: Caller = OPERATOR
) -> W.TenantView:
    view: W.TenantView = run(update_tenant(house, who, tenant, wanted))
    return view


@pytest.fixture
def job(shared: House, tmp_path: Path) -> Job:
    return Job(shared, tmp_path)


def test_nobody_but_an_operator_changes_a_tenant_or_learns_of_others(shared: House) -> None:
    words = set()
    for tenant in ("startup", "ghost"):
        start = shared.journal.durable_size
        for wanted in (SUSPEND, TenantChanges(max_streams=0)):
            with pytest.raises(NotFound) as caught:
                change(shared, tenant, wanted, STRANGER)
            words.add(caught.value.message.replace(tenant, "X"))
        assert kinds(shared, start) == [EventKind.RequestRefused] * 2
    assert len(words) == 1
    for wanted in (SUSPEND, TenantChanges(max_streams=10**6)):
        with pytest.raises(AccessDenied):
            change(shared, "clinic", wanted, OWNER)  # not its own either
    assert shared.catalog.tenant("clinic").limits == TenantLimits()
    with pytest.raises(NotFound):
        change(shared, "ghost", SUSPEND)


@pytest.mark.parametrize(
    "wanted",
    [
        TenantChanges(),
        TenantChanges(reason="only why"),
        TenantChanges(max_streams=-1),
        TenantChanges(max_bytes=1, lift=("max_bytes",)),
        TenantChanges(lift=("max_rows",)),
        TenantChanges(suspended=True, reason="two\nlines"),
    ],
)
def test_what_changes_nothing_or_cannot_be_is_refused(shared: House, wanted: TenantChanges) -> None:
    start = shared.journal.durable_size
    with pytest.raises(InvalidInput):
        change(shared, "startup", wanted)
    assert kinds(shared, start) == []


@pytest.mark.parametrize("wanted", [SUSPEND, TenantChanges(requests_per_minute=0)])
def test_operators_do_not_lock_themselves_out(shared: House, wanted: TenantChanges) -> None:
    with pytest.raises(InvalidInput, match="nobody could undo it"):
        change(shared, "platform", wanted)


def test_all_that_a_suspended_tenant_holds_opens_nothing(job: Job) -> None:
    house = job.gateway.house
    held = [job.api_token(), job.dataset_token()]
    mine = Caller(subject=subjects.subject_of(house, "startup/job"), jti="j")
    _, grant = run(request_access.request_grant(house, mine, ASK))
    lease = house.catalog.lease(begun(house, grant, OrderSpec()))
    epoch = house.catalog.policy_epoch
    said = change(house, "startup", SUSPEND)
    assert (said.suspended, said.streams_stopped, said.slowest_ms) == (True, 0, 0.0)
    assert house.catalog.policy_epoch > epoch, "running streams are judged again"
    with pytest.raises(TenantSuspended):
        stream.judge_lease(house, lease)
    for token in held:
        with pytest.raises(NotAuthenticated, match="`startup` is suspended"):
            job.call("/v1/leases", token)
    for ask in (job.api_token, job.dataset_token):
        with pytest.raises(NotAuthenticated, match="`startup` is suspended"):
            ask()
    assert change(house, "startup", RESUME).suspended is False
    for token in held:
        job.call("/v1/leases", token)
    stream.judge_lease(house, lease)
    assert not house.catalog.grant(grant.id).revoked


def test_that_a_tenant_is_suspended_is_told_to_nobody_without_its_key(
    job: Job, tmp_path: Path
) -> None:
    change(job.gateway.house, "startup", SUSPEND)
    job.key = IdentityKey.create(tmp_path / "thief.json", "startup/job")
    with pytest.raises(NotAuthenticated) as caught:
        job.api_token()
    assert "suspended" not in caught.value.message


def test_nothing_of_a_suspended_owner_is_released_to_others(shared: House) -> None:
    grant = grant_of(shared, ASK)
    lease = shared.catalog.lease(begun(shared, grant, OrderSpec()))
    change(shared, "clinic", SUSPEND)
    with pytest.raises(AccessDenied, match="suspended"):
        run(request_access.request_grant(shared, TRAINER, ASK))
    with pytest.raises(AccessDenied, match="suspended"):
        stream.judge_lease(shared, lease)
    change(shared, "startup", SUSPEND)  # of both, the recipient hears what it can act on
    with pytest.raises(TenantSuspended):
        stream.judge_lease(shared, lease)
    change(shared, "startup", RESUME)
    change(shared, "clinic", RESUME)
    assert stream.judge_lease(shared, lease) == shared.catalog.policy_epoch


def test_a_change_sent_again_is_recorded_once_and_why_is_sealed(shared: House) -> None:
    start = shared.journal.durable_size
    for _ in range(2):
        change(shared, "startup", dataclasses.replace(SUSPEND, max_streams=3))
    found = list(shared.journal.read(start))
    assert kinds(shared, start) == [EventKind.TenantUpdated, EventKind.TenantSuspended]
    assert "Smith" not in str([event.envelope() for event in found])
    assert found[-2].details == {"reason": SUSPEND.reason}


def test_limits_are_set_one_by_one_lifted_and_kept_over_a_restart(
    shared: House, settings: Settings
) -> None:
    change(shared, "startup", TenantChanges(max_streams=4, max_bytes=10**12))
    change(shared, "startup", TenantChanges(max_stored_bytes=0))
    change(shared, "startup", TenantChanges(lift=("max_streams",)))
    wanted = TenantLimits(max_bytes=10**12, max_stored_bytes=0)
    assert shared.catalog.tenant("startup").limits == wanted
    shared.journal.close()
    again = open_house(settings)
    try:
        boss = caller("startup", "ml", "owner")
        view = run(tenants.view(again, boss, "startup"))
        assert (view.max_streams, view.max_bytes, view.max_stored_bytes) == (None, 10**12, 0)
    finally:
        again.journal.close()


def test_a_tenant_is_added_again_by_its_owners_key_only(house: House, tmp_path: Path) -> None:
    def add(key: IdentityKey | None) -> None:
        text = key.public_text if key else None
        run(
            tenants.add_tenant(
                house, OPERATOR, W.TenantRequest(tenant="lab", owner_public_key=text)
            )
        )

    key, other = (IdentityKey.create(tmp_path / name, "lab/owner") for name in ("a", "b"))
    add(key)
    boss = caller("lab", "owner", "owner")
    more = W.IdentityRequest(
        identity="ml", type="job", roles=("trainer",), public_key=other.public_text
    )
    run(tenants.add_identity(house, boss, "lab", more))  # it is in use
    start = house.journal.durable_size
    add(key)
    assert kinds(house, start) == []
    for wrong in (None, other):
        with pytest.raises(Conflict):
            add(wrong)
