"""Acts on identity: tokens as the RFCs say, tenants, identities, and who you are."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import gateway.wire as W
from gateway.api import bodies
from gateway.api.acts import Act, Asked
from gateway.api.facade import Gateway
from gateway.api.problems import oauth_response
from gateway.domain.dataset import parse_name
from gateway.errors import InvalidInput, NotAuthenticated
from gateway.wire import codec
from gateway.wire.tokens import GRANT_JWT_BEARER, GRANT_TOKEN_EXCHANGE

_FORM_BYTES_MAX = 64 << 10


def url_of(request: Request) -> str:
    """The URL a DPoP proof names: as the caller sees it, without query."""
    path = request.scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")
    return f"{request.url.scheme}://{request.headers.get('host', '')}{path}"


def single_header(request: Request, name: str) -> str | None:
    """A header that may stand once; NotAuthenticated when it stands twice."""
    given = request.headers.getlist(name)
    if len(given) > 1:
        raise NotAuthenticated(f"the header `{name}` stands twice")
    return given[0] if given else None


async def _token(gateway: Gateway, asked: Asked) -> W.TokenResponse:
    form = await bodies.read_form(asked.http, _FORM_BYTES_MAX)
    if form.get("grant_type") not in (GRANT_JWT_BEARER, GRANT_TOKEN_EXCHANGE):
        raise InvalidInput(
            "the `grant_type` is missing or not served",
            advice="use jwt-bearer for an API token, token-exchange for a dataset token",
            oauth="unsupported_grant_type" if "grant_type" in form else "invalid_request",
        )
    return await gateway.token(form, url_of(asked.http), single_header(asked.http, "dpop"))


async def _revoke_token(gateway: Gateway, asked: Asked) -> Response:
    await gateway.revoke_token(asked.caller, await _token_in(asked))
    return Response(status_code=200)


async def _introspect(gateway: Gateway, asked: Asked) -> dict[str, Any]:
    """RFC 7662 §2.2: what does not hold is left out, so that `inactive` says nothing more."""
    found = codec.encode(await gateway.introspect(asked.caller, await _token_in(asked)))
    return {name: value for name, value in found.items() if value is not None}


async def _token_in(asked: Asked) -> str:
    form = await bodies.read_form(asked.http, _FORM_BYTES_MAX)
    if not form.get("token"):
        raise InvalidInput("the field `token` is missing", field="token")
    return form["token"]


async def _metadata(gateway: Gateway, _: Asked) -> dict[str, Any]:
    issuer = gateway.public_keys().issuer
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": [GRANT_JWT_BEARER, GRANT_TOKEN_EXCHANGE],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "dpop_signing_alg_values_supported": ["EdDSA"],
        "authorization_details_types_supported": ["dataset_access"],
        "login_providers": codec.encode(gateway.login_providers()),  # ours: for `gateway login`
    }


async def _keys(gateway: Gateway, _: Asked) -> dict[str, Any]:
    return {"keys": list(gateway.public_keys().keys)}


def _tenant(asked: Asked) -> str:
    return parse_name(asked.path["tenant"], what="tenant")


ACTS = (
    Act(
        method="POST",
        path="/oauth/token",
        summary="Get an API token (jwt-bearer) or a dataset token (token-exchange)",
        call=_token,
        reply=W.TokenResponse,
        is_public=True,
        is_binary=True,
        error_response=oauth_response,
    ),
    Act(
        method="POST",
        path="/oauth/revoke",
        summary="Revoke a token and what came of it (RFC 7009)",
        call=_revoke_token,
        is_binary=True,
        error_response=oauth_response,
    ),
    Act(
        method="POST",
        path="/oauth/introspect",
        summary="What a token is good for now (RFC 7662)",
        call=_introspect,
        reply=dict,
        is_binary=True,
        error_response=oauth_response,
    ),
    Act(
        method="GET",
        path="/.well-known/oauth-authorization-server",
        summary="Authorization server metadata (RFC 8414)",
        call=_metadata,
        reply=dict,
        is_public=True,
    ),
    Act(
        method="GET",
        path="/.well-known/jwks.json",
        summary="Public signing keys",
        call=_keys,
        reply=dict,
        is_public=True,
    ),
    Act(
        method="GET",
        path="/v1/whoami",
        summary="Who you are to the gateway",
        call=lambda g, a: g.whoami(a.caller),
        reply=W.WhoAmI,
    ),
    Act(
        method="GET",
        path="/v1/tenants",
        summary="List tenants",
        call=lambda g, a: g.tenants(a.caller),
        reply=W.TenantView,
        is_page=True,
    ),
    Act(
        method="POST",
        path="/v1/tenants",
        summary="Add a tenant",
        call=lambda g, a: g.add_tenant(a.caller, a.value(W.TenantRequest)),
        body=W.TenantRequest,
        reply=W.TenantView,
        status=201,
        headers=lambda view: {"Location": f"/v1/tenants/{view.tenant}"},
    ),
    Act(
        method="GET",
        path="/v1/tenants/{tenant}",
        summary="Show a tenant",
        call=lambda g, a: g.tenant(a.caller, _tenant(a)),
        reply=W.TenantView,
    ),
    Act(
        method="PATCH",
        path="/v1/tenants/{tenant}",
        summary="Set a tenant's limits, suspend or resume it",
        call=lambda g, a: g.update_tenant(a.caller, _tenant(a), a.value(W.TenantChanges)),
        body=W.TenantChanges,
        reply=W.TenantView,
    ),
    Act(
        method="GET",
        path="/v1/tenants/{tenant}/identities",
        summary="List a tenant's identities",
        call=lambda g, a: g.identities(a.caller, _tenant(a)),
        reply=W.IdentityView,
        is_page=True,
    ),
    Act(
        method="POST",
        path="/v1/tenants/{tenant}/identities",
        summary="Add an identity to a tenant",
        call=lambda g, a: g.add_identity(a.caller, _tenant(a), a.value(W.IdentityRequest)),
        body=W.IdentityRequest,
        reply=W.IdentityView,
        status=201,
    ),
    Act(
        method="PATCH",
        path="/v1/tenants/{tenant}/identities",
        summary="Disable an identity for good and stop its streams, or give it another key",
        call=lambda g, a: g.change_identity(a.caller, _tenant(a), a.value(W.IdentityChange)),
        body=W.IdentityChange,
        reply=W.IdentityChanged,
    ),
)
