"""A person's login: who answers the browser, what is kept, and how it is renewed."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

import gateway.wire as W
from gateway.client import login as flow
from gateway.client import logins
from gateway.client.credentials import (
    WorkloadTokenFile,
    find_foreign_token,
    find_key_file,
    login_file,
)
from gateway.client.logins import KeptLogin, LoginRecord
from gateway.client.provider import DISCOVERY, Provider
from gateway.config import Settings
from gateway.errors import ConfigError, InvalidInput, NotAuthenticated, NotFound, Unavailable
from tests.crypto.provider import Provider as Signer
from tests.services.key_server import KeyServer, Page

SERVER = "https://gateway.example"
NOW = 1_800_000_000
SIGNER = Signer("RS256")


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as started:
        document = {
            "issuer": started.url,
            "authorization_endpoint": f"{started.url}/auth",
            "token_endpoint": f"{started.url}/token",
            "revocation_endpoint": f"{started.url}/revoke",
        }
        started.pages[DISCOVERY] = Page(json.dumps(document).encode())
        yield started


def token(ends: float = NOW + 3600, **claims: Any) -> str:
    return SIGNER.token({"sub": "ana", "exp": ends, **claims})


def gives(**reply: Any) -> Callable[[dict[str, str]], Page]:
    return lambda _: Page(json.dumps(reply).encode())


def kept(server: KeyServer, directory: Path, **changes: Any) -> Path:
    """A login whose token ends in half a minute."""
    record = LoginRecord(
        server=SERVER,
        issuer=server.url,
        client_id="gateway-cli",
        scope="openid offline_access",
        resource=None,
        token=token(NOW + 30),
        expires_at=NOW + 30,
        refresh_token="first",
    )
    path = directory / "logins" / "x.json"
    replace(record, **changes).write(path)
    return path


def current(path: Path, now: float = NOW) -> str:
    return KeptLogin(path, None, lambda: now).current()


# the chain


def test_who_we_are_is_found_by_the_chain(tmp_path: Path, server: KeyServer) -> None:
    """Explicit, environment, workload token, login, key file: each only when those before lack."""
    bare = Settings(config_dir=tmp_path / "config", state_dir=tmp_path)
    assert find_foreign_token(bare, SERVER) is None
    assert find_key_file(bare) == tmp_path / "config" / "identity.json"
    kept(server, tmp_path).rename(login_file(bare, SERVER))
    found = find_foreign_token(bare, SERVER)
    assert isinstance(found, KeptLogin)
    assert found.origin == str(login_file(bare, SERVER))
    assert find_foreign_token(bare, "https://other.example") is None, "a login is of one server"
    workload = replace(bare, workload_token_file=tmp_path / "token")
    assert find_foreign_token(workload, SERVER) == WorkloadTokenFile(tmp_path / "token")
    keyed = replace(workload, key_file=tmp_path / "key.json")  # GATEWAY_KEY_FILE
    assert find_foreign_token(keyed, SERVER) is None
    assert find_key_file(keyed) == tmp_path / "key.json"
    assert find_foreign_token(workload, SERVER, "mine.json") is None
    assert find_key_file(keyed, "mine.json") == Path("mine.json")


# renewal


def test_a_token_that_is_good_is_shown_without_asking_anybody(
    server: KeyServer, tmp_path: Path
) -> None:
    path = kept(server, tmp_path, expires_at=NOW + 61)
    assert current(path) == token(NOW + 30)
    assert server.asked == []


def test_a_login_is_renewed_before_its_token_ends(server: KeyServer, tmp_path: Path) -> None:
    path = kept(server, tmp_path)
    server.answer = gives(id_token=token(), refresh_token="second", expires_in=1)
    assert current(path) == token()
    assert server.forms == [
        {"grant_type": "refresh_token", "refresh_token": "first", "client_id": "gateway-cli"}
    ]
    record = LoginRecord.read(path)
    assert (record.refresh_token, record.expires_at) == ("second", NOW + 3600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert current(path) == token()
    assert len(server.forms) == 1


def test_many_at_once_renew_it_once(server: KeyServer, tmp_path: Path) -> None:
    """A refresh token that is used twice ends the login."""
    path, used = kept(server, tmp_path), set[str]()

    def answer(form: dict[str, str]) -> Page:
        if form["refresh_token"] in used:
            return Page(b'{"error": "invalid_grant"}', status=400)
        used.add(form["refresh_token"])
        return Page(json.dumps({"id_token": token(), "refresh_token": "second"}).encode())

    server.answer = answer
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: current(path), range(8))) == {token()}
    assert used == {"first"}


@pytest.mark.parametrize("status", [302, 429, 500, 503])
def test_a_provider_that_is_down_is_unavailable_and_ends_no_login(
    server: KeyServer, tmp_path: Path, status: int
) -> None:
    path = kept(server, tmp_path)
    server.answer = lambda _: Page(b"{}", status=status, headers={"Location": "/elsewhere"})
    assert current(path) == token(NOW + 30), "good for a moment yet"
    with pytest.raises(Unavailable):
        current(path, NOW + 31)
    server.answer = gives(id_token=token())
    assert current(path, NOW + 31) == token()
    assert LoginRecord.read(path).refresh_token == "first", "none came, so the old one stays"
    server.stop()
    with pytest.raises(Unavailable):
        current(path, NOW + 3601)


@pytest.mark.parametrize(
    "reply",
    [
        {"id_token": token(sub="mallory")},
        {"id_token": "no JWT"},
        {"access_token": token()},
        {"id_token": 7},
    ],
)
def test_a_renewal_that_is_not_of_this_login_is_refused(
    server: KeyServer, tmp_path: Path, reply: dict[str, Any]
) -> None:
    path = kept(server, tmp_path)
    before = path.read_bytes()
    server.answer = gives(**reply)
    with pytest.raises(NotAuthenticated):
        current(path, NOW + 31)
    assert path.read_bytes() == before


def test_a_login_that_has_ended_says_what_to_do(server: KeyServer, tmp_path: Path) -> None:
    server.answer = lambda _: Page(b'{"error": "invalid_grant"}', status=400)
    for path in (kept(server, tmp_path), kept(server, tmp_path, refresh_token=None)):
        with pytest.raises(NotAuthenticated) as refused:
            current(path, NOW + 31)
        assert "gateway login" in refused.value.advice


def test_a_login_that_others_can_read_or_that_is_none_is_refused(
    server: KeyServer, tmp_path: Path
) -> None:
    path = kept(server, tmp_path)
    path.chmod(0o644)
    with pytest.raises(ConfigError):
        current(path)
    path.chmod(0o600)
    for text in ("", "{}", "[]", '{"format": "x"}'):
        path.write_text(text)
        with pytest.raises(ConfigError):
            current(path)
    path.unlink()
    with pytest.raises(NotFound):
        current(path)


def test_a_provider_is_asked_only_over_https_or_on_this_machine(server: KeyServer) -> None:
    for issuer in ("http://provider.example", "ftp://127.0.0.1", "https://", "x"):
        with pytest.raises(ConfigError):
            Provider.discover(issuer, None)
    page = server.pages[DISCOVERY]
    for name, value in (
        ("issuer", "https://other.example"),
        ("token_endpoint", "http://provider.example/token"),
        ("authorization_endpoint", None),
    ):
        changed = {**json.loads(page.body), name: value}
        server.pages[DISCOVERY] = Page(json.dumps(changed).encode())
        with pytest.raises(ConfigError):
            Provider.discover(server.url, None)


def test_logging_out_tells_the_provider_and_removes_even_what_cannot_be_read(
    server: KeyServer, tmp_path: Path
) -> None:
    server.answer = lambda _: Page(b"")
    path = kept(server, tmp_path)
    assert logins.forget(path, None) == (True, True)
    assert server.forms[0]["token"] == "first"
    assert not path.exists()
    assert logins.forget(path, None) == (False, False)
    path = kept(server, tmp_path)
    server.stop()
    assert logins.forget(path, None) == (True, False)
    path.write_text("x")
    path.chmod(0o600)
    assert logins.forget(path, None) == (True, False)


# the browser comes back


def where(server: KeyServer, **changes: Any) -> W.LoginProvider:
    found = W.LoginProvider(issuer=server.url, client_id="gateway-cli", scope="openid")
    return replace(found, **changes)


def logged_in(
    server: KeyServer, come_back: Callable[[str, dict[str, str]], None], **claims: Any
) -> LoginRecord:
    """Log in; `come_back` gets the redirect and what was asked for."""
    threads = []

    def show(url: str) -> None:
        asked = {name: each[0] for name, each in parse_qs(urlsplit(url).query).items()}
        said = {"iss": server.url, "aud": "gateway-cli", "nonce": asked["nonce"], **claims}
        server.answer = gives(id_token=token(**said), refresh_token="first")
        assert asked["code_challenge_method"] == "S256"
        threads.append(threading.Thread(target=come_back, args=(asked["redirect_uri"], asked)))
        threads[0].start()

    try:
        return flow.log_in(
            SERVER, where(server), Provider.discover(server.url, None), show, lambda: NOW
        )
    finally:
        for each in threads:
            each.join(10)


def visit(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as reply:  # noqa: S310 - http to this machine
            return int(reply.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_only_an_answer_with_our_state_is_taken(server: KeyServer) -> None:
    codes: list[int] = []

    def come_back(redirect: str, asked: dict[str, str]) -> None:
        state = quote(asked["state"])
        wrong = ("", "?code=evil", "?code=evil&state=x", f"?code=evil&state={state}x")
        codes.extend(visit(redirect + query) for query in wrong)
        codes.append(visit(redirect.replace("callback", "other") + f"?code=evil&state={state}"))
        codes.append(visit(f"{redirect}?code=good&state={state}"))

    record = logged_in(server, come_back)
    assert codes == [404] * 5 + [200]
    assert record.refresh_token == "first"
    (form,) = server.forms
    assert (form["code"], form["grant_type"]) == ("good", "authorization_code")
    assert len(form["code_verifier"]) >= 43


@pytest.mark.parametrize(
    ("query", "claims"),
    [
        ("error=access_denied", {}),
        ("", {}),
        ("code=c&iss=https%3A%2F%2Fother.example", {}),
        ("code=c", {"nonce": "another"}),
        ("code=c", {"nonce": None}),
        ("code=c", {"aud": "another-client"}),
        ("code=c", {"iss": "https://other.example"}),
    ],
)
def test_an_answer_that_is_not_of_this_login_is_refused(
    server: KeyServer, query: str, claims: dict[str, Any]
) -> None:
    def come_back(redirect: str, asked: dict[str, str]) -> None:
        visit(f"{redirect}?{query}&state={quote(asked['state'])}")

    with pytest.raises(NotAuthenticated):
        logged_in(server, come_back, **claims)


def test_nobody_is_waited_for_for_ever(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "WAIT_SECONDS_MAX", 0.1)
    with pytest.raises(Unavailable):
        logged_in(server, lambda _, __: None)


def test_one_of_several_providers_is_named(server: KeyServer) -> None:
    one, two = where(server), where(server, issuer="https://two.example")
    assert flow.chosen((one,), None) == one
    assert flow.chosen((one, two), "https://two.example") == two
    with pytest.raises(InvalidInput, match="several"):
        flow.chosen((one, two), None)
    for listed, issuer in (((), None), ((one,), "https://three.example")):
        with pytest.raises(ConfigError):
            flow.chosen(listed, issuer)
