"""How the client finds, proves, renews, retries, and what it raises."""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.client.client import GatewayClient
from gateway.client.connections import Connections
from gateway.client.credentials import check_url, find_key_file, find_server
from gateway.client.replies import Response, error_of, kinds
from gateway.client.targets import segment
from gateway.client.transport import Transport
from gateway.config import Settings
from gateway.crypto.identity_keys import IdentityKey
from gateway.crypto.tokens import DpopKey
from gateway.errors import (
    AccessDenied,
    ConfigError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from tests.api.secured import SecuredSimulator
from tests.client.conftest import Login


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example",
        "ftp://127.0.0.1",
        "127.0.0.1:8787",
        "https://user:pw@host",
        "https://host/path",
        "https://host?x=1",
        "http://127.0.0.1:99999",
        "",
    ],
)
def test_a_url_that_would_send_tokens_in_the_clear_or_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        check_url(url)


def test_the_server_and_the_key_are_found_by_the_chain(tmp_path: Path) -> None:
    bare = Settings(config_dir=tmp_path, runtime_dir=tmp_path, state_dir=tmp_path)
    with pytest.raises(Unavailable, match="no gateway is running"):
        find_server(bare)
    facts = {"url": "http://127.0.0.1:1", "pid": os.getpid()}
    (tmp_path / "server.json").write_text(json.dumps(facts))
    assert find_server(bare) == "http://127.0.0.1:1"
    (tmp_path / "server.json").write_text(json.dumps({**facts, "pid": 2**22 + 1}))
    with pytest.raises(Unavailable):
        find_server(bare)
    named = Settings(server="https://a.example/", runtime_dir=tmp_path)
    assert find_server(named) == "https://a.example"
    assert find_server(named, "http://[::1]:8") == "http://[::1]:8"
    assert find_key_file(bare) == tmp_path / "identity.json"
    assert find_key_file(bare, "other.json") == Path("other.json")


def test_a_key_file_that_others_can_read_is_refused(login: Login) -> None:
    client = login("clinic/owner")
    client.transport._key_file.chmod(0o644)
    with pytest.raises(ConfigError):
        client.whoami()


def test_an_identity_that_the_gateway_does_not_know_is_refused(url: str, tmp_path: Path) -> None:
    IdentityKey.create(tmp_path / "k.json", "clinic/owner")
    with pytest.raises(NotAuthenticated) as refused:
        GatewayClient(url, tmp_path / "k.json", Settings(config_dir=tmp_path)).whoami()
    assert refused.value.facts["server"] == url


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    IdentityKey.create(tmp_path / "k.json", "clinic/owner")
    transport = Transport(f"http://127.0.0.1:{port}", tmp_path / "k.json", retry_seconds=(0.01,))
    with pytest.raises(Unavailable, match="no gateway answers"):
        transport.request("GET", "/v1/whoami")


def test_an_answer_that_is_no_gateways_is_unavailable() -> None:
    reply = Response(status=502, headers={}, body=b"<html>bad gateway</html>")
    assert isinstance(error_of(reply, "/v1/x"), Unavailable)


def test_every_error_class_comes_back_as_itself() -> None:
    for code, kind in kinds().items():
        body = json.dumps({"type": f"/docs/reference/errors.md#{code}", "detail": "d"}).encode()
        error = error_of(Response(status=400, headers={}, body=body), "/v1/x")
        assert type(error) is kind
    odd = json.dumps({"type": "x#none", "message": "m", "position": 1}).encode()
    assert error_of(Response(status=400, headers={}, body=odd), "/v1/x").code == "internal"


def test_no_name_leaves_its_place_in_a_path(login: Login) -> None:
    client = login("clinic/owner")
    assert segment("../a?b#c/d") == "..%2Fa%3Fb%23c%2Fd"
    with pytest.raises(NotFound):
        client.grants.show("../whoami")
    with pytest.raises(InvalidInput):
        client.datasets.show("clinic/../startup")


