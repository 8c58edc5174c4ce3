"""Before a Grant or a renewal: can the owner's keys be had now? If not, it fails closed."""

from __future__ import annotations

import dataclasses
import logging

from gateway.domain.access import Decision, Effect, Reason
from gateway.errors import GatewayError
from gateway.services.house import House

TEXT = "the keys of the dataset cannot be reached"
_log = logging.getLogger("gateway.keys")


async def trouble(house: House, tenant: str) -> GatewayError | None:
    """What is wrong with the tenant's keys, as the key service says now; None: nothing."""
    try:
        await house.aside(house.vault.ring, tenant)
    except GatewayError as error:
        _log.warning("keys cannot be reached", extra={"error": error.message})
        return error
    return None


def closed(decision: Decision, error: GatewayError) -> Decision:
    """The denial that stands on record in place of what the rules would have allowed."""
    reason = Reason(code=error.code, text=TEXT)
    return dataclasses.replace(decision, effect=Effect.DENY, plan=None, reasons=(reason,))
