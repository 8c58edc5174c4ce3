"""Who is calling: assertions, sender-bound tokens, and what a dataset token is good for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.crypto.tokens import DpopKey, IdentityKey, nonce_of
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import (
    AccessDenied,
    DatasetSuspended,
    GatewayError,
    InvalidInput,
    NotAuthenticated,
)
from gateway.services import update
from gateway.services.exchange import GRANT_ASSERTION, GRANT_EXCHANGE
from gateway.services.gateway import Gateway
from gateway.services.house import House
from tests.services.test_access import OWNER, kinds, run, shared

__all__ = ["shared"]
BASE = "http://localhost:1"
TOKEN_URL = f"{BASE}/oauth/token"
DETAIL = {"type": "dataset_access", "dataset": "clinic/icu", "purpose": "health-research"}


class Job:
    """A job of the startup with its own key file and DPoP key."""

    def __init__(self, house: House, directory: Path) -> None:
        self.gateway, self.dpop = Gateway(house), DpopKey()
        self.now: Callable[[], float] = time.time
        self.key = IdentityKey.create(directory / "job.json", "startup/job")
        facts = {
            "identity": "startup/job",
            "type": "job",
            "roles": ["trainer"],
            "thumbprint": self.key.thumbprint,
            "public_key": self.key.public_text,
        }
        house.record(
            EventDraft(
                kind=EventKind.IdentityAdded,
                owner_tenant="startup",
                actor_tenant="startup",
                actor=None,
                facts=facts,
            )
        )

    def token(self, form: Mapping[str, str], dpop: DpopKey | None = None) -> W.TokenResponse:
        proof = (dpop or self.dpop).proof(
            "POST", TOKEN_URL, now=self.now, nonce=self.gateway.house.nonce
        )
        reply: W.TokenResponse = run(self.gateway.token(form, TOKEN_URL, proof))
        return reply

    def api_token(self) -> str:
        assertion = self.key.assertion(BASE, self.now, self.dpop.thumbprint)
        return self.token({"grant_type": GRANT_ASSERTION, "assertion": assertion}).access_token

    def dataset_token(self) -> str:
        form = {
            "grant_type": GRANT_EXCHANGE,
            "subject_token": self.api_token(),
            "authorization_details": json.dumps([DETAIL]),
        }
        return self.token(form).access_token

    def call(self, path: str, token: str, dpop: DpopKey | None = None, method: str = "GET") -> Any:
        url = BASE + path
        proof = (dpop or self.dpop).proof(
            method, url, access_token=token, now=self.now, nonce=self.gateway.house.nonce
        )
        return run(self.gateway.authenticate(method, url, f"DPoP {token}", proof))


@pytest.fixture
def job(shared: House, tmp_path: Path) -> Job:
    return Job(shared, tmp_path)


def test_a_stolen_token_is_worthless_without_its_key(job: Job) -> None:
    for token in (job.api_token(), job.dataset_token()):
        with pytest.raises(NotAuthenticated):
            job.call("/v1/leases", token, DpopKey())


def test_a_stolen_token_cannot_be_exchanged_for_one_of_the_thief(job: Job) -> None:
    form = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": job.api_token(),
        "authorization_details": json.dumps([DETAIL]),
    }
    with pytest.raises(NotAuthenticated):
        job.token(form, DpopKey())


def test_an_assertion_is_good_once_and_for_its_key_only(job: Job) -> None:
    form = {
        "grant_type": GRANT_ASSERTION,
        "assertion": job.key.assertion(BASE, time.time, job.dpop.thumbprint),
    }
    with pytest.raises(NotAuthenticated):
        job.token(form, DpopKey())
    with pytest.raises(NotAuthenticated):
        job.token(form)  # it was presented before, though in vain


def test_a_proof_is_good_once(job: Job) -> None:
    token, url = job.api_token(), f"{BASE}/v1/whoami"
    nonce = job.gateway.house.nonce
    proof = job.dpop.proof("GET", url, access_token=token, now=time.time, nonce=nonce)
    run(job.gateway.authenticate("GET", url, f"DPoP {token}", proof))
    with pytest.raises(NotAuthenticated):
        run(job.gateway.authenticate("GET", url, f"DPoP {token}", proof))


def test_a_proof_of_before_a_start_is_told_the_nonce_and_never_taken(job: Job) -> None:
    house, token, url = job.gateway.house, job.api_token(), f"{BASE}/v1/whoami"
    start = house.journal.durable_size
    for nonce in (None, nonce_of("another start")):
        proof = job.dpop.proof("GET", url, access_token=token, now=time.time, nonce=nonce)
        for _ in range(2):
            with pytest.raises(NotAuthenticated) as caught:
                run(job.gateway.authenticate("GET", url, f"DPoP {token}", proof))
            assert caught.value.facts["nonce"] == house.nonce
    assert kinds(house, start) == [EventKind.RequestRefused] * 2, "a first contact is no refusal"


def test_a_dataset_token_opens_streams_and_nothing_else(job: Job) -> None:
    token = job.dataset_token()
    assert job.call("/v1/leases", token, method="POST").grant is not None
    for path in ("/v1/datasets", "/v1/whoami", "/v1/grants", "/v1/tenants"):
        with pytest.raises(AccessDenied, match="streams only"):
            job.call(path, token)


def test_a_grant_gives_no_token_while_its_dataset_is_suspended(job: Job) -> None:
    house = job.gateway.house
    grant = job.call("/v1/leases", job.dataset_token()).grant
    detail = {"type": "dataset_access", "grant": grant}
    form = {"grant_type": GRANT_EXCHANGE, "authorization_details": json.dumps([detail])}

    def suspend(*, suspended: bool) -> None:
        wanted = W.DatasetChanges(suspended=suspended)
        run(update.update(house, OWNER, DatasetRef("clinic", "icu"), wanted, None))

    suspend(suspended=True)
    start = house.journal.durable_size
    with pytest.raises(DatasetSuspended):
        job.token({**form, "subject_token": job.api_token()})
    assert EventKind.AccessDecided in kinds(house, start)
    suspend(suspended=False)
    assert job.token({**form, "subject_token": job.api_token()}).grant == grant


def test_a_revoked_token_is_refused_at_once(job: Job) -> None:
    token = job.api_token()
    caller = job.call("/v1/whoami", token)
    run(job.gateway.revoke_token(caller, token))
    with pytest.raises(NotAuthenticated, match="revoked"):
        job.call("/v1/whoami", token)


def test_a_token_for_another_place_or_of_another_kind_is_not_quietly_ours(job: Job) -> None:
    form = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": job.api_token(),
        "authorization_details": json.dumps([DETAIL]),
    }
    for name in ("audience", "resource", "requested_token_type"):
        with pytest.raises(InvalidInput, match=f"not served as `{name}`"):
            job.token({**form, name: "https://elsewhere.example"})
    assert job.token({**form, "audience": job.gateway.house.issuer}).grant


def test_details_that_are_missing_or_count_below_nothing_are_named(job: Job) -> None:
    form = {"grant_type": GRANT_EXCHANGE, "subject_token": job.api_token()}
    with pytest.raises(InvalidInput, match="`authorization_details` is missing"):
        job.token(form)
    for name in ("max_rows", "max_bytes", "max_epochs"):
        details = json.dumps([{**DETAIL, name: -1}])
        with pytest.raises(InvalidInput, match="from 0 on"):
            job.token({**form, "authorization_details": details})


def test_an_unknown_grant_type_says_which_there_are(job: Job) -> None:
    with pytest.raises(GatewayError) as caught:
        job.token({"grant_type": "password"})
    assert GRANT_EXCHANGE in caught.value.advice
