"""An access token opens what it says, here, now, for the holder of its key; nothing else does."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import jws
from gateway.crypto.signing import Signer
from gateway.crypto.tokens import TokenClaims, key_set, mint, verify
from gateway.errors import InvalidInput, NotAuthenticated

SIGNER = Signer(b"\x05" * 32, "token")
KEYS = {SIGNER.key_id: SIGNER.public_key}
NOW = 1_800_000_000
GOOD = TokenClaims(
    issuer="https://gw.example",
    audience="https://gw.example",
    subject="startup/ml",
    type="job",
    jti="j" * 22,
    issued_at=NOW,
    expires_at=NOW + 600,
    thumbprint="t" * 43,
    roles=("trainer",),
    grant="grant_x",
    decision="dec_x",
    run="run:1",
    plan_digest="ab" * 32,
    policy_epoch=7,
    details=({"type": "dataset_access", "dataset": "clinic/icu@3"},),
)
TOKEN = mint(SIGNER, GOOD)


def at(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def forge(header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes, signer: Signer) -> str:
    parts = [
        jws.b64url(part if isinstance(part, bytes) else json.dumps(part).encode())
        for part in (header, claims)
    ]
    text = ".".join(parts)
    return f"{text}.{jws.b64url(signer.sign_text(text.encode()))}"


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(jws.unb64url(token.split(".")[1]))


HEADER = {"typ": "at+jwt", "alg": "EdDSA", "kid": SIGNER.key_id}
CLAIMS = claims_of(TOKEN)


def refuse(token: str, now: float = NOW, **changed: Any) -> None:
    given_ = {"keys": KEYS, "audience": GOOD.audience, "now": at(now)} | changed
    with pytest.raises(NotAuthenticated):
        verify(token, **given_)


def test_no_key_means_no_token() -> None:
    refuse(TOKEN, keys={})


@pytest.mark.parametrize("seconds", [600, 601, 10**6])
def test_an_expired_token_is_refused(seconds: int) -> None:
    refuse(TOKEN, NOW + seconds)


def test_a_token_from_the_future_is_refused() -> None:
    refuse(TOKEN, NOW - 31)
    verify(TOKEN, KEYS, GOOD.audience, at(NOW - 30))


def test_a_token_for_another_audience_or_issuer_is_refused() -> None:
    refuse(TOKEN, audience="https://other.example")
    refuse(TOKEN, audience="https://gw.example/")
    refuse(TOKEN, issuer="https://other.example")
    refuse(forge(HEADER, {**CLAIMS, "aud": [GOOD.audience]}, SIGNER))


def test_a_token_signed_by_another_key_is_refused() -> None:
    other = Signer(b"\x06" * 32, "token")
    refuse(forge(HEADER, CLAIMS, other))
    refuse(mint(other, GOOD))
    refuse(TOKEN, keys={SIGNER.key_id: other.public_key})
    refuse(mint(other, GOOD), keys={SIGNER.key_id: SIGNER.public_key, "x": other.public_key})


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS256", "ES256", "", None, 1, "eddsa"])
def test_another_algorithm_is_refused(alg: object) -> None:
    refuse(forge({**HEADER, "alg": alg}, CLAIMS, SIGNER))
    head, body, _ = forge({**HEADER, "alg": alg}, CLAIMS, SIGNER).split(".")
    refuse(f"{head}.{body}.")


def test_the_newer_name_of_the_algorithm_is_accepted() -> None:
    token = forge({**HEADER, "alg": "Ed25519"}, CLAIMS, SIGNER)
    assert verify(token, KEYS, GOOD.audience, at(NOW)) == GOOD


@pytest.mark.parametrize("typ", ["JWT", "dpop+jwt", "gateway-identity+jwt", "", None])
def test_another_type_is_refused(typ: object) -> None:
    refuse(forge({**HEADER, "typ": typ}, CLAIMS, SIGNER))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example"},
        {"jwk": jws.public_jwk(SIGNER.public_key)},
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
)
def test_any_further_header_member_is_refused(more: dict[str, Any]) -> None:
    refuse(forge({**HEADER, **more}, CLAIMS, SIGNER))


def test_a_missing_header_member_is_refused() -> None:
    for name in HEADER:
        refuse(forge({k: v for k, v in HEADER.items() if k != name}, CLAIMS, SIGNER))


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "", None, ["x"], {"a": 1}, "token-0000000000000000"]
)
def test_a_key_id_that_is_not_listed_is_refused(kid: object) -> None:
    refuse(forge({**HEADER, "kid": kid}, CLAIMS, SIGNER))


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW + 601},
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": None},
        {"exp": float(NOW + 600)},
        {"exp": str(NOW + 600)},
        {"iat": True},
        {"exp": 10**30},
        {"sub": "startup"},
        {"sub": ""},
        {"sub": 7},
        {"client_id": "other/ml"},
        {"subject_type": "operator"},
        {"jti": "short"},
        {"jti": None},
        {"cnf": {}},
        {"cnf": {"jkt": "t" * 43, "x5t#S256": "y"}},
        {"cnf": None},
        {"roles": "trainer"},
        {"roles": [1]},
        {"roles": ["r"] * 65},
        {"authorization_details": {"type": "x"}},
        {"authorization_details": ["x"]},
        {"grant": 1},
        {"grant": ""},
        {"policy_epoch": "7"},
        {"nbf": NOW},
        {"act": {"sub": "x"}},
    ],
)
def test_claims_that_were_never_minted_are_refused(change: dict[str, Any]) -> None:
    refuse(forge(HEADER, {**CLAIMS, **change}, SIGNER))


def test_a_token_without_a_key_says_so_itself_and_is_for_one_grant() -> None:
    bare = {k: v for k, v in CLAIMS.items() if k != "cnf"} | {"grant": "grant_a"}
    for claims in (
        bare,
        {**bare, "token_type": "DPoP"},
        {**bare, "token_type": "bearer"},
        {**CLAIMS, "grant": "grant_a", "token_type": "Bearer"},
        {k: v for k, v in bare.items() if k != "grant"} | {"token_type": "Bearer"},
    ):
        refuse(forge(HEADER, claims, SIGNER))
    good = forge(HEADER, {**bare, "token_type": "Bearer"}, SIGNER)
    claims = verify(good, KEYS, GOOD.audience, at(NOW))
    for key in ("", GOOD.thumbprint):
        with pytest.raises(NotAuthenticated):
            claims.require_bound_to(key)


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "iat", "jti", "cnf", "client_id"])
def test_a_missing_claim_is_refused(name: str) -> None:
    refuse(forge(HEADER, {k: v for k, v in CLAIMS.items() if k != name}, SIGNER))


def test_json_with_two_readings_is_refused() -> None:
    body = json.dumps(CLAIMS).encode()
    for bad in (
        body[:-1] + b',"sub":"clinic/owner"}',
        body[:-1] + b',"exp":NaN}',
        b"[" * 5000 + b"]" * 5000,
        b"[]",
        b"\xff",
        b'{"sub":"\\ud800"}',
    ):
        refuse(forge(HEADER, bad, SIGNER))
    head = json.dumps(HEADER).encode()[:-1] + b',"alg":"none"}'
    refuse(forge(head, CLAIMS, SIGNER))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda t: t + "\n",
        lambda t: " " + t,
        lambda t: t + "=",
        lambda t: t + ".",
        lambda t: t.rpartition(".")[0],
        lambda t: t.rpartition(".")[0] + ".",
        lambda t: t.replace(".", ". ", 1),
        lambda t: t.replace("-", "+").replace("_", "/") + "+",
        lambda t: base64.b64encode(t.encode()).decode(),
        lambda _: "a" * (jws.TOKEN_BYTES_MAX + 1),
        lambda _: "a." * 8000 + "a",
        lambda t: t.split(".")[0] + ".." + t.split(".")[2],
    ],
)
def test_another_form_is_refused(change: Callable[[str], str]) -> None:
    refuse(change(TOKEN))


def test_stray_bits_in_the_last_character_are_refused() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for spare in range(1, 4):  # 64 bytes leave 4 spare bits; 86 characters
        last = letters[(letters.index(TOKEN[-1]) & ~3) | spare]
        if last != TOKEN[-1]:
            refuse(TOKEN[:-1] + last)


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_any_other_character_is_refused(where: int, other: str) -> None:
    changed = TOKEN[:where] + other + TOKEN[where + 1 :]
    if changed != TOKEN:
        refuse(changed)


def test_a_token_of_another_sender_key_is_refused() -> None:
    with pytest.raises(NotAuthenticated):
        GOOD.require_bound_to("u" * 43)
    GOOD.require_bound_to("t" * 43)


def test_what_would_not_verify_is_not_minted() -> None:
    for bad in (
        replace(GOOD, expires_at=NOW + 601),
        replace(GOOD, expires_at=NOW),
        replace(GOOD, run="r" * 20_000),
    ):
        with pytest.raises(InvalidInput):
            mint(SIGNER, bad)
    with pytest.raises(InvalidInput):
        mint(Signer(b"\x05" * 32, "log"), GOOD)


def test_a_refusal_shows_nothing_of_the_token() -> None:
    with pytest.raises(NotAuthenticated) as refusal:
        verify(TOKEN, KEYS, "elsewhere", at(NOW))
    assert str(refusal.value) == "the token is not accepted (`aud`)"


def test_a_minted_token_says_what_was_put_in() -> None:
    assert verify(TOKEN, KEYS, GOOD.audience, at(NOW + 599), issuer=GOOD.issuer) == GOOD
    bare = replace(
        GOOD, roles=(), grant=None, decision=None, run=None, plan_digest=None,
        policy_epoch=None, details=(),
    )  # fmt: skip
    assert verify(mint(SIGNER, bare), KEYS, GOOD.audience, at(NOW)) == bare
    assert GOOD.tenant == "startup"


def test_the_key_set_holds_public_keys_only() -> None:
    assert key_set(KEYS)["keys"] == [
        {
            **jws.public_jwk(SIGNER.public_key),
            "kid": SIGNER.key_id,
            "use": "sig",
            "alg": "EdDSA",
        }
    ]


def test_the_thumbprint_is_the_one_of_rfc_8037() -> None:
    key = jws.unb64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert jws.thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_client_imports_no_jose_library() -> None:
    code = (
        "import sys, gateway.crypto.tokens, gateway.crypto.segments;"
        "print([m for m in ('joserfc', 'pyarrow', 'numpy', 'gateway.process') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
