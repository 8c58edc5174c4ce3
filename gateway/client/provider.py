"""An OpenID provider as one of its clients sees it: found, asked for tokens, told to end them.

OpenID Connect Discovery 1.0, RFC 6749, RFC 7009, over the standard library. `https`, or `http`
to this machine; no redirect is followed with a secret in hand.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.client.credentials import LOOPBACK
from gateway.errors import ConfigError, NotAuthenticated, Unavailable

REPLY_BYTES_MAX = 1 << 20
TIMEOUT_SECONDS = 20.0
DISCOVERY = "/.well-known/openid-configuration"
_OK, _BAD_REQUEST, _SERVER_ERROR, _TOO_MANY = 200, 400, 500, 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Its endpoints, as its own discovery document names them."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None
    authority: Path | None  # PEM file to trust besides the system's

    @classmethod
    def discover(cls, issuer: str, authority: Path | None) -> Provider:
        """Ask it.

        Raises:
            Unavailable: it does not answer.
            ConfigError: what it answers is not of this issuer, or is no safe URL.
        """
        _, said = _call("GET", _safe(issuer).removesuffix("/") + DISCOVERY, None, authority)
        if said.get("issuer") != issuer:
            raise ConfigError(f"`{issuer[:200]}` answers as another issuer")
        revocation = said.get("revocation_endpoint")
        return cls(
            issuer=issuer,
            authorization_endpoint=_safe(said.get("authorization_endpoint")),
            token_endpoint=_safe(said.get("token_endpoint")),
            revocation_endpoint=None if revocation is None else _safe(revocation),
            authority=authority,
        )

    def tokens(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Its token endpoint; NotAuthenticated when it refuses, Unavailable when it cannot."""
        status, said = _call("POST", self.token_endpoint, form, self.authority)
        if status != _OK:
            why = said.get("error_description") or said.get("error") or f"status {status}"
            raise NotAuthenticated(
                f"`{self.issuer}` refuses: {str(why)[:200]}", advice="log in: `gateway login`"
            )
        return said

    def revoke(self, token: str, client_id: str) -> bool:
        """Tell it that the token is not used any more (RFC 7009); whether it took that."""
        if self.revocation_endpoint is None:
            return False
        form = {"token": token, "client_id": client_id, "token_type_hint": "refresh_token"}
        status, _ = _call("POST", self.revocation_endpoint, form, self.authority)
        return status == _OK


def _safe(url: Any) -> str:
    """A URL that secrets may be sent to; ConfigError otherwise."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)):
        raise ConfigError(f"`{str(url)[:200]}` is not an https URL of a provider")
    return str(url)


def _call(
    method: str, url: str, form: Mapping[str, str] | None, authority: Path | None
) -> tuple[int, dict[str, Any]]:
    """One request without redirects, and its JSON object; Unavailable when there is none."""
    parts = urlsplit(_safe(url))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept": "application/json", "Connection": "close"}
    body = None
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form)
    connection = _connection(parts.scheme, parts.netloc, authority)
    try:
        connection.request(method, target, body, headers)
        reply = connection.getresponse()
        data = reply.read(REPLY_BYTES_MAX)
    except (OSError, http.client.HTTPException, UnicodeError) as cause:
        raise Unavailable(
            f"the provider `{parts.hostname}` does not answer", advice="try again later"
        ) from cause
    finally:
        connection.close()
    return reply.status, _object(parts.hostname or "", reply.status, data)


def _object(host: str, status: int, data: bytes) -> dict[str, Any]:
    if status >= _SERVER_ERROR or status == _TOO_MANY or _OK < status < _BAD_REQUEST:
        raise Unavailable(f"the provider `{host}` answered {status}", advice="try again later")
    try:
        found = json.loads(data) if data.strip() else {}
    except ValueError as cause:
        raise Unavailable(f"the answer of `{host}` is not JSON") from cause
    if not isinstance(found, dict):
        raise Unavailable(f"the answer of `{host}` is no JSON object")
    return found


def _connection(scheme: str, netloc: str, authority: Path | None) -> http.client.HTTPConnection:
    if scheme != "https":
        return http.client.HTTPConnection(netloc, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    try:
        if authority is not None:
            context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as cause:
        raise ConfigError(f"`{authority}` is not a readable PEM file") from cause
    return http.client.HTTPSConnection(netloc, timeout=TIMEOUT_SECONDS, context=context)
