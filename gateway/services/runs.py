"""Training jobs: which data each received, for which purpose, under which Grants."""

from __future__ import annotations

import gateway.wire as W
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import Conflict, NotFound
from gateway.services.house import House
from gateway.services.request_access import Caller, qualified_run
from gateway.wire.times import iso


async def list_(house: House, caller: Caller) -> list[W.RunView]:
    """Runs that read the tenant's data or belong to it, newest first."""
    await house.settled()
    views = [_view(house, caller, run.id) for run in house.catalog.runs()]
    return sorted((v for v in views if v is not None), key=lambda v: v.last_at, reverse=True)


async def show(house: House, caller: Caller, run_id: str) -> W.RunView:
    """One run; NotFound when it concerns other tenants."""
    await house.settled()
    try:
        own = qualified_run(caller.subject.tenant, run_id) if ":" not in run_id else run_id
        view = _view(house, caller, (own or "").removeprefix("run:"))
    except NotFound:
        view = None
    if view is None:
        raise NotFound(f"no run `{run_id[:80]}` that you may see")
    return view


async def finish(
    house: House, caller: Caller, run_id: str, model: str | None, artifact_sha256: str | None
) -> W.RunView:
    """Say that a run is over and which model it made; whoever started it, once.

    Raises:
        NotFound: no run of the caller's tenant has this name.
        Conflict: it is finished already.
    """
    await house.settled()
    view = await show(house, caller, run_id)
    run = house.catalog.run(view.run)
    if run.subject != caller.subject.id:
        raise NotFound(f"no run `{run_id[:80]}` of yours")
    if run.finished_at is not None:
        raise Conflict(f"run `{run.id}` is finished already")
    await house.recorded(
        EventDraft(
            kind=EventKind.RunFinished,
            owner_tenant=run.subject_tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"run": run.id, "model": model, "artifact_sha256": artifact_sha256},
            concerns=run.owners,
        )
    )
    return await show(house, caller, run.id)


def _view(house: House, caller: Caller, run_id: str) -> W.RunView | None:
    """The run as a tenant may see it: whole for its own, else only what was read from it."""
    run = house.catalog.run(run_id)
    own = caller.subject.tenant
    is_own = run.subject_tenant == own
    if not is_own and own not in run.owners:
        return None
    return W.RunView(
        run=run.id,
        subject=run.subject,
        datasets=tuple(d for d in run.datasets if is_own or d.startswith(f"{own}/")),
        grants=tuple(g for g in run.grants if is_own or house.catalog.grant(g).owner_tenant == own),
        purposes=run.purposes,
        rows=run.rows_acknowledged,
        first_at=iso(run.first_at),
        last_at=iso(run.last_at),
        model=run.model if is_own else None,
    )
