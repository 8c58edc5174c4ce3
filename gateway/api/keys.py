"""Acts on keys: list them by generation, renew them."""

from __future__ import annotations

import gateway.wire as W
from gateway.api.acts import Act
from gateway.api.datasets import operation_location

ACTS = (
    Act(
        method="GET",
        path="/v1/keys",
        summary="List your tenant's keys by generation and age; no key is told",
        call=lambda g, a: g.keys(a.caller),
        reply=W.KeyView,
        is_page=True,
    ),
    Act(
        method="POST",
        path="/v1/keys/{id}/rotation",
        summary="Renew keys: `root`, `kek`, or (operators) `token`; answers with an Operation",
        call=lambda g, a: g.rotate_keys(a.caller, a.path["id"]),
        reply=W.Operation,
        status=202,
        headers=operation_location,
    ),
)
