"""HTTP to the gateway: sender-bound tokens, silent renewal, typed errors. Standard library.

One connection per thread and process; a DPoP proof per request; the API token is obtained
with the identity key, kept in memory only, and renewed before it ends. A request that may be
repeated without harm is repeated while the server says 503 or is restarting.
"""

from __future__ import annotations

import json as json_module
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gateway.client.replies import Response, error_of
from gateway.client.targets import unicode_only
from gateway.errors import (
    ConfigError,
    GatewayError,
    InvalidInput,
    LimitExceeded,
    NotAuthenticated,
    Unavailable,
)
from gateway.wire import codec

if TYPE_CHECKING:
    from ssl import SSLContext

    from gateway.client.connections import Body, Connections
    from gateway.client.credentials import ForeignToken
    from gateway.crypto.tokens import DpopKey, IdentityKey
    from gateway.wire.tokens import TokenResponse

WAIT_SECONDS_MAX = 60.0  # that a server may ask for before the next try
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)  # between tries, when the server is away
RENEW_SECONDS_BEFORE = 30.0
_OK, _BAD_REQUEST = 200, 400
_TRY_AGAIN_SECONDS = 5.0
_DENSE = (",", ":")
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_ASK_NONCE = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"


@dataclass(frozen=True, slots=True)
class Held:
    """A token of ours in memory; times are Unix seconds."""

    text: str
    renew_at: float
    ends_at: float

    @classmethod
    def of(cls, reply: TokenResponse, asked_at: float) -> Held:
        """Renewed RENEW_SECONDS_BEFORE its end, or after two thirds of a short life.

        Servers count whole seconds, so it is not relied on in its last one.
        """
        left = max(0.0, float(reply.expires_in) - 1.0)
        margin = min(RENEW_SECONDS_BEFORE, left / 3)
        return cls(reply.access_token, asked_at + left - margin, asked_at + left)


