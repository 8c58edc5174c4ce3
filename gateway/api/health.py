"""Acts without a caller: alive, ready, the OpenAPI document, and what the error types mean."""

from __future__ import annotations

from starlette.responses import Response

import gateway.wire as W
from gateway.api.acts import Act, Asked
from gateway.api.facade import Gateway
from gateway.api.problems import dump
from gateway.errors import GatewayError
from gateway.wire import access_facet, codec
from gateway.wire.problems import title_of


async def _alive(_: Gateway, __: Asked) -> dict[str, bool]:
    return {"alive": True}


async def _ready(gateway: Gateway, _: Asked) -> Response:
    view = await gateway.ready()
    return Response(
        dump(codec.encode(view)), 200 if view.ready else 503, media_type="application/json"
    )


async def _errors(_: Gateway, __: Asked) -> Response:
    return Response(errors_page(), media_type="text/markdown; charset=utf-8")


def errors_page() -> str:
    """The page that problem types point to, made from the tree in `gateway.errors`."""
    lines = [
        "# Errors",
        "",
        "Every error answer is `application/problem+json` (RFC 9457). `type` ends in one of the",
        "codes below, `advice` says what to do, `request_id` is what the server log knows it by,",
        "`decision` (when there is one) is what `gateway policy explain` takes. The Python client",
        "raises the class of the same name; the command line ends with the exit code.",
        "This page is made from `gateway/errors.py`; each server shows its own at",
        "`/docs/reference/errors.md`.",
        "",
    ]
    for kind in _kinds(GatewayError):
        lines += [
            f"## {kind.code}",
            f"{title_of(kind)}.",
            "",
            f"`{kind.__name__}` · HTTP {kind.status} · exit code {kind.exit_code}",
            "",
            f"Do: {kind.advice_default}.",
            "",
        ]
    return "\n".join(lines)


def _kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
    below = [found for child in kind.__subclasses__() for found in _kinds(child)]
    ours = [kind] if kind.__module__ == GatewayError.__module__ else []
    return [*ours, *below]


async def _access_schema(gateway: Gateway, _: Asked) -> dict[str, object]:
    return access_facet.schema(gateway.public_keys().issuer)


ACTS = (
    Act(
        method="GET",
        path="/healthz",
        summary="Alive",
        call=_alive,
        reply=dict,
        is_public=True,
    ),
    Act(
        method="GET",
        path="/readyz",
        summary="Ready to work, check by check; 503 when not",
        call=_ready,
        reply=W.Readiness,
        is_public=True,
    ),
    Act(
        method="GET",
        path=access_facet.SCHEMA_PATH,
        summary="JSON Schema of the facet that our OpenLineage events carry",
        call=_access_schema,
        reply=dict,
        is_public=True,
    ),
    Act(
        method="GET",
        path="/docs/reference/errors.md",
        summary="What the error types mean",
        call=_errors,
        reply=str,
        is_public=True,
    ),
)
