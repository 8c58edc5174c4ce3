"""An identity is ended by its owner or an operator: its keys, tokens and leases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import gateway.wire as W
from gateway.crypto.tokens import IdentityKey
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, Conflict, InvalidInput, NotAuthenticated, NotFound
from gateway.services import tenants
from gateway.services.house import House
from tests.services.test_access import OWNER, STRANGER, TRAINER, caller, kinds, run, shared
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
                run(tenants.change_identity(job.gateway.house, who, "startup", change))
            words.append(caught.value.message)
    assert len(set(words)) == 1
    job.call("/v1/whoami", job.api_token())


def test_a_trainer_ends_nobody(job: Job) -> None:
    trainer = caller("startup", "ml", "trainer")
    with pytest.raises(AccessDenied):
        run(tenants.change_identity(job.gateway.house, trainer, "startup", END))
    job.call("/v1/whoami", job.api_token())


def test_a_disabled_identity_gets_no_token_and_its_tokens_are_refused(job: Job) -> None:
    house = job.gateway.house
    held = [job.api_token(), job.dataset_token()]
    epoch = house.catalog.policy_epoch
    ended = run(tenants.change_identity(house, BOSS, "startup", END))
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
    first = run(tenants.change_identity(house, BOSS, "startup", END))
    assert run(tenants.change_identity(house, BOSS, "startup", END)) == first
    assert kinds(house, start).count(EventKind.IdentityDisabled) == 1


def test_nobody_ends_himself_and_nobody_is_brought_back(job: Job) -> None:
    house = job.gateway.house
    with pytest.raises(NotFound):
        run(tenants.change_identity(house, BOSS, "startup", W.IdentityChange(
            identity="nobody", disabled=True)))  # fmt: skip
    me = caller("startup", "job", "owner")
    with pytest.raises(InvalidInput, match="yourself"):
        run(tenants.change_identity(house, me, "startup", END))
    with pytest.raises(InvalidInput, match="stays so"):
        W.IdentityChange(identity="job", disabled=False)


def renewed(job: Job, path: Path) -> tuple[IdentityKey, W.IdentityChange]:
    key = IdentityKey.create(path, "startup/job")
    return key, W.IdentityChange(identity="job", public_key=key.public_text)


def test_only_owners_and_operators_renew_the_key_of_an_identity(job: Job, tmp_path: Path) -> None:
    house = job.gateway.house
    _, change = renewed(job, tmp_path / "next.json")
    for who, refused in ((OWNER, NotFound), (STRANGER, NotFound), (TRAINER, AccessDenied)):
        with pytest.raises(refused):
            run(tenants.change_identity(house, who, "startup", change))
    with pytest.raises(InvalidInput, match="either"):
        W.IdentityChange(identity="job", disabled=True, public_key=job.key.public_text)
    with pytest.raises(InvalidInput, match="either"):
        W.IdentityChange(identity="job")
    theirs = W.IdentityChange(identity="ml", public_key=job.key.public_text)
    with pytest.raises(Conflict, match="another identity"):
        run(tenants.change_identity(house, BOSS, "startup", theirs))
    assert job.api_token()


def test_the_old_key_and_what_was_had_with_it_are_refused_at_once(job: Job, tmp_path: Path) -> None:
    house, start = job.gateway.house, job.gateway.house.journal.durable_size
    held = [job.api_token(), job.dataset_token()]
    grant = job.call("/v1/leases", held[1], method="POST").grant
    key, change = renewed(job, tmp_path / "next.json")
    early = house.catalog.identity("startup/job")
    held.append(job.api_token())  # mostly in the second in which the key is renewed
    done = run(tenants.change_identity(house, BOSS, "startup", change))
    assert (done.identity, done.disabled, done.thumbprint) == ("startup/job", False, key.thumbprint)
    assert run(tenants.change_identity(house, BOSS, "startup", change)) == done, "asked again"
    assert kinds(house, start).count(EventKind.IdentityRotated) == 1
    for token in held:
        with pytest.raises(NotAuthenticated, match="renewed"):
            job.call("/v1/leases", token, method="POST")
    with pytest.raises(NotAuthenticated):
        job.api_token()
    job.key = key
    assert job.call("/v1/whoami", job.api_token()).subject.id == early.id
    assert not house.catalog.grant(grant).revoked, "its grants stay"


def test_an_identity_without_a_key_is_nobodys_who_comes_with_one(job: Job, tmp_path: Path) -> None:
    house = job.gateway.house
    wanted = W.IdentityRequest(identity="pod", type="job", roles=("trainer",))
    for name in ("pod", "pod2"):
        made = run(tenants.add_identity(house, BOSS, "startup", replace(wanted, identity=name)))
        assert made.thumbprint is None
    job.key = IdentityKey.create(tmp_path / "pod.json", "startup/pod")
    with pytest.raises(NotAuthenticated):
        job.api_token()
    assert house.identity_key("startup/pod") is None
