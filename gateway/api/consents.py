"""Acts on the consent of persons."""

from __future__ import annotations

import gateway.wire as W
from gateway.api.acts import Act

ACTS = (
    Act(
        method="POST",
        path="/v1/consents",
        summary="Record what persons consented to, and withdrew",
        call=lambda g, a: g.record_consents(a.caller, a.value(W.ConsentRequest)),
        body=W.ConsentRequest,
        reply=W.ConsentReceipt,
    ),
    Act(
        method="GET",
        path="/v1/consents",
        summary="List the newest word of each person on each purpose; asking is recorded",
        call=lambda g, a: g.consents(a.caller),
        reply=W.ConsentView,
        is_page=True,
    ),
)
