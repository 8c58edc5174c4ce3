"""Acts on leases: open a stream, renew it, hand it back. Its bytes come from the data port."""

from __future__ import annotations

from typing import Any

from starlette.responses import RedirectResponse

from gateway.api.acts import Act, Asked
from gateway.api.facade import Gateway
from gateway.wire.leases import LeaseRequest, LeaseView

_ONE = "/v1/leases/{id}"


async def _stream(gateway: Gateway, asked: Asked) -> Any:
    url = await gateway.stream_address(asked.caller, asked.path["id"])
    return RedirectResponse(url, 307, {"Cache-Control": "no-store"})


ACTS = (
    Act(
        method="POST",
        path="/v1/leases",
        summary="Open a stream under a dataset token",
        call=lambda g, a: g.open_lease(a.caller, a.value(LeaseRequest)),
        body=LeaseRequest,
        reply=LeaseView,
        status=201,
        headers=lambda view: {"Location": f"/v1/leases/{view.lease}"},
    ),
    Act(
        method="GET",
        path=_ONE,
        summary="Show a lease (without its key)",
        call=lambda g, a: g.lease(a.caller, a.path["id"]),
        reply=LeaseView,
    ),
    Act(
        method="DELETE",
        path=_ONE,
        summary="Hand a lease back",
        call=lambda g, a: g.close_lease(a.caller, a.path["id"]),
    ),
    Act(
        method="GET",
        path=_ONE + "/stream",
        summary="Be sent to the whole lease as one Arrow IPC stream, once, within a minute",
        call=_stream,
        status=307,
    ),
    Act(
        method="POST",
        path=_ONE + "/renewal",
        summary="Judge again and prolong",
        call=lambda g, a: g.renew_lease(a.caller, a.path["id"]),
        reply=LeaseView,
    ),
)
