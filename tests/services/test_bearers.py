"""Tokens without a proof: for clients that the operator named, one Grant wide, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gateway.wire as W
from gateway.config import Settings
from gateway.crypto.tokens import DpopKey
from gateway.errors import AccessDenied, ConfigError, GatewayError, InvalidInput, NotAuthenticated
from gateway.services import bearers
from gateway.services.exchange import GRANT_EXCHANGE
from gateway.services.gateway import Gateway
from gateway.wire.tokens import TOKEN_TYPE_JWT
from tests.crypto.provider import CLUSTER, NOW
from tests.services.test_access import run, shared
from tests.services.test_exchange import BASE, DETAIL, TOKEN_URL, Job
from tests.services.test_issuers import KEY, pod, present

__all__ = ["pod", "shared"]
ONE = json.dumps([DETAIL])


def asked(pod: Job, **form: str) -> W.TokenResponse:
    """What the job gets for its cluster's token without a proof."""
    given = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": KEY.token(CLUSTER),
        "subject_token_type": TOKEN_TYPE_JWT,
        **form,
    }
    reply: W.TokenResponse = run(pod.gateway.token(given, TOKEN_URL, None))
    return reply


def carried(gateway: Gateway, token: str, path: str = "/v1/leases") -> Any:
    return run(gateway.authenticate("POST", BASE + path, f"Bearer {token}", None))


def named(pod: Job, *identities: str) -> None:
    pod.gateway.house.bearers = frozenset(identities)


def test_nobody_goes_without_proofs_unless_the_operator_said_so(pod: Job) -> None:
    for identities in ((), ("startup/another", "clinic/job")):
        named(pod, *identities)
        for form in ({}, {"authorization_details": ONE}):
            with pytest.raises(NotAuthenticated, match="proof"):
                asked(pod, **form)
        with pytest.raises(NotAuthenticated, match="proof"):
            present(pod, KEY.token(CLUSTER), authorization_details=ONE, token_type="Bearer")


def test_a_key_file_alone_gives_no_token_without_a_proof(pod: Job) -> None:
    named(pod, "startup/job")
    assertion = pod.key.assertion(BASE, lambda: NOW, pod.dpop.thumbprint)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    with pytest.raises(NotAuthenticated, match="send a proof"):
        run(pod.gateway.token(form, TOKEN_URL, None))


def test_a_token_without_a_key_is_for_one_grant_and_opens_streams_only(pod: Job) -> None:
    named(pod, "startup/job")
    with pytest.raises(InvalidInput, match="for one grant"):
        asked(pod)
    reply = asked(pod, authorization_details=ONE)
    assert reply.token_type == "Bearer"
    assert carried(pod.gateway, reply.access_token).grant == reply.grant
    for path in ("/v1/datasets", "/v1/whoami", "/v1/grants", "/access/v1/evaluation"):
        with pytest.raises(AccessDenied, match="streams only"):
            carried(pod.gateway, reply.access_token, path)
    again = json.dumps([{"type": "dataset_access", "grant": reply.grant}])
    bound = present(pod, KEY.token(CLUSTER), authorization_details=again, token_type="Bearer")
    assert carried(pod.gateway, bound.access_token).grant == reply.grant


def test_it_is_neither_exchanged_nor_taken_for_one_that_is_bound(pod: Job) -> None:
    named(pod, "startup/job")
    token = asked(pod, authorization_details=ONE).access_token
    form = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": token,
        "authorization_details": ONE,
    }
    with pytest.raises(NotAuthenticated):
        run(pod.gateway.token(form, TOKEN_URL, None))
    pod.now = lambda: float(NOW)
    for dpop in (pod.dpop, DpopKey()):
        with pytest.raises(NotAuthenticated):
            pod.token(form, dpop)
        with pytest.raises(NotAuthenticated):
            pod.call("/v1/leases", token, dpop, "POST")


def test_a_bound_token_is_never_taken_without_its_proof(pod: Job) -> None:
    named(pod, "startup/job")
    for form in ({}, {"authorization_details": ONE}):
        token = present(pod, KEY.token(CLUSTER), **form).access_token
        with pytest.raises(NotAuthenticated):
            carried(pod.gateway, token)


def test_taking_the_name_off_the_list_ends_its_tokens(pod: Job) -> None:
    named(pod, "startup/job")
    token = asked(pod, authorization_details=ONE).access_token
    named(pod)
    with pytest.raises(NotAuthenticated):
        carried(pod.gateway, token)


@pytest.mark.parametrize("listed", ["job", "startup/job; clinic/x", "*", "startup/*", "a/b/c"])
def test_a_list_that_names_no_identity_stops_the_start(listed: str) -> None:
    with pytest.raises(ConfigError, match="bearer_clients"):
        bearers.load(Settings(bearer_clients=listed))


def test_the_list_is_of_identities(pod: Job) -> None:
    found = bearers.load(Settings(bearer_clients=" startup/job, clinic/x,"))
    assert found == {"startup/job", "clinic/x"}
    assert bearers.load(Settings()) == frozenset()
    with pytest.raises(GatewayError):
        carried(pod.gateway, "")
