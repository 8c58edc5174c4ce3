"""What the limits of a Grant still permit: passes over the data, rows, bytes.

A limit bounds a Grant and all that is cut from it together: every Grant of the chain is looked
at, whichever token, rank, lease or reconnection asks. Rows and bytes are charged at the intent
(catalog/streams.py); a pass is one order of the rows, whatever ranks and worlds read it.
"""

from __future__ import annotations

from gateway.domain.lease import Grant, OrderSpec
from gateway.errors import Conflict, LimitExceeded
from gateway.services import tenant_limits
from gateway.services.house import House


def require_running(house: House, run_id: str | None) -> None:
    """Raise Conflict when the run is finished: what it received is closed for ever."""
    if run_id is not None and house.catalog.is_finished(run_id):
        raise Conflict(
            f"run `{run_id}` is finished, and nothing is delivered to it any more",
            advice="name a new run",
        )


def require_pass(house: House, grant: Grant, order: OrderSpec) -> None:
    """Raise LimitExceeded when this would be one pass more than `max_epochs` permits.

    Conflict when the run of the Grant is finished.
    """
    require_running(house, grant.run)
    for link in house.lineage_of(grant):
        epochs = link.plan.limits.max_epochs
        if epochs is None:
            continue
        passes = house.catalog.passes(link.id)
        if order.epoch >= epochs or (order.pass_id not in passes and len(passes) >= epochs):
            raise LimitExceeded(
                f"the grant allows {epochs} epochs",
                advice="ask the owner for more; the same seed and epoch may be read on",
                limit="max_epochs",
                raised_by="owner",
            )


def require_room(house: House, grant: Grant, order: OrderSpec) -> None:
    """As `require_pass`, and that the tenant may have one more stream: just before it opens."""
    require_pass(house, grant, order)
    tenant_limits.require_stream(house, grant.subject_tenant)


def require_budget(house: House, grant: Grant, rows: int, size: int) -> None:
    """Raise LimitExceeded when so many more rows or bytes are over a limit of Grant or tenant."""
    for link in house.lineage_of(grant):
        _require_within(link, rows, size)
    tenant_limits.require_day(house, grant.subject_tenant, size)


def _require_within(grant: Grant, rows: int, size: int) -> None:
    limits = grant.plan.limits
    for name, most, used, wanted in (
        ("max_rows", limits.max_rows, grant.rows_charged, rows),
        ("max_bytes", limits.max_bytes, grant.bytes_charged, size),
    ):
        if most is not None and used + wanted > most:
            raise LimitExceeded(
                f"the grant's `{name}` is {most}: {used} are used, "
                f"and the next segment has {wanted}",
                advice="ask for a larger limit (its owner allows it); segments are not torn apart",
                limit=name,
                raised_by="owner",
            )
