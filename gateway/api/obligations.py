"""Acts on what recipients owe."""

from __future__ import annotations

from typing import Any

import gateway.wire as W
from gateway.api.acts import Act, Asked
from gateway.api.facade import Gateway
from gateway.errors import InvalidInput


async def _list(gateway: Gateway, asked: Asked) -> Any:
    given = asked.query.get("overdue", "false")
    if given not in ("true", "false"):
        raise InvalidInput("`overdue` is `true` or `false`", field="overdue")
    return await gateway.obligations(asked.caller, overdue=given == "true")


ACTS = (
    Act(
        method="GET",
        path="/v1/obligations",
        summary="List what your tenant owes and is owed",
        call=_list,
        query={"overdue": "`true`: only what should have been done by now"},
        reply=W.ObligationView,
        is_page=True,
    ),
    Act(
        method="POST",
        path="/v1/obligations/{id}/fulfilment",
        summary="Say that an obligation is fulfilled, with evidence",
        call=lambda g, a: g.fulfil(a.caller, a.path["id"], a.value(W.FulfilmentRequest)),
        body=W.FulfilmentRequest,
        reply=W.ObligationView,
    ),
)
