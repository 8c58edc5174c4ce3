"""Tokens after they were issued: who may look at one, and what ends with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.crypto.tokens import PARENTS_MAX, TOKEN_SECONDS_MAX
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, InvalidInput, LeaseRevoked, NotAuthenticated, NotFound
from gateway.services import issued_tokens, key_check, revoke
from gateway.services.exchange import GRANT_EXCHANGE
from gateway.services.house import House
from gateway.services.revoke import Selector
from tests.services.simulator import OPERATOR, caller
from tests.services.test_access import OWNER, STRANGER, kinds, run, shared
from tests.services.test_exchange import DETAIL, Job

__all__ = ["shared"]
INACTIVE = W.Introspection(active=False)
STARTUP_OWNER = caller("startup", "boss", "owner")
COLLEAGUE = caller("startup", "ml", "trainer")


@pytest.fixture
def job(shared: House, tmp_path: Path) -> Job:
    return Job(shared, tmp_path)


def exchanged(job: Job, token: str, **detail: Any) -> str:
    form = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": token,
        "authorization_details": json.dumps([{"type": "dataset_access", **detail}]),
    }
    return job.token(form).access_token


def told(house: House, who: Any, token: str) -> W.Introspection:
    found: W.Introspection = run(issued_tokens.introspect(house, who, token))
    return found


def test_whoever_has_no_business_with_a_token_hears_the_same_as_of_none(job: Job) -> None:
    house, token = job.gateway.house, job.dataset_token()
    start = house.journal.durable_size
    for who in (STRANGER, OWNER, COLLEAGUE):
        for text in (token, token[:-2] + "AA", "", "nonsense"):
            assert told(house, who, text) == INACTIVE
    assert set(kinds(house, start)) == {EventKind.RequestRefused}
    assert len(kinds(house, start)) == 12


def test_its_subject_its_tenants_owner_and_the_operator_see_what_it_opens(job: Job) -> None:
    house, token = job.gateway.house, job.dataset_token()
    me = job.call("/oauth/introspect", job.api_token(), method="POST")
    for who in (me, STARTUP_OWNER, OPERATOR):
        found = told(house, who, token)
        assert (found.active, found.sub, found.scope) == (True, "startup/job", "stream")
        assert found.cnf == {"jkt": job.dpop.thumbprint}
        assert found.authorization_details is not None
        (detail,) = found.authorization_details
        assert [column["name"] for column in detail["columns"]] == ["age", "hr"]
    assert told(house, me, job.api_token()).scope == "api"


def test_a_dataset_token_may_ask_about_its_own_subject_only(job: Job) -> None:
    house, token = job.gateway.house, job.dataset_token()
    itself = job.call("/oauth/introspect", token, method="POST")
    assert told(house, itself, token).active
    with_grant = caller("startup", "boss", "owner")
    object.__setattr__(with_grant, "grant", itself.grant)
    assert told(house, with_grant, token) == INACTIVE


def test_a_token_whose_grant_ended_is_inactive(job: Job) -> None:
    house, token = job.gateway.house, job.dataset_token()
    grant = job.call("/v1/leases", token, method="POST").grant
    assert told(house, STARTUP_OWNER, token).active
    run(revoke.revoke(house, OWNER, Selector(grant=grant), "over"))
    assert told(house, STARTUP_OWNER, token) == INACTIVE


def test_tokens_end_with_the_token_that_they_were_had_for(job: Job) -> None:
    house, api = job.gateway.house, job.api_token()
    wide = exchanged(job, api, **DETAIL)
    grant = job.call("/v1/leases", wide, method="POST").grant
    narrow = exchanged(job, wide, parent=grant, columns=["hr"])
    other = exchanged(job, job.api_token(), grant=grant)
    run(job.gateway.revoke_token(job.call("/oauth/revoke", api, method="POST"), api))
    for token in (api, wide, narrow):
        assert told(house, STARTUP_OWNER, token) == INACTIVE
        with pytest.raises(NotAuthenticated, match="revoked"):
            job.call("/v1/leases", token, method="POST")
    assert told(house, STARTUP_OWNER, other).active, "one of its own proof stays"


def test_grants_cut_with_a_token_end_with_it_and_its_own_stays(job: Job) -> None:
    house, wide = job.gateway.house, job.dataset_token()
    grant = job.call("/v1/leases", wide, method="POST").grant
    narrow = exchanged(job, wide, parent=grant, columns=["hr"])
    child = job.call("/v1/leases", narrow, method="POST").grant
    again = exchanged(job, job.api_token(), grant=child)
    run(job.gateway.revoke_token(job.call("/oauth/revoke", wide, method="POST"), wide))
    assert house.catalog.grant(child).revoked
    assert not house.catalog.grant(grant).revoked
    assert told(house, STARTUP_OWNER, again) == INACTIVE
    with pytest.raises(LeaseRevoked):
        exchanged(job, job.api_token(), grant=child)
    assert exchanged(job, job.api_token(), grant=grant)


def test_a_token_that_outlives_its_revoked_parent_stays_dead(job: Job) -> None:
    house, api = job.gateway.house, job.api_token()
    begun = house.now()
    late = begun + TOKEN_SECONDS_MAX - 5
    house.now = lambda: late
    job.now = lambda: late
    wide = exchanged(job, api, **DETAIL)
    run(job.gateway.revoke_token(job.call("/oauth/revoke", api, method="POST"), api))
    later = late + 60
    house.now = lambda: later
    job.now = lambda: later
    for _ in range(2):  # what ran out is forgotten when the next one is revoked
        another = job.api_token()
        run(job.gateway.revoke_token(job.call("/oauth/revoke", another, method="POST"), another))
    with pytest.raises(NotAuthenticated, match="revoked"):
        job.call("/v1/leases", wide, method="POST")


def test_a_dataset_token_is_exchanged_for_no_more_than_its_grant(job: Job) -> None:
    token = job.dataset_token()
    grant = job.call("/v1/leases", token, method="POST").grant
    narrow = exchanged(job, token, parent=grant, columns=["hr"])
    child = job.call("/v1/leases", narrow, method="POST").grant
    start = job.gateway.house.journal.durable_size
    for detail in (DETAIL, {"grant": grant}, {"parent": grant}, {"grant": "grant_none"}):
        with pytest.raises(AccessDenied, match="its own grant"):
            exchanged(job, narrow, **detail)
    assert kinds(job.gateway.house, start) == [EventKind.RequestRefused] * 4
    for detail in ({"grant": child}, {"parent": child}):
        assert exchanged(job, narrow, **detail)


def test_a_token_is_not_exchanged_without_end(job: Job) -> None:
    token = job.dataset_token()
    grant = job.call("/v1/leases", token, method="POST").grant
    for _ in range(PARENTS_MAX - 1):
        token = exchanged(job, token, grant=grant)
    with pytest.raises(InvalidInput, match="exchanged at most"):
        exchanged(job, token, grant=grant)


def test_nobody_ends_the_token_of_another(job: Job) -> None:
    house, token = job.gateway.house, job.dataset_token()
    for who in (STRANGER, OWNER, COLLEAGUE):
        run(issued_tokens.revoke_token(house, who, token))
    assert told(house, STARTUP_OWNER, token).active
    with pytest.raises(NotFound):
        house.catalog.grant("grant_none")


def test_a_token_that_is_revoked_while_it_is_exchanged_leaves_nothing_behind(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, wide = job.gateway.house, job.dataset_token()
    caller_ = job.call("/oauth/revoke", wide, method="POST")
    look = key_check.trouble

    async def revoked_meanwhile(*given: Any) -> Any:
        await job.gateway.revoke_token(caller_, wide)
        return await look(*given)

    monkeypatch.setattr(key_check, "trouble", revoked_meanwhile)
    start = house.journal.durable_size
    with pytest.raises(NotAuthenticated, match="revoked"):
        exchanged(job, wide, parent=caller_.grant, columns=["hr"])
    made = [grant for grant in house.catalog.grants() if grant.parent == caller_.grant]
    assert [grant.revoked for grant in made] == [True]
    assert EventKind.TokenIssued not in kinds(house, start)
