"""What is charged at an intent and given back: to Grants, and to the day of who receives."""

from __future__ import annotations

from dataclasses import replace

from gateway.catalog.records import DayBytes, LeaseState
from gateway.catalog.state import State
from gateway.domain.events import Event
from gateway.domain.tenant import DAY_SECONDS

_NO_DAY = DayBytes(day=0, bytes=0)


def of_lease(state: State, lease: LeaseState, event: Event, rows: int, size: int) -> None:
    """Of a day only what was surely charged on it is given back."""
    of_grant(state, lease.grant, rows, size)
    if size > 0 or lease.opened_at // DAY_SECONDS == int(event.time) // DAY_SECONDS:
        of_day(state, event, size)


def of_day(state: State, event: Event, size: int) -> None:
    """Bytes to whoever receives them, whatever Grant and lease they belong to."""
    tenant = event.actor_tenant or ""
    known = state.day_bytes.get(tenant, _NO_DAY)
    day = max(int(event.time) // DAY_SECONDS, known.day)
    before = known.bytes if known.day == day else 0
    state.day_bytes[tenant] = DayBytes(day=day, bytes=max(before + size, 0))


def of_grant(state: State, grant_id: str, rows: int, size: int) -> None:
    """Charge (or give back) to a Grant and every Grant that it is cut from."""
    grant = state.grants.get(grant_id)
    while grant is not None and (rows or size):
        state.grants[grant.id] = replace(
            grant, rows_charged=grant.rows_charged + rows, bytes_charged=grant.bytes_charged + size
        )
        grant = state.grants.get(grant.parent or "")
