"""Tokens of other issuers: what RFC 7515, 7517, 7519 and 8725 warn of is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.crypto import foreign_tokens, jws
from gateway.crypto.foreign_tokens import Profile, read_key_set
from gateway.errors import InvalidInput, NotAuthenticated
from tests.crypto.provider import BUILD, CLUSTER, GATEWAY, NOW, SPIFFE, Provider

CLUSTER_KEY = Provider("RS256")


def profile(claims: Mapping[str, Any], *algorithms: str, typ: str | None = None) -> Profile:
    return Profile(
        issuer=claims["iss"], audience=GATEWAY, algorithms=frozenset(algorithms), typ=typ
    )


def accept(token: str, *, now: float = NOW + 1, keys: bytes | None = None) -> Mapping[str, Any]:
    known = read_key_set(keys or CLUSTER_KEY.key_set())
    return foreign_tokens.verify(token, profile(CLUSTER, "RS256"), known, lambda: now)


def refuse(token: str, **given: Any) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        accept(token, **given)
    assert len(caught.value.message) < 80, "a refusal names the check, never a value"


@pytest.mark.parametrize(
    ("claims", "algorithm", "typ"),
    [
        (CLUSTER, "RS256", None),
        (BUILD, "RS256", "JWT"),
        (SPIFFE, "ES256", "JWT"),
        (SPIFFE, "ES384", None),
        (SPIFFE, "PS256", "JWT"),
        (SPIFFE, "EdDSA", None),
    ],
)
def test_golden_tokens_of_the_usual_issuers_are_accepted(
    claims: dict[str, Any], algorithm: str, typ: str | None
) -> None:
    provider = Provider(algorithm)
    keys = read_key_set(provider.key_set())
    token = provider.token(claims, typ=typ)
    assert foreign_tokens.issuer_of(token) == claims["iss"]
    found = foreign_tokens.verify(token, profile(claims, algorithm), keys, lambda: NOW + 1)
    assert found["sub"] == claims["sub"]


def test_a_header_cannot_choose_the_key_or_the_form() -> None:
    for member in ("jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "cty", "enc"):
        refuse(CLUSTER_KEY.token(CLUSTER, **{member: ["exp"] if member == "crit" else "x"}))
    for kid in ("../../dev/null", "key-1' OR 1=1", "KEY-1", "key-1\u0000", "", 1, None, ["key-1"]):
        refuse(CLUSTER_KEY.token(CLUSTER, kid=kid))
    refuse(CLUSTER_KEY.token(CLUSTER, kid="https://evil.example/key-1"))


def test_the_algorithm_is_the_operators_choice_and_fits_the_key() -> None:
    for alg in ("none", "None", "HS256", "PS256", "ES256", "rs256", "RS512", None, 1, ["RS256"]):
        refuse(CLUSTER_KEY.token(CLUSTER, alg=alg))
    other = Provider("ES256")
    refuse(other.token(CLUSTER))
    refuse(other.token(CLUSTER), keys=other.key_set())
    unlabelled = json.dumps({"keys": [CLUSTER_KEY.jwk(alg="PS256")]}).encode()
    refuse(CLUSTER_KEY.token(CLUSTER), keys=unlabelled)


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    public = CLUSTER_KEY.key.raw_value
    key = public.public_key() if isinstance(public, rsa.RSAPrivateKey) else public
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = json.dumps({"alg": "HS256", "kid": "key-1"}).encode()
    text = ".".join(jws.b64url(part) for part in (header, json.dumps(CLUSTER).encode()))
    for secret in (pem, CLUSTER_KEY.key_set(), b""):
        digest = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        refuse(f"{text}.{jws.b64url(digest)}")
    unsigned = jws.b64url(json.dumps({"alg": "none", "kid": "key-1"}).encode())
    refuse(f"{unsigned}.{text.split('.')[1]}.")


def test_another_key_under_the_same_kid_signs_nothing() -> None:
    refuse(Provider("RS256", number=2).token(CLUSTER))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": CLUSTER["iss"] + "/"},
        {"iss": None},
        {"aud": "https://other.example"},
        {"aud": [GATEWAY, "https://other.example"]},
        {"aud": [[GATEWAY]]},
        {"aud": GATEWAY + "/"},
        {"aud": []},
        {"aud": None},
        {"sub": ""},
        {"sub": ["system:serviceaccount:ml:trainer"]},
        {"sub": None},
        {"exp": None},
        {"exp": str(NOW + 60)},
        {"exp": True},
        {"exp": NOW + 60.5},
        {"exp": NOW - 40},
        {"exp": NOW + 90_000},
        {"iat": None},
        {"iat": NOW + 3_600},
        {"iat": -1},
        {"nbf": NOW + 3_600},
        {"nbf": "soon"},
    ],
)
def test_claims_that_are_wrong_missing_or_of_another_type_are_refused(
    change: dict[str, Any],
) -> None:
    claims = {name: value for name, value in {**CLUSTER, **change}.items() if value is not None}
    refuse(CLUSTER_KEY.token(claims))


def test_clocks_may_differ_by_half_a_minute_and_not_by_an_hour() -> None:
    token = CLUSTER_KEY.token({**CLUSTER, "exp": NOW + 600})
    for now in (NOW - 30, NOW, NOW + 629):
        accept(token, now=now)
    for now in (NOW - 3_600, NOW - 31, NOW + 630, NOW + 3_600 + 600):
        refuse(token, now=now)


def test_the_type_is_the_one_that_the_profile_names() -> None:
    for typ in ("at+jwt", "dpop+jwt", "gateway-identity+jwt", "application/jwt", 1, ["JWT"], ""):
        refuse(CLUSTER_KEY.token(CLUSTER, typ=typ))
    keys, exact = read_key_set(CLUSTER_KEY.key_set()), profile(CLUSTER, "RS256", typ="at+jwt")
    for typ in (None, "JWT"):
        with pytest.raises(NotAuthenticated):
            foreign_tokens.verify(CLUSTER_KEY.token(CLUSTER, typ=typ), exact, keys, lambda: NOW)
    foreign_tokens.verify(CLUSTER_KEY.token(CLUSTER, typ="AT+JWT"), exact, keys, lambda: NOW)


def test_json_with_two_readings_is_refused_although_it_is_signed() -> None:
    header = b'{"alg":"RS256","kid":"key-1"}'
    good = json.dumps(CLUSTER).encode()
    twice = good[:-1] + b',"sub":"system:serviceaccount:ml:admin"}'
    for payload in (twice, b"[1]", b"null", b"\xff" + good, good[:-1] + b',"x":NaN}', b"{" * 9_000):
        refuse(CLUSTER_KEY.sign(header, payload))
    refuse(CLUSTER_KEY.sign(b'{"alg":"RS256","alg":"RS256","kid":"key-1"}', good))
    lone = json.dumps({**CLUSTER, "name": "x"}).replace('"x"', '"\\ud800"').encode()
    refuse(CLUSTER_KEY.sign(header, lone))
    accept(CLUSTER_KEY.sign(header, good))


def test_a_token_is_one_compact_text_of_bounded_size() -> None:
    token = CLUSTER_KEY.token(CLUSTER)
    head, body, signature = token.split(".")
    for form in (
        "", ".", "..", f" {token}", f"{token}\n", f"{token}=", f"{token}.", f"{head}.{body}",
        f"{head}.{body}.{signature}.{signature}", f"{head}.{body}.", f"{head}..{signature}",
        json.dumps({"protected": head, "payload": body, "signature": signature}),
        CLUSTER_KEY.token({**CLUSTER, "pad": "x" * (16 << 10)}), token.replace(".", "\u2024"),
    ):  # fmt: skip
        refuse(form)


def _mutations(token: str, chance: random.Random) -> Callable[[], str]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\u00e9"

    def one() -> str:
        at, end = sorted(chance.sample(range(len(token) + 1), 2))
        match chance.randrange(4):
            case 0:
                return token[:at] + chance.choice(letters) + token[at + 1 :]
            case 1:
                return token[:at] + chance.choice(letters) + token[at:]
            case 2:
                return token[:at] + token[end:]
            case _:
                return token[:at] + token[at:end][::-1] + token[end:]

    return one


def test_no_token_of_20_000_mutated_ones_is_accepted() -> None:
    chance, keys, accepted = random.Random(5), read_key_set(CLUSTER_KEY.key_set()), []
    token = CLUSTER_KEY.token(CLUSTER)
    mutate = _mutations(token, chance)
    for _ in range(20_000):
        changed = mutate()
        if changed == token:
            continue
        try:
            foreign_tokens.verify(changed, profile(CLUSTER, "RS256"), keys, lambda: NOW)
        except NotAuthenticated:
            continue
        accepted.append(changed)
    assert accepted == []


@pytest.mark.parametrize(
    "keys",
    [
        b"",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": []}',
        json.dumps({"keys": [CLUSTER_KEY.jwk(), CLUSTER_KEY.jwk()]}).encode(),
        json.dumps({"keys": [CLUSTER_KEY.jwk(d="AQAB")]}).encode(),
        json.dumps({"keys": [CLUSTER_KEY.jwk(), {"kty": "oct", "k": "c2VjcmV0"}]}).encode(),
        json.dumps({"keys": [CLUSTER_KEY.jwk(use="enc")]}).encode(),
        json.dumps({"keys": [CLUSTER_KEY.jwk(e="AQ")]}).encode(),
        json.dumps({"keys": [CLUSTER_KEY.jwk(n=5)]}).encode(),
        json.dumps({"keys": [CLUSTER_KEY.jwk(key_ops=7)]}).encode(),
        json.dumps({"keys": [Provider("EdDSA").jwk(x=jws.b64url(bytes(32)))]}).encode(),
        json.dumps({"keys": [Provider("ES256").jwk(x=jws.b64url(bytes(32)))]}).encode(),
        b'{"keys": [' + b"1," * 70 + b"1]}",
        b" " * (foreign_tokens.KEY_SET_BYTES_MAX + 1),
    ],
)
def test_a_key_set_that_is_unclear_private_or_weak_is_refused(keys: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_key_set(keys)


def test_a_short_rsa_key_is_refused() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it must be refused
    modulus = private.public_key().public_numbers().n.to_bytes(128, "big")
    jwk = {"kty": "RSA", "kid": "weak", "n": jws.b64url(modulus), "e": "AQAB"}
    with pytest.raises(InvalidInput, match="short"):
        read_key_set(json.dumps({"keys": [jwk]}).encode())


def test_keys_for_other_uses_in_a_set_are_left_out() -> None:
    others = [CLUSTER_KEY.jwk(kid="enc", use="enc"), {"kty": "XX", "kid": "new"}]
    keys = json.dumps({"keys": [*others, CLUSTER_KEY.jwk()]}).encode()
    assert set(read_key_set(keys)) == {"key-1"}
