"""A token for another key: only a part, and only if the key of the token states so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.crypto import delegations
from gateway.crypto.delegations import Place
from gateway.crypto.tokens import DpopKey, nonce_of
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, InvalidInput, NotAuthenticated
from gateway.services import issued_tokens
from gateway.services.exchange import GRANT_EXCHANGE
from gateway.services.house import House
from tests.services.test_access import run, shared
from tests.services.test_exchange import BASE, DETAIL, Job
from tests.services.test_issued_tokens import STARTUP_OWNER, exchanged

__all__ = ["shared"]
URN = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"


@pytest.fixture
def job(shared: House, tmp_path: Path) -> Job:
    return Job(shared, tmp_path)


def stated(job: Job, of: str, worker: DpopKey, detail: Any = DETAIL, **changed: Any) -> str:
    """What the key of the token `of` says; `changed` lies about one thing."""
    given = {
        "key": job.dpop,
        "token": of,
        "thumbprint": worker.thumbprint,
        "detail": detail,
        "place": Place(audience=BASE, nonce=job.gateway.house.nonce),
        "now": time.time,
    } | changed
    return delegations.delegate(**given)


def had(job: Job, token: str, worker: DpopKey, statement: str, **form: str) -> W.TokenResponse:
    given = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": token,
        "actor_token": statement,
        **form,
    }
    return job.token(given, worker)


def test_a_thief_of_a_token_cannot_state_anything_for_its_key(job: Job) -> None:
    mine, thief, other = job.api_token(), DpopKey(), DpopKey()
    lies: tuple[dict[str, Any], ...] = (
        {"key": thief},
        {"key": other},
        {"thumbprint": other.thumbprint},
        {"token": job.api_token()},
        {"place": Place(audience=BASE, nonce=nonce_of("before the restart"))},
        {"place": Place(audience="https://elsewhere", nonce=job.gateway.house.nonce)},
        {"now": lambda: time.time() - 3600},
        {"now": lambda: time.time() + 3600},
    )
    for lie in lies:
        with pytest.raises(NotAuthenticated):
            had(job, mine, thief, stated(job, mine, thief, **lie))
    nonce = job.gateway.house.nonce
    proof = job.dpop.proof("POST", f"{BASE}/oauth/token", now=time.time, nonce=nonce)
    for passed_off in (proof, job.key.assertion(BASE, time.time, thief.thumbprint), mine, ""):
        with pytest.raises(NotAuthenticated):
            had(job, mine, thief, passed_off)


def test_a_statement_is_good_once(job: Job) -> None:
    token, worker = job.api_token(), DpopKey()
    statement = stated(job, token, worker)
    assert had(job, token, worker, statement).grant
    with pytest.raises(NotAuthenticated, match="jti"):
        had(job, token, worker, statement)


def test_the_statement_alone_says_what_may_be_asked(job: Job) -> None:
    token, worker = job.api_token(), DpopKey()
    statement = stated(job, token, worker, {**DETAIL, "columns": ["hr"]})
    with pytest.raises(InvalidInput, match="the statement names"):
        had(job, token, worker, statement, authorization_details='[{"type": "dataset_access"}]')
    reply = had(job, token, worker, statement)
    assert [column["name"] for column in reply.authorization_details[0]["columns"]] == ["hr"]
    assert job.call("/v1/leases", reply.access_token, worker, "POST").grant == reply.grant
    with pytest.raises(NotAuthenticated):
        job.call("/v1/leases", reply.access_token, job.dpop, "POST")
    with pytest.raises(AccessDenied, match="streams only"):
        job.call("/v1/whoami", reply.access_token, worker)


def test_who_acts_for_whom_stands_in_the_token_and_in_the_record(job: Job) -> None:
    house, api = job.gateway.house, job.api_token()
    start = house.journal.durable_size
    first, second = DpopKey(), DpopKey()
    outer = had(job, api, first, stated(job, api, first))
    narrower = {"type": "dataset_access", "parent": outer.grant, "columns": ["hr"]}
    statement = stated(job, outer.access_token, second, narrower, key=first)
    inner = had(job, outer.access_token, second, statement)
    found = run(issued_tokens.introspect(house, STARTUP_OWNER, inner.access_token))
    assert found.act == {
        "sub": URN + second.thumbprint,
        "act": {"sub": URN + first.thumbprint},
    }
    events = [e.facts for e in house.journal.read(start) if e.kind == EventKind.TokenIssued]
    assert [e["thumbprint"] for e in events] == [first.thumbprint, second.thumbprint]
    assert events[1]["parent"] == events[0]["jti"]
    caller = job.call("/oauth/revoke", api, method="POST")
    run(job.gateway.revoke_token(caller, api))
    for token, key in ((outer, first), (inner, second)):
        with pytest.raises(NotAuthenticated, match="revoked"):
            job.call("/v1/leases", token.access_token, key, "POST")


def test_a_delegate_gets_no_more_than_the_grant_of_the_token(job: Job) -> None:
    wide = job.dataset_token()
    grant = job.call("/v1/leases", wide, method="POST").grant
    narrow = exchanged(job, wide, parent=grant, columns=["hr"])
    worker = DpopKey()
    for detail in (DETAIL, {"type": "dataset_access", "grant": grant}):
        with pytest.raises(AccessDenied, match="its own grant"):
            had(job, narrow, worker, stated(job, narrow, worker, detail))


def test_a_token_says_who_vouched_for_its_subject(job: Job) -> None:
    house, start = job.gateway.house, job.gateway.house.journal.durable_size
    job.dataset_token()
    api, dataset = [e for e in house.journal.read(start) if e.kind == EventKind.TokenIssued]
    assert (api.details or {})["vouched_by"] == f"key:{job.key.thumbprint}"
    assert api.facts["parent"] is None
    assert dataset.facts["parent"] == api.facts["jti"]
    assert "vouched_by" not in (dataset.details or {})
