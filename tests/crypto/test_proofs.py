"""Proofs and assertions are good once, for one request, by one key, within a minute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc.errors import JoseError

from gateway.crypto import dpop, jws
from gateway.crypto.identity_keys import public_key_of
from gateway.crypto.jose import require_signature
from gateway.crypto.signing import Signer
from gateway.crypto.tokens import (
    DpopKey,
    IdentityKey,
    ReplayMemory,
    verify_assertion,
    verify_proof,
)
from gateway.errors import ConfigError, Conflict, InvalidInput, LimitExceeded, NotAuthenticated

NOW = 1_800_000_000
URL = "http://127.0.0.1:8787/v1/leases"
KEY = DpopKey()
TOKEN = "a.b.c"
AUDIENCE = "https://gw.example/oauth/token"


def at(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def never(_: str) -> bool:
    return False


def proof(**changed: Any) -> str:
    given = {"method": "POST", "url": URL, "now": at(NOW), "access_token": TOKEN} | changed
    return KEY.proof(**given)


def check(text: str, **changed: Any) -> str:
    given = {
        "method": "POST",
        "url": URL,
        "access_token": TOKEN,
        "now": at(NOW),
        "seen": never,
    } | changed
    return verify_proof(text, (given.pop("method"), given.pop("url")), **given)


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "GET"},
        {"method": "post"},
        {"url": URL + "/x"},
        {"url": URL.replace("127.0.0.1", "127.0.0.2")},
        {"url": URL.replace("8787", "8788")},
        {"url": URL.replace("http", "https")},
        {"access_token": "other"},
        {"access_token": None},
        {"now": at(NOW + 61)},
        {"now": at(NOW - 31)},
        {"seen": lambda _: True},
    ],
)
def test_a_proof_for_one_request_does_not_serve_another(changed: dict[str, Any]) -> None:
    with pytest.raises(NotAuthenticated):
        check(proof(), **changed)


def test_a_proof_without_the_token_does_not_serve_with_one() -> None:
    with pytest.raises(NotAuthenticated):
        check(proof(access_token=None))
    check(proof(access_token=None), access_token=None)


def test_a_proof_is_good_once() -> None:
    memory = ReplayMemory(at(0))
    text = proof()
    check(text, seen=memory.seen)
    with pytest.raises(NotAuthenticated, match="jti"):
        check(text, seen=memory.seen)


def test_only_authentic_proofs_are_remembered() -> None:
    asked: list[str] = []
    head, body, _ = proof().split(".")
    with pytest.raises(NotAuthenticated):
        check(f"{head}.{body}.{'A' * 86}", seen=lambda key: bool(asked.append(key)))
    assert asked == []


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "x": 1},
        {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": "A" * 43},
        [],
        None,
    ],
)
def test_a_proof_by_a_key_of_another_kind_is_refused(jwk: object) -> None:
    header = {"typ": "dpop+jwt", "jwk": jwk}
    claims = {"jti": "j" * 22, "htm": "POST", "htu": URL, "iat": NOW, "ath": "x"}
    with pytest.raises(NotAuthenticated):
        check(jws.compose(lambda _: bytes(64), header, claims))


@pytest.mark.parametrize(
    "change",
    [{"iat": float(NOW)}, {"iat": None}, {"jti": "x"}, {"htm": None}, {"htu": "ftp://x/"},
     {"htu": "http://user@127.0.0.1:8787/v1/leases"}, {"htu": "http://[::1"}, {"more": 1}],
)  # fmt: skip
def test_a_proof_with_other_claims_is_refused(change: dict[str, Any]) -> None:
    signer = Signer(b"\x07" * 32, "token")
    claims = json.loads(jws.unb64url(proof().split(".")[1])) | change
    header = {"typ": "dpop+jwt", "jwk": jws.public_jwk(signer.public_key)}
    with pytest.raises(NotAuthenticated):
        check(jws.compose(signer.sign_text, header, claims))


def test_a_proof_serves_the_same_resource_however_it_is_written() -> None:
    for url in (URL + "?a=1", URL + "#x", URL.replace("http", "HTTP")):
        assert check(proof(url=url)) == KEY.thumbprint
    assert dpop.normal_url("https://GW.example:443") == "https://gw.example/"
    assert dpop.normal_url("http://[::1]:80/a") == "http://[::1]/a"


def test_a_proof_that_does_not_answer_the_nonce_is_told_it_and_stays_unused() -> None:
    def asked(_: str) -> bool:
        raise AssertionError("a proof that was refused is not remembered")

    nonce = dpop.nonce_of("ab" * 16)
    for given in (None, "", dpop.nonce_of("cd" * 16)):
        with pytest.raises(NotAuthenticated) as caught:
            check(proof(nonce=given), nonce=nonce, seen=asked)
        assert caught.value.facts["nonce"] == nonce
        assert caught.value.facts["nonce_missing"] == (given is None)
    assert check(proof(nonce=nonce), nonce=nonce) == KEY.thumbprint
    assert check(proof(nonce="n-1")) == KEY.thumbprint, "nobody asked for one"


def test_an_algorithm_beside_ed25519_never_reaches_a_key() -> None:
    header = {"typ": "dpop+jwt", "jwk": jws.public_jwk(KEY.public_key)}
    text = jws.compose(lambda _: bytes(64), header, {})
    hs256 = jws.b64url(b'{"alg":"HS256"}') + text[text.index(".") :]
    with pytest.raises(JoseError):
        require_signature(hs256, jws.b64url(KEY.public_key))


def test_a_seed_of_another_length_is_no_identity() -> None:
    with pytest.raises(InvalidInput):
        IdentityKey("startup/ml", b"short")


def test_a_memory_that_is_full_refuses_and_forgets_in_time() -> None:
    clock = [0.0]
    memory = ReplayMemory(lambda: clock[0], seconds=10, capacity=2)
    assert [memory.seen(k) for k in ("a", "b", "a")] == [False, False, True]
    with pytest.raises(LimitExceeded):
        memory.seen("c")
    clock[0] = 10.0
    assert not memory.seen("c")
    assert not memory.seen("a")


# Identity keys


@pytest.fixture
def identity(tmp_path: Path) -> IdentityKey:
    return IdentityKey.create(tmp_path / "keys" / "ml.json", "startup/ml")


def accept(assertion: str, key: IdentityKey, **changed: Any) -> Any:
    given = {
        "key_lookup": {key.identity: key.public_key}.get,
        "audience": AUDIENCE,
        "now": at(NOW),
        "seen": never,
    } | changed
    return verify_assertion(assertion, **given)


@pytest.mark.parametrize(
    "changed",
    [
        {"audience": "https://other.example/oauth/token"},
        {"now": at(NOW + 90)},
        {"now": at(NOW - 31)},
        {"seen": lambda _: True},
        {"key_lookup": lambda _: None},
        {"key_lookup": lambda _: bytes(32)},
        {"key_lookup": lambda _: DpopKey().public_key},
    ],
)
def test_an_assertion_counts_here_now_once_for_a_known_key(
    identity: IdentityKey, changed: dict[str, Any]
) -> None:
    assertion = identity.assertion(AUDIENCE, at(NOW), KEY.thumbprint)
    with pytest.raises(NotAuthenticated):
        accept(assertion, identity, **changed)


def test_an_assertion_is_no_proof_and_a_proof_no_assertion(identity: IdentityKey) -> None:
    with pytest.raises(NotAuthenticated):
        check(identity.assertion(AUDIENCE, at(NOW), KEY.thumbprint))
    with pytest.raises(NotAuthenticated):
        accept(proof(), identity)


@pytest.mark.parametrize(
    "change",
    [
        {"sub": "clinic/owner"},
        {"iss": "clinic/owner"},
        {"exp": NOW + 61},
        {"exp": NOW},
        {"cnf": {}},
        {"cnf": "x"},
        {"cnf": {"jkt": "short"}},
        {"jti": ""},
        {"aud": [AUDIENCE]},
        {"scope": "x"},
    ],
)
def test_an_assertion_with_other_claims_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    identity = IdentityKey.create(tmp_path / "a.json", "startup/ml")
    good = identity.assertion(AUDIENCE, at(NOW), KEY.thumbprint)
    claims = json.loads(jws.unb64url(good.split(".")[1])) | change
    fields = json.loads((tmp_path / "a.json").read_text())
    signer = Signer(jws.unb64url(fields["private_key"]), "token")
    header = {"typ": "gateway-identity+jwt", "kid": identity.thumbprint}
    accept(good, identity)
    with pytest.raises(NotAuthenticated):
        accept(
            jws.compose(signer.sign_text, header, claims),
            identity,
            key_lookup=lambda _: identity.public_key,
        )


def test_an_assertion_under_the_key_id_of_another_is_refused(tmp_path: Path) -> None:
    identity = IdentityKey.create(tmp_path / "a.json", "startup/ml")
    good = identity.assertion(AUDIENCE, at(NOW), KEY.thumbprint)
    claims = json.loads(jws.unb64url(good.split(".")[1]))
    fields = json.loads((tmp_path / "a.json").read_text())
    signer = Signer(jws.unb64url(fields["private_key"]), "token")
    header = {"typ": "gateway-identity+jwt", "kid": KEY.thumbprint}
    with pytest.raises(NotAuthenticated):
        accept(jws.compose(signer.sign_text, header, claims), identity)


def test_a_verified_assertion_names_both_keys(identity: IdentityKey) -> None:
    found = accept(identity.assertion(AUDIENCE, at(NOW + 20), KEY.thumbprint), identity)
    assert (found.identity, found.thumbprint) == ("startup/ml", identity.thumbprint)
    assert found.dpop_thumbprint == KEY.thumbprint
    assert found.expires_at == NOW + 80


@pytest.mark.parametrize("name", ["", "ml", "startup/", "/ml", "a/b/c", "Startup/ml", "a/b\n"])
def test_a_name_that_is_no_identity_gets_no_key(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        IdentityKey.create(tmp_path / "a.json", name)
    assert not (tmp_path / "a.json").exists()


def test_an_identity_key_is_never_overwritten(tmp_path: Path) -> None:
    first = IdentityKey.create(tmp_path / "a.json", "startup/ml")
    with pytest.raises(Conflict):
        IdentityKey.create(tmp_path / "a.json", "startup/ml")
    assert IdentityKey.load(tmp_path / "a.json").thumbprint == first.thumbprint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_an_identity_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    IdentityKey.create(tmp_path / "a.json", "startup/ml")
    (tmp_path / "a.json").chmod(mode)
    with pytest.raises(ConfigError):
        IdentityKey.load(tmp_path / "a.json")


def test_a_missing_or_damaged_identity_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ConfigError, match="there is no"):
        IdentityKey.load(path)
    key = IdentityKey.create(path, "startup/ml")
    good = json.loads(path.read_text())
    for change in (
        {"public_key": "A" * 43},
        {"private_key": "x"},
        {"private_key": 1},
        {"identity": "nobody"},
        {"identity": 1},
        {"format": "x"},
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ConfigError):
            IdentityKey.load(path)
    assert good["private_key"] not in repr(key)


@pytest.mark.parametrize("text", ["", "A" * 42, "A" * 44, "+" * 43, "A" * 42 + "B"])
def test_a_public_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        public_key_of(text)


@pytest.mark.parametrize("top", [0, 0x80])
@pytest.mark.parametrize("y", sorted(jws._SMALL_ORDER))
def test_a_key_under_which_anybody_can_sign_is_refused(y: int, top: int) -> None:
    key = bytearray(y.to_bytes(32, "little"))
    key[-1] |= top
    with pytest.raises(InvalidInput):
        public_key_of(jws.b64url(bytes(key)))
    header = {"typ": "dpop+jwt", "jwk": jws.public_jwk(bytes(key))}
    claims = {"jti": "j" * 22, "htm": "POST", "htu": URL, "iat": NOW}
    identity_point = bytes([1]) + bytes(31)
    with pytest.raises(NotAuthenticated, match="jwk"):
        check(jws.compose(lambda _: identity_point + bytes(32), header, claims), access_token=None)


def test_the_list_of_weak_keys_is_complete() -> None:
    """y of small order: 8 times the point is the neutral one (RFC 8032 §5.1.4 doubling)."""
    p = jws._P
    d = -121665 * pow(121666, -1, p) % p
    for y in jws._SMALL_ORDER:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        if x * x % p != square:
            x = x * pow(2, (p - 1) // 4, p) % p
        assert x * x % p == square
        point = (x, y % p)
        for _ in range(3):
            a, b = point
            t = d * a * a * b * b
            point = (
                2 * a * b * pow(1 + t, -1, p) % p,
                (b * b + a * a) * pow(1 - t, -1, p) % p,
            )
        assert point == (0, 1)
    assert {y % p for y in jws._SMALL_ORDER} == {0, 1, p - 1, jws._Y8, p - jws._Y8}


def test_a_public_key_reads_back(identity: IdentityKey) -> None:
    assert public_key_of(identity.public_text) == identity.public_key
