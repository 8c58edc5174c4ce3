"""An identity is ended by its owner or an operator: its keys, tokens and leases."""

from __future__ import annotations

from pathlib import Path

import pytest

import gateway.wire as W
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, InvalidInput, NotAuthenticated, NotFound
from gateway.services import tenants
from gateway.services.house import House
from tests.services.test_access import OWNER, STRANGER, caller, kinds, run, shared
from tests.services.test_exchange import Job

__all__ = ["shared"]
BOSS = caller("startup", "boss", "owner")
END = W.IdentityChange(identity="job", disabled=True)


@pytest.fixture
def job(shared: House, tmp_path: Path) -> Job:
    return Job(shared, tmp_path)


def test_nobody_of_another_tenant_ends_an_identity_or_learns_of_it(job: Job) -> None:
    words = []
    for who in (OWNER, STRANGER):
        for name in ("job", "nobody"):
            change = W.IdentityChange(identity=name, disabled=True)
            with pytest.raises(NotFound) as caught:
                run(tenants.disable_identity(job.gateway.house, who, "startup", change))
            words.append(caught.value.message)
    assert len(set(words)) == 1
    job.call("/v1/whoami", job.api_token())


def test_a_trainer_ends_nobody(job: Job) -> None:
    trainer = caller("startup", "ml", "trainer")
    with pytest.raises(AccessDenied):
        run(tenants.disable_identity(job.gateway.house, trainer, "startup", END))
    job.call("/v1/whoami", job.api_token())


def test_a_disabled_identity_gets_no_token_and_its_tokens_are_refused(job: Job) -> None:
    house = job.gateway.house
    held = [job.api_token(), job.dataset_token()]
    epoch = house.catalog.policy_epoch
    ended = run(tenants.disable_identity(house, BOSS, "startup", END))
    assert (ended.identity, ended.disabled, ended.streams_stopped) == ("startup/job", True, 0)
    assert house.catalog.policy_epoch > epoch, "running streams are judged again"
    for token in held:
        with pytest.raises(NotAuthenticated):
            job.call("/v1/leases", token)
    with pytest.raises(NotAuthenticated):
        job.api_token()


def test_disabling_again_is_answered_and_recorded_once(job: Job) -> None:
    house = job.gateway.house
    start = house.journal.durable_size
    first = run(tenants.disable_identity(house, BOSS, "startup", END))
    assert run(tenants.disable_identity(house, BOSS, "startup", END)) == first
    assert kinds(house, start).count(EventKind.IdentityDisabled) == 1


def test_nobody_ends_himself_and_nobody_is_brought_back(job: Job) -> None:
    house = job.gateway.house
    with pytest.raises(NotFound):
        run(tenants.disable_identity(house, BOSS, "startup", W.IdentityChange(
            identity="nobody", disabled=True)))  # fmt: skip
    me = caller("startup", "job", "owner")
    with pytest.raises(InvalidInput, match="yourself"):
        run(tenants.disable_identity(house, me, "startup", END))
    with pytest.raises(InvalidInput, match="stays so"):
        W.IdentityChange(identity="job", disabled=False)
