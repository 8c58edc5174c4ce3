"""Our own tokens, changed in 20,000 ways each: none is accepted (RFC 7515, 7519, 8725)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto import delegations, jws, strict_json
from gateway.crypto.delegations import Place
from gateway.crypto.identity_keys import IdentityKey, verify_assertion
from gateway.crypto.tokens import DpopKey, verify, verify_proof
from gateway.errors import NotAuthenticated
from tests.crypto.test_foreign_tokens import _mutations
from tests.crypto.test_tokens import CLAIMS, GOOD, HEADER, KEYS, NOW, SIGNER, TOKEN, at, forge

MUTATIONS = 20_000
URL = "https://gw.example/oauth/token"
GATEWAY = "https://gw.example"
KEY = DpopKey(b"\x07" * 32)
OTHER = DpopKey(b"\x08" * 32)
NONCE = "n" * 22
Check = Callable[[str], object]


def never(_: str) -> bool:
    return False


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> IdentityKey:
    return IdentityKey.create(tmp_path_factory.mktemp("keys") / "ml.json", "startup/ml")


@pytest.fixture
def made(identity: IdentityKey) -> dict[str, tuple[str, Check]]:
    """Everything we sign for one another, and who reads it."""

    def key_of(name: str) -> bytes | None:
        return identity.public_key if name == "startup/ml" else None

    place = Place(audience=GATEWAY, nonce=NONCE)
    stated = delegations.delegate(KEY, TOKEN, OTHER.thumbprint, {"type": "x"}, place, at(NOW))
    keys = (KEY.thumbprint, OTHER.thumbprint)
    return {
        "token": (TOKEN, lambda text: verify(text, KEYS, GATEWAY, at(NOW))),
        "assertion": (
            identity.assertion(GATEWAY, at(NOW), KEY.thumbprint),
            lambda text: verify_assertion(text, key_of, GATEWAY, at(NOW), never),
        ),
        "proof": (
            KEY.proof("POST", URL, now=at(NOW), nonce=NONCE, access_token=TOKEN),
            lambda text: verify_proof(text, ("POST", URL), TOKEN, at(NOW), never, NONCE),
        ),
        "delegation": (
            stated,
            lambda text: delegations.verify(text, TOKEN, keys, place, at(NOW), never),
        ),
    }


KINDS = ("token", "assertion", "proof", "delegation")


@pytest.mark.parametrize("kind", KINDS)
def test_none_of_20_000_mutated_ones_is_accepted(
    made: dict[str, tuple[str, Check]], kind: str
) -> None:
    text, check = made[kind]
    check(text)
    mutate, accepted = _mutations(text, random.Random(kind)), []
    for _ in range(MUTATIONS):
        changed = mutate()
        if changed == text:
            continue
        try:
            check(changed)
        except NotAuthenticated:
            continue
        accepted.append(changed)
    # The key that a proof names is its own witness: another key with its own signature is
    # another sender, which `require_bound_to` refuses; a mutation cannot sign.
    assert accepted == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_taken_for_something_else(made: dict[str, tuple[str, Check]], kind: str) -> None:
    """RFC 8725 §2.8 and §3.12: cross-JWT confusion."""
    _, check = made[kind]
    for other in set(KINDS) - {kind}:
        with pytest.raises(NotAuthenticated):
            check(made[other][0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_algorithm_is_never_the_tokens_choice(
    made: dict[str, tuple[str, Check]], kind: str
) -> None:
    """RFC 8725 §2.1: `none`, and a public key used as a secret; §3.1 other names of ours."""
    text, check = made[kind]
    head, body, signature = text.split(".")
    header = json.loads(jws.unb64url(head))
    for alg in ("none", "None", "nOnE", "HS256", "HS512", "ES256", "RS256", "EdDSA448", "eddsa"):
        forged = jws.b64url(strict_json.encode({**header, "alg": alg}))
        for end in (signature, "", jws.b64url(b"\0" * 64), jws.b64url(SIGNER.public_key)):
            with pytest.raises(NotAuthenticated):
                check(f"{forged}.{body}.{end}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_is_an_hour_off_is_refused(identity: IdentityKey, kind: str) -> None:
    place = Place(audience=GATEWAY, nonce=NONCE)
    keys = (KEY.thumbprint, OTHER.thumbprint)
    for skew in (-3600, 3600):
        now = at(NOW + skew)
        reads: dict[str, Callable[[], object]] = {
            "token": lambda now=now: verify(TOKEN, KEYS, GATEWAY, now),
            "assertion": lambda now=now: verify_assertion(
                identity.assertion(GATEWAY, at(NOW), KEY.thumbprint),
                lambda _: identity.public_key,
                GATEWAY,
                now,
                never,
            ),
            "proof": lambda now=now: verify_proof(
                KEY.proof("POST", URL, now=at(NOW)), ("POST", URL), None, now, never
            ),
            "delegation": lambda now=now: delegations.verify(
                delegations.delegate(KEY, TOKEN, OTHER.thumbprint, {}, place, at(NOW)),
                TOKEN,
                keys,
                place,
                now,
                never,
            ),
        }
        with pytest.raises(NotAuthenticated):
            reads[kind]()


KIDS = (
    "../../../../dev/null", "/dev/null", "file:///etc/passwd", "token-' OR '1'='1", "",
    "https://thief.example/jwks.json", "token-0000000000000000", SIGNER.key_id.upper(),
    SIGNER.key_id + "\x00", f" {SIGNER.key_id}", ["x"], {"kid": 1}, None, 0, True,
)  # fmt: skip


@pytest.mark.parametrize("kid", KIDS, ids=repr)
def test_a_key_id_finds_nothing_but_a_key_of_ours(kid: object) -> None:
    """RFC 8725 §3.10: `kid` is looked up in a table and is no path, URL or query."""
    with pytest.raises(NotAuthenticated):
        verify(forge({**HEADER, "kid": kid}, CLAIMS, SIGNER), KEYS, GATEWAY, at(NOW))


NAMES = (
    "startup/m\u006c\u0301", "startup/\uff4dl", "st\u0430rtup/ml", "STARTUP/ML", "startup/ml\u200b",
    "startup\u2215ml", "startup/ml\u0000", "\ufeffstartup/ml", "startup/ml ", "startup//ml",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_only_looks_like_anothers_is_nobodys(tmp_path: Path, name: str) -> None:
    """Unicode in claims: names are compared as they are, never folded or normalised."""
    mine = IdentityKey.create(tmp_path / "ml.json", "startup/ml")

    def sign(claims: dict[str, Any]) -> str:
        return jws.compose(
            mine._private.sign, {"typ": "gateway-identity+jwt", "kid": mine.thumbprint}, claims
        )

    good = json.loads(jws.unb64url(mine.assertion(GATEWAY, at(NOW), KEY.thumbprint).split(".")[1]))

    def key_of(asked: str) -> bytes | None:
        return mine.public_key if asked == "startup/ml" else None

    assert verify_assertion(sign(good), key_of, GATEWAY, at(NOW), never).identity == "startup/ml"
    for change in ({"sub": name}, {"sub": name, "iss": name}, {"iss": name}, {"aud": name}):
        with pytest.raises(NotAuthenticated):
            verify_assertion(sign({**good, **change}), key_of, GATEWAY, at(NOW), never)


def test_a_proof_for_one_endpoint_serves_no_other() -> None:
    proof = KEY.proof("POST", URL, now=at(NOW), nonce=NONCE)
    for request in (
        ("POST", "https://gw.example/oauth/revoke"),
        ("POST", "https://gw.example/oauth/token/"),
        ("GET", URL),
        ("POST", "https://gw.example:8787/oauth/token"),
        ("POST", "http://gw.example/oauth/token"),
        ("POST", "https://gw.example.thief/oauth/token"),
        ("POST", "https://gw.example/OAUTH/token"),
    ):
        with pytest.raises(NotAuthenticated):
            verify_proof(proof, request, None, at(NOW), never, NONCE)
    assert verify_proof(proof, ("POST", URL), None, at(NOW), never, NONCE) == KEY.thumbprint


def test_a_token_is_for_one_gateway_and_its_key() -> None:
    for audience in ("https://gw.example/", "https://GW.example", "https://gw.example.thief", ""):
        with pytest.raises(NotAuthenticated):
            verify(TOKEN, KEYS, audience, at(NOW))
    assert GOOD.thumbprint != OTHER.thumbprint
    with pytest.raises(NotAuthenticated):
        GOOD.require_bound_to(OTHER.thumbprint)