def test_the_token_is_kept_in_memory_and_renewed_before_it_ends(
    login: Login, gateway: SecuredSimulator, tmp_path: Path
) -> None:
    client = login("clinic/owner")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    for _ in range(3):
        assert client.whoami().subject == "clinic/owner"
    assert gateway.issued == 1
    assert client.transport._token is not None
    client.transport._token = replace(client.transport._token, renew_at=0.0, ends_at=0.0)
    client.whoami()
    assert gateway.issued == 2
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_token_that_the_server_no_longer_takes_is_renewed_once(
    login: Login, gateway: SecuredSimulator
) -> None:
    client = login("clinic/owner")
    client.whoami()
    gateway.signer = type(gateway.signer)(os.urandom(32), "token")
    assert client.whoami().subject == "clinic/owner"
    assert gateway.issued == 2


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    login: Login, gateway: SecuredSimulator
) -> None:
    client = login("clinic/owner")
    honest, calls = gateway.datasets, []

    async def away(*given: object) -> object:
        calls.append(1)
        if len(calls) < 3:
            raise Unavailable("starting")
        return await honest(*given)  # type: ignore[arg-type]

    gateway.datasets = away  # type: ignore[assignment, method-assign]
    client.transport._retry_seconds = (0.01, 0.01, 0.01)
    assert len(client.datasets.list()) == 1
    assert len(calls) == 3


def test_an_answer_that_was_cut_off_is_none_and_asked_for_again() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[1,2,3]"
    for cut in (-1, -7, -8):
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer(server: socket.socket = server, cut: int = cut) -> None:
                for data in (whole[:cut], whole):
                    with server.accept()[0] as peer:
                        peer.recv(65536)
                        peer.sendall(data)

            thread = threading.Thread(target=answer)
            thread.start()
            connections = Connections(f"http://127.0.0.1:{server.getsockname()[1]}", None)
            with pytest.raises(Unavailable, match="no gateway answers"):
                connections.send("GET", "/", None, {})
            assert connections.send("GET", "/", None, {}).json() == [1, 2, 3]
            thread.join()
            connections.close()


def test_threads_have_connections_of_their_own(login: Login) -> None:
    client = login("clinic/owner")
    seen: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: (seen.append(client.whoami().subject), client.close())  # type: ignore[func-returns-value]
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["clinic/owner"] * 8


def test_a_denied_token_says_why_and_what_would_have_to_change(login: Login) -> None:
    client = login("startup/ml")
    with pytest.raises(AccessDenied) as denied:
        client.tokens.request("clinic/icu", purpose="marketing")
    assert denied.value.decision
    assert denied.value.decision.startswith("dec_")
    assert "research" in (denied.value.advice or "")
    assert denied.value.exit_code == 3


def test_the_nonce_of_a_server_that_was_restarted_is_taken_up_once_and_in_silence(
    login: Login, gateway: SecuredSimulator
) -> None:
    client = login("startup/ml")
    for nonce in ("first-start", "second-start"):
        gateway.nonce = nonce
        assert client.whoami().subject == "startup/ml"
        assert client.transport._nonce == nonce
    assert gateway.issued == 1, "the token outlives it"
    gateway.nonce = "third-start"
    client.transport._token = None
    assert client.tokens.request("clinic/icu", purpose="research").grant
    fresh = login("clinic/owner")
    headers = fresh.tokens.proof("GET", "/v1/whoami", token="a.b.c", key=DpopKey())
    assert fresh.transport._nonce == "third-start"
    assert headers["Authorization"] == "DPoP a.b.c"


def test_a_server_that_wants_ever_another_nonce_is_an_error_and_no_loop(
    login: Login, gateway: SecuredSimulator
) -> None:
    client, asked = login("startup/ml"), []
    honest = gateway._proof

    def fickle(*given: Any) -> str:
        gateway.nonce = f"nonce-{len(asked)}"
        asked.append(gateway.nonce)
        return honest(*given)

    gateway._proof = fickle  # type: ignore[method-assign]
    with pytest.raises(NotAuthenticated):
        client.whoami()
    assert len(asked) == 2
