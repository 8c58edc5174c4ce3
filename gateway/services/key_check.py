"""Before a Grant or a renewal: can the owner's keys be had now? If not, it fails closed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging

from gateway.domain.access import Decision, Effect, Reason
from gateway.domain.events import MICROSECONDS
from gateway.errors import GatewayError
from gateway.journal.composer import month_of
from gateway.services.house import House

DAY_SECONDS = 24 * 3600
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


async def warm(house: House) -> None:
    """Have the keys of this month's and tomorrow's details at hand before an event needs one.

    An event is sealed on the event loop; and while the key service is away, what happens must
    be recorded still, denials above all.
    """
    months = {month_of(int((house.now() + ahead) * MICROSECONDS)) for ahead in (0, DAY_SECONDS)}
    for tenant in [known.name for known in house.catalog.tenants()]:
        for month in sorted(months):
            with contextlib.suppress(GatewayError):  # the next round tries again
                await house.aside(house.vault.detail_key, tenant, month)


def closed(decision: Decision, error: GatewayError, text: str = TEXT) -> Decision:
    """The denial that stands on record in place of what the rules would have allowed."""
    reason = Reason(code=error.code, text=text)
    return dataclasses.replace(decision, effect=Effect.DENY, plan=None, reasons=(reason,))
