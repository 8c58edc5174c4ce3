"""The part of the facade about who is calling: tokens, proofs, and what they are good for."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import gateway.wire as W
from gateway.errors import AccessDenied, NotAuthenticated, Unavailable
from gateway.services import exchange, issued_tokens, lineage_keys, rates, refusals
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.times import iso
from gateway.wire.tokens import LINEAGE_PATH

# All that a dataset token is good for.
STREAM_PATHS = ("/v1/leases", "/oauth/revoke", "/oauth/introspect")


class Authentication:
    """Mixed into the facade, whose House it works on."""

    __slots__ = ()
    house: House

    async def authenticate(
        self, method: str, url: str, authorization: str | None, dpop: str | None
    ) -> Caller:
        """The caller behind a DPoP-bound token; NotAuthenticated otherwise."""
        try:
            if (method, urlsplit(url).path) == ("POST", LINEAGE_PATH) and dpop is None:
                caller = lineage_keys.authenticate(self.house, authorization)
            else:
                caller = exchange.authenticate(self.house, (method, url), authorization, dpop)
        except NotAuthenticated as error:
            await self._refused("/v1", error)
            raise
        await rates.count(self.house, caller.subject, "/v1")
        if caller.grant is not None and not urlsplit(url).path.startswith(STREAM_PATHS):
            await refusals.record(self.house, caller.subject, "/v1", AccessDenied.code)
            raise AccessDenied("a dataset token opens streams only", advice="use your API token")
        return caller

    async def token(self, form: Mapping[str, str], url: str, dpop: str | None) -> W.TokenResponse:
        """POST /oauth/token: an assertion, or an exchange for a dataset token."""
        try:
            return await exchange.token(self.house, form, url, dpop)
        except (NotAuthenticated, Unavailable) as error:
            await self._refused("POST /oauth/token", error)
            raise

    async def _refused(self, route: str, error: NotAuthenticated | Unavailable) -> None:
        """Record it; that a first proof cannot know the nonce is how RFC 9449 §8 begins."""
        if not error.facts.get("nonce_missing"):
            await refusals.record_stranger(self.house, route, error.code)

    async def revoke_token(self, caller: Caller, token: str) -> None:
        """POST /oauth/revoke: end one token, and all that came of it, before its time."""
        await issued_tokens.revoke_token(self.house, caller, token)

    async def introspect(self, caller: Caller, token: str) -> W.Introspection:
        """POST /oauth/introspect: what a token is good for now."""
        return await issued_tokens.introspect(self.house, caller, token)

    async def whoami(self, caller: Caller) -> W.WhoAmI:
        """Who the token says one is."""
        subject = caller.subject
        return W.WhoAmI(
            subject=subject.id,
            tenant=subject.tenant,
            type=subject.type,
            roles=subject.roles,
            expires_at=iso(caller.expires_at),
            server_time=iso(self.house.now()),
            attributes=dict(subject.attributes),
        )

    def login_providers(self) -> tuple[W.LoginProvider, ...]:
        """Where people can log in with `gateway login`."""
        return self.house.issuers.logins()

    def public_keys(self) -> W.KeySet:
        """Keys that verify our tokens, leases and log (JWKS and pins)."""
        return exchange.public_keys(self.house)
