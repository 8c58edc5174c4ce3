"""`gateway login`: a person, a browser, and a code that only this process can use.

Authorization code with PKCE (RFC 7636) and a redirect to this machine (RFC 8252), `state` and
`iss` checked against mix-up (RFC 9207), `nonce` in the ID token. No password and no client
secret passes through here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import gateway.wire as W
from gateway.client.connections import Connections, tls_context
from gateway.client.jwt_claims import claims_of
from gateway.client.logins import LoginRecord
from gateway.client.provider import Provider
from gateway.client.replies import error_of
from gateway.errors import ConfigError, InvalidInput, NotAuthenticated, Unavailable
from gateway.wire import codec

WAIT_SECONDS_MAX = 300.0  # for the person
METADATA = "/.well-known/oauth-authorization-server"
_CALLBACK = "/callback"
_OK = 200
_DONE = b"Done. You can close this window and go back to the terminal.\n"


def providers_of(server: str, authority: Path | None) -> tuple[W.LoginProvider, ...]:
    """Where this gateway says that people log in."""
    connections = Connections(server, lambda: tls_context(authority))
    try:
        reply = connections.send("GET", METADATA, None, {})
    finally:
        connections.close()
    if reply.status != _OK:
        raise error_of(reply, METADATA)
    found = reply.json()
    listed = found.get("login_providers", []) if isinstance(found, dict) else []
    if not isinstance(listed, list):
        raise Unavailable("the server's answer is not a gateway's")
    return tuple(codec.decode_reply(W.LoginProvider, each) for each in listed)


def chosen(providers: tuple[W.LoginProvider, ...], issuer: str | None) -> W.LoginProvider:
    """The one that was named, or the only one; InvalidInput otherwise."""
    fitting = [each for each in providers if issuer in (None, each.issuer)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ConfigError(
            "nobody logs in at this gateway" if issuer is None else "no such issuer here",
            advice="its operator writes `login` into the table of trusted issuers; "
            "or use a key file",
        )
    names = ", ".join(each.issuer for each in fitting)
    raise InvalidInput("there are several providers", advice=f"name one with --issuer: {names}")


def log_in(
    server: str,
    where: W.LoginProvider,
    provider: Provider,
    show: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> LoginRecord:
    """Have a person log in; `show` is given the URL to open.

    Raises:
        NotAuthenticated: the provider or the person refused, or what came back is not of this
            login.
        Unavailable: nobody came back in time.
    """
    attempt = _Attempt(nonce=_random(), state=_random(), verifier=_random())
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        listener.expected = attempt.state
        redirect = f"http://127.0.0.1:{listener.server_port}{_CALLBACK}"
        show(_url(where, provider, attempt, redirect))
        answer = listener.answer(WAIT_SECONDS_MAX)
    if "error" in answer or "code" not in answer:
        raise NotAuthenticated(f"the provider refused: {answer.get('error', 'no code')[:200]}")
    if answer.get("iss", provider.issuer) != provider.issuer:
        raise NotAuthenticated("another provider answered")
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect,
        "client_id": where.client_id,
        "code_verifier": attempt.verifier,
        **({"resource": where.resource} if where.resource else {}),
    }
    reply = provider.tokens(form)
    if "id_token" in reply:
        _check_id_token(str(reply["id_token"]), where, attempt.nonce)
    empty = LoginRecord(
        server=server,
        issuer=where.issuer,
        client_id=where.client_id,
        scope=where.scope,
        resource=where.resource,
        token="",
        expires_at=0,
        refresh_token=None,
    )
    return empty.with_tokens(reply, now())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    nonce: str
    state: str
    verifier: str


def _random() -> str:
    return secrets.token_urlsafe(32)


def _url(where: W.LoginProvider, provider: Provider, attempt: _Attempt, redirect: str) -> str:
    digest = hashlib.sha256(attempt.verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": where.client_id,
        "redirect_uri": redirect,
        "scope": where.scope,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        **({"prompt": "consent"} if "offline_access" in where.scope.split() else {}),  # OIDC §11
        **({"resource": where.resource} if where.resource else {}),
    }
    joint = "&" if "?" in provider.authorization_endpoint else "?"
    return provider.authorization_endpoint + joint + urlencode(asked)


def _check_id_token(token: str, where: W.LoginProvider, nonce: str) -> None:
    """It came from the provider itself over TLS, so its signature may go unchecked (OIDC 3.1.3.7).

    The gateway verifies it anyway, before it believes anything.
    """
    said = claims_of(token)
    audience = said.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    same = isinstance(said.get("nonce"), str) and hmac.compare_digest(said["nonce"], nonce)
    if said.get("iss") != where.issuer or where.client_id not in named or not same:
        raise NotAuthenticated("the ID token is not of this login")


class _Listener(HTTPServer):
    """Waits on this machine for the browser to come back with an answer of this login."""

    expected = ""
    found: dict[str, str] | None = None

    def answer(self, seconds: float) -> dict[str, str]:
        """The parameters of the redirect; Unavailable when nobody comes."""
        deadline = time.monotonic() + seconds
        while self.found is None:
            self.timeout = deadline - time.monotonic()
            if self.timeout <= 0:
                raise Unavailable("nobody logged in in time", advice="run `gateway login` again")
            self.handle_request()
        return self.found


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0  # a stranger who connects and says nothing holds nobody up
    server: _Listener

    def do_GET(self) -> None:
        """Take the answer with our `state`; whatever else comes changes nothing."""
        parts = urlsplit(self.path)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        state = given.get("state", "").encode()
        if parts.path != _CALLBACK or not hmac.compare_digest(state, self.server.expected.encode()):
            self.send_error(404)
            return
        self.server.found = given
        self.send_response(_OK)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(_DONE)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(_DONE)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Say nothing: the line would hold the code."""