class Transport:
    """A gateway, as one identity. Safe to use from many threads."""

    def __init__(
        self,
        server: str,
        key_file: Path,
        *,
        authority: Path | None = None,
        foreign_token: ForeignToken | None = None,
        now: Callable[[], float] = time.time,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
    ) -> None:
        """Name the server (base URL) and the identity key; nothing is opened yet.

        `authority` is a PEM file to trust besides the system's authorities; `foreign_token` one
        of an issuer that the gateway trusts, shown instead of the key.
        """
        self.server = server
        self._authority = authority
        self._key_file = key_file
        self._foreign_token = foreign_token
        self.now = now
        self._retry_seconds = retry_seconds
        self._opened: Connections | None = None
        self._lock = threading.Lock()
        self._identity: IdentityKey | None = None
        self._dpop: DpopKey | None = None
        self._nonce: str | None = None  # what the server wants in a proof; new at its start
        self._token: Held | None = None
        self._shown_token = ""  # of somebody else's, the last one
        self._was_known = False  # whether the server ever took what we show

    def tls(self) -> SSLContext:
        """What `https` to this gateway and its data workers is checked with (TLS 1.3)."""
        from gateway.client.connections import tls_context

        return tls_context(self._authority)

    def request(  # noqa: PLR0913 - the parts of an HTTP request
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: Body | None = None,
        query: Mapping[str, str | int | None] | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and return its answer.

        Args:
            method: HTTP method.
            path: with `/`, already quoted (see `segment`).
            json: a value or a wire dataclass to send as JSON.
            body: bytes to send as they are.
            query: keys whose value is None are left out.
            token: a dataset token; None = the API token of this identity.
            headers: more headers.

        Raises:
            GatewayError: of the class that the server's problem document names; Unavailable
                when it cannot be reached.
        """
        given = {key: value for key, value in (query or {}).items() if value is not None}
        sent = dict(headers or {})
        payload = body
        with unicode_only():
            target = path + ("?" + urlencode(given) if given else "")
            if json is not None:
                text = json_module.dumps(codec.encode(json), separators=_DENSE, ensure_ascii=False)
                payload = text.encode()
                sent["Content-Type"] = "application/json"
        if method == "POST" and path.startswith("/v1/"):
            import secrets

            sent.setdefault("Idempotency-Key", secrets.token_urlsafe(18))
        try:
            return self._patiently(method, target, payload, sent, token)
        except NotAuthenticated:
            if token is not None or self._token is None:
                raise
            self._token = None  # it may have been revoked, or the server has new keys
            return self._patiently(method, target, payload, sent, None)

    def exchange(self, details: Mapping[str, Any]) -> TokenResponse:
        """Ask for a dataset token (RFC 8693) with one RFC 9396 detail; AccessDenied on a denial."""
        from gateway.wire.tokens import GRANT_TOKEN_EXCHANGE, TOKEN_TYPE_ACCESS

        form = {
            "grant_type": GRANT_TOKEN_EXCHANGE,
            "subject_token_type": TOKEN_TYPE_ACCESS,
            "authorization_details": json_module.dumps([details]),
        }
        had = None if self._token is None else self._token.text
        used = self.api_token()
        try:
            return self._token_request({**form, "subject_token": used})
        except NotAuthenticated:
            if used != had:
                raise
        self._token = None  # it may have been revoked, or the server has new keys
        return self._token_request({**form, "subject_token": self.api_token()})

    def revoke(self, token: str) -> None:
        """End one of our own tokens, and what was had for it, now (RFC 7009)."""
        self._about_token("/oauth/revoke", token)

    def introspect(self, token: str) -> dict[str, Any]:
        """What a token is good for now (RFC 7662)."""
        found: dict[str, Any] = self._about_token("/oauth/introspect", token).json()
        return found

    def _about_token(self, path: str, token: str) -> Response:
        body = urlencode({"token": token}).encode()
        return self.request("POST", path, body=body, headers=_FORM)

    def own_url(self, url: str) -> str:
        """`url`, or a path, at this gateway; InvalidInput for any other place."""
        full = self.server + url if url.startswith("/") else url
        if full != self.server and not full.startswith(f"{self.server}/"):
            raise InvalidInput(f"`{url[:200]}` is not at `{self.server}`")
        return full

    def lineage_key(self, seconds: int) -> str:
        """A key for OpenLineage clients, made here with the identity key (no request is sent)."""
        from gateway.wire.tokens import LINEAGE_PATH

        return self._identity_key().lineage_key(self.server + LINEAGE_PATH, self.now, seconds)

    def proof(
        self, method: str, url: str, token: str | None = None, key: DpopKey | None = None
    ) -> str:
        """A DPoP proof by this process's key, or another; it answers the server's nonce."""
        used = key or self.dpop_key()
        return used.proof(method, url, now=self.now, nonce=self._nonce, access_token=token)

    def learn_nonce(self) -> None:
        """Ask for the server's nonce unless it is known."""
        if self._nonce is None:
            target = "/oauth/token"
            proof = self.proof("POST", self.server + target)
            reply = self._connections().send("POST", target, _ASK_NONCE, {**_FORM, "DPoP": proof})
            self._nonce = reply.headers.get("dpop-nonce")

    def dpop_key(self) -> DpopKey:
        """The ephemeral key of this process, to which every token of ours is bound."""
        with self._lock:
            if self._dpop is None:
                from gateway.crypto.tokens import DpopKey

                self._dpop = DpopKey()
            return self._dpop

    def api_token(self) -> str:
        """The API token, renewed when it is about to end, or kept to its end if it cannot be."""
        kept = self._token
        if kept is not None and kept.renew_at > self.now():
            return kept.text
        asked_at = self.now()
        try:
            reply = self._shown()
        except (Unavailable, ConfigError, NotAuthenticated) as failed:
            if kept is not None and kept.ends_at > self.now():
                self._token = replace(kept, renew_at=self.now() + _TRY_AGAIN_SECONDS)
                return kept.text
            if self._is_worth_replacing(failed):
                raise Unavailable(
                    f"the token in `{self._origin}` has ended or cannot be read",
                    advice="have it replaced: whoever projects it does so before it ends",
                ) from failed
            raise
        self._token, self._was_known = Held.of(reply, asked_at), True
        return reply.access_token

    def _shown(self) -> TokenResponse:
        """Show who we are; once more when the key file was renewed meanwhile."""
        try:
            return self._token_request(self._who_we_are())
        except NotAuthenticated:
            if not self._has_other_key():
                raise
            return self._token_request(self._who_we_are())

    @property
    def _origin(self) -> str:
        return self._foreign_token.origin if self._foreign_token else str(self._key_file)

    def _is_worth_replacing(self, failed: GatewayError) -> bool:
        """Whether only the age of what we showed is wrong: then who was known waits for another."""
        if not self._was_known or isinstance(failed, Unavailable):
            return False
        is_foreign = self._foreign_token is not None
        return is_foreign and (isinstance(failed, ConfigError) or self._has_ended())

    def _has_ended(self) -> bool:
        """Of the token that was shown: the file may hold another one by now."""
        from gateway.client.jwt_claims import claims_of

        try:
            ends = claims_of(self._shown_token).get("exp")
        except NotAuthenticated:
            return False
        return isinstance(ends, int | float) and ends <= self.now()

    def _who_we_are(self) -> dict[str, str]:
        """What is shown for an API token; ConfigError when the key or token is unusable."""
        from gateway.wire import tokens

        if self._foreign_token is not None:
            self._shown_token = self._foreign_token.current()
            return {
                "grant_type": tokens.GRANT_TOKEN_EXCHANGE,
                "subject_token": self._shown_token,
                "subject_token_type": tokens.TOKEN_TYPE_JWT,
            }
        assertion = self._identity_key().assertion(
            self.server, self.now, self.dpop_key().thumbprint
        )
        return {"grant_type": tokens.GRANT_JWT_BEARER, "assertion": assertion}

    def _has_other_key(self) -> bool:
        """Whether the key file holds another key than it did: it was renewed meanwhile."""
        known, self._identity = self._identity, None
        return known is not None and self._identity_key().thumbprint != known.thumbprint

    def _identity_key(self) -> IdentityKey:
        with self._lock:
            if self._identity is None:
                from gateway.crypto.tokens import IdentityKey

                self._identity = IdentityKey.load(self._key_file)
            return self._identity

    def close(self) -> None:
        """Close this thread's connection."""
        self._connections().close()

    def _token_request(self, form: Mapping[str, str]) -> TokenResponse:
        from gateway.wire.tokens import TokenResponse

        def headers() -> dict[str, str]:
            return {**_FORM, "DPoP": self.proof("POST", f"{self.server}/oauth/token")}

        response = self._once("POST", "/oauth/token", urlencode(form).encode(), headers)
        if response.status != _OK:
            raise self._explained(error_of(response, "/oauth/token"))
        return codec.decode_reply(TokenResponse, response.json())

    def _explained(self, error: GatewayError) -> GatewayError:
        if isinstance(error, NotAuthenticated):
            error.facts["key_file"] = self._origin
            error.facts["server"] = self.server
        return error

    def _patiently(  # the retry loop around one request
        self,
        method: str,
        target: str,
        body: Body | None,
        headers: dict[str, str],
        token: str | None,
    ) -> Response:
        path = target.partition("?")[0]

        def proved() -> dict[str, str]:
            used = token or self.api_token()
            proof = self.proof(method, self.server + path, used)
            return {**headers, "Authorization": f"DPoP {used}", "DPoP": proof}

        for pause in (*self._retry_seconds, None):
            error: GatewayError
            try:
                response = self._once(method, target, body, proved)
            except Unavailable as failed:
                error = failed
            else:
                if response.status < _BAD_REQUEST:
                    return response
                error = error_of(response, path)
            if pause is None or not _is_worth_waiting(error):
                raise error
            time.sleep(max(pause, min(_retry_after(error), WAIT_SECONDS_MAX)))
        raise AssertionError("the last pause is None")

    def _once(
        self, method: str, target: str, body: Body | None, headers: Callable[[], dict[str, str]]
    ) -> Response:
        """One request; once more when the server wants a nonce that we did not know."""
        used = self._nonce
        response = self._sent(method, target, body, headers)
        given = response.headers.get("dpop-nonce")
        if given is None or given == used:
            return response
        self._nonce = given
        return self._sent(method, target, body, headers)

    def _sent(
        self, method: str, target: str, body: Body | None, headers: Callable[[], dict[str, str]]
    ) -> Response:
        """One request on this thread's connection; once more when a kept one had gone stale.

        `headers` is called for each try, since a proof is good only once.
        """
        is_fresh = self._connections().is_fresh()
        try:
            return self._connections().send(method, target, body, headers())
        except Unavailable:
            if is_fresh:
                raise
        return self._connections().send(method, target, body, headers())

    def _connections(self) -> Connections:
        if self._opened is None:
            from gateway.client.connections import Connections

            self._opened = Connections(self.server, self.tls)
        return self._opened


def _is_worth_waiting(error: GatewayError) -> bool:
    """A rate heals within a minute; a budget of a day is told at once."""
    if isinstance(error, LimitExceeded):
        return 0 < _retry_after(error) <= WAIT_SECONDS_MAX
    return isinstance(error, Unavailable)


def _retry_after(error: GatewayError) -> float:
    seconds = error.facts.get("retry_after_seconds", 0)
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0
