"""Whom else the gateway believes: a table of issuers, bound to identities of one tenant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.config import Settings
from gateway.crypto.tokens import DpopKey
from gateway.errors import ConfigError, InvalidInput, NotAuthenticated
from gateway.services import issuers, key_sets
from gateway.services.exchange import GRANT_EXCHANGE
from gateway.services.house import House
from gateway.wire.tokens import TOKEN_TYPE_ACCESS, TOKEN_TYPE_JWT
from tests.crypto.provider import CLUSTER, GATEWAY, NOW, Provider
from tests.services.test_access import run, shared
from tests.services.test_exchange import DETAIL, Job

__all__ = ["shared"]
KEY = Provider("RS256")
TABLE = f"""
[[issuer]]
issuer = "{CLUSTER["iss"]}"
audience = "{GATEWAY}"
algorithms = ["RS256"]
jwks = "cluster.jwks"
tenant = "startup"
[[issuer.identity]]
name = "job"
claims = {{ sub = "{CLUSTER["sub"]}" }}
"""


def table(directory: Path, text: str = TABLE, clock: list[float] | None = None) -> issuers.Issuers:
    (directory / "cluster.jwks").write_bytes(KEY.key_set())
    (directory / "issuers.toml").write_text(text, "utf-8")
    now = clock or [NOW]
    return issuers.load(Settings(config_dir=directory), lambda: now[0])


def believe(rows: issuers.Issuers, claims: dict[str, Any], provider: Provider = KEY) -> str:
    return str(run(rows.vouch(provider.token(claims), lambda: NOW)).identity)


@pytest.fixture
def pod(shared: House, tmp_path: Path) -> Job:
    """A job of the startup that the cluster vouches for."""
    shared.issuers = table(tmp_path)
    shared.now = lambda: float(NOW)
    return Job(shared, tmp_path)


def present(pod: Job, token: str, dpop: DpopKey | None = None, **form: str) -> W.TokenResponse:
    given = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": token,
        "subject_token_type": TOKEN_TYPE_JWT,
        **form,
    }
    proof = (dpop or pod.dpop).proof(
        "POST", "http://localhost:1/oauth/token", now=lambda: NOW, nonce=pod.gateway.house.nonce
    )
    reply: W.TokenResponse = run(pod.gateway.token(given, "http://localhost:1/oauth/token", proof))
    return reply


def whoami(pod: Job, token: str, dpop: DpopKey | None = None) -> Any:
    url = "http://localhost:1/v1/whoami"
    proof = (dpop or pod.dpop).proof(
        "GET", url, access_token=token, now=lambda: NOW, nonce=pod.gateway.house.nonce
    )
    return run(pod.gateway.authenticate("GET", url, f"DPoP {token}", proof)).subject


def test_without_a_table_no_foreign_token_is_believed(shared: House, tmp_path: Path) -> None:
    pod = Job(shared, tmp_path)
    shared.now = lambda: float(NOW)
    with pytest.raises(NotAuthenticated):
        present(pod, KEY.token(CLUSTER))


def test_what_comes_of_a_foreign_token_is_bound_to_the_key_of_its_proof(pod: Job) -> None:
    token = present(pod, KEY.token(CLUSTER)).access_token
    assert whoami(pod, token).id == "startup/job"
    assert whoami(pod, token).roles == ("trainer",)
    with pytest.raises(NotAuthenticated):
        whoami(pod, token, DpopKey())


def test_a_foreign_token_gives_a_dataset_token_at_once(pod: Job) -> None:
    details = json.dumps([DETAIL])
    reply = present(pod, KEY.token(CLUSTER), authorization_details=details)
    assert reply.grant is not None
    again = present(pod, KEY.token(CLUSTER), DpopKey(), authorization_details=details)
    assert again.grant is not None, "each rank shows the same file with a key of its own"


def test_a_token_is_not_passed_off_as_one_of_another_kind(pod: Job) -> None:
    ours = present(pod, KEY.token(CLUSTER)).access_token
    details = json.dumps([DETAIL])
    for token, kind in ((ours, TOKEN_TYPE_JWT), (KEY.token(CLUSTER), TOKEN_TYPE_ACCESS)):
        with pytest.raises(NotAuthenticated):
            present(pod, token, subject_token_type=kind, authorization_details=details)
    with pytest.raises(InvalidInput, match="subject token"):
        present(pod, ours, subject_token_type="urn:ietf:params:oauth:token-type:saml2")
    with pytest.raises(NotAuthenticated):
        whoami(pod, KEY.token(CLUSTER))


def test_a_refused_foreign_token_is_recorded(pod: Job) -> None:
    start = pod.gateway.house.journal.durable_size
    with pytest.raises(NotAuthenticated):
        present(pod, KEY.token({**CLUSTER, "sub": "system:serviceaccount:ml:other"}))
    assert pod.gateway.house.journal.durable_size > start


def test_a_claim_matches_exactly_or_not_at_all(tmp_path: Path) -> None:
    rows = table(tmp_path)
    sub = CLUSTER["sub"]
    assert believe(rows, CLUSTER) == "startup/job"
    for other in (sub + " ", sub.upper(), sub + "\u200b", sub.replace("a", "\u0430"), sub[:-1]):
        with pytest.raises(NotAuthenticated):
            believe(rows, {**CLUSTER, "sub": other})


def test_an_issuer_speaks_for_its_own_tenant_only(tmp_path: Path) -> None:
    rows = table(tmp_path)
    claims = {**CLUSTER, "sub": "clinic/owner", "tenant": "clinic", "roles": ["owner", "operator"]}
    with pytest.raises(NotAuthenticated):
        believe(rows, claims)
    assert believe(rows, {**claims, "sub": CLUSTER["sub"]}) == "startup/job"
    with pytest.raises(ConfigError):
        table(tmp_path, TABLE.replace('name = "job"', 'name = "clinic/owner"'))


def test_claims_that_stand_for_two_identities_stand_for_none(tmp_path: Path) -> None:
    two = TABLE + '[[issuer.identity]]\nname = "other"\nclaims = { jti = "j" }\n'
    rows = table(tmp_path, two)
    assert believe(rows, CLUSTER) == "startup/job"
    with pytest.raises(NotAuthenticated):
        believe(rows, {**CLUSTER, "jti": "j"})


def replaced(path: Path, data: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(data)
    other.replace(path)


def test_new_keys_are_taken_from_the_file_and_old_ones_forgotten(tmp_path: Path) -> None:
    rows, new = table(tmp_path), Provider("RS256", kid="key-2", number=2)
    with pytest.raises(NotAuthenticated):
        believe(rows, CLUSTER, new)
    replaced(tmp_path / "cluster.jwks", KEY.key_set(new))
    assert believe(rows, CLUSTER) == believe(rows, CLUSTER, new)
    replaced(tmp_path / "cluster.jwks", new.key_set())
    with pytest.raises(NotAuthenticated):
        believe(rows, CLUSTER)


@pytest.mark.parametrize("harm", [b"", b"{", b'{"keys": []}', None])
def test_the_last_good_keys_serve_for_a_day(tmp_path: Path, harm: bytes | None) -> None:
    clock = [float(NOW)]
    rows, path = table(tmp_path, clock=clock), tmp_path / "cluster.jwks"
    path.unlink() if harm is None else replaced(path, harm)
    clock[0] += key_sets.KEPT_SECONDS
    assert believe(rows, CLUSTER) == "startup/job"
    clock[0] += 1
    with pytest.raises(NotAuthenticated):
        believe(rows, CLUSTER)
    replaced(path, KEY.key_set())
    assert believe(rows, CLUSTER) == "startup/job"


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ('"RS256"', '"HS256"'),
        ('"RS256"', '"none"'),
        ('["RS256"]', '"RS256"'),
        ('["RS256"]', "[]"),
        ('["RS256"]', "[7]"),
        ("cluster.jwks", "missing.jwks"),
        ("cluster.jwks", "issuers.toml"),
        ('tenant = "startup"', 'tenant = "../x"'),
        ('tenant = "startup"\n', ""),
        ('tenant = "startup"', 'tenant = "startup"\njku = "https://x"'),
        ('tenant = "startup"', 'tenant = "startup"\nseconds_max = 99999999'),
        (f'claims = {{ sub = "{CLUSTER["sub"]}" }}', "claims = {}"),
        (f'"{CLUSTER["sub"]}"', "7"),
        ('audience = "', 'audience = 7 # "'),
        ("[[issuer]]", "[issuer]"),
        ("[[issuer]]", "[[issuers]]"),
    ],
)
def test_a_table_that_is_not_as_documented_is_refused(
    tmp_path: Path, said: str, instead: str
) -> None:
    assert said in TABLE
    with pytest.raises(ConfigError):
        table(tmp_path, TABLE.replace(said, instead))


def test_an_issuer_stands_once_and_a_named_table_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        table(tmp_path, TABLE * 2)
    with pytest.raises(ConfigError):
        issuers.load(Settings(trusted_issuers=tmp_path / "none.toml"), lambda: NOW)
