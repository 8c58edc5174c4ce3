"""Training jobs: which data each received, for which purpose, under which Grants."""

from __future__ import annotations

import asyncio
from collections.abc import Container

import gateway.wire as W
from gateway.catalog.records import Run
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.run_names import UUID_NAME, qualified_run, run_uuid
from gateway.errors import Conflict, InvalidInput, NotFound
from gateway.services import attest
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.times import iso


async def list_(house: House, caller: Caller) -> list[W.RunView]:
    """Runs that read the tenant's data or belong to it, newest first."""
    await house.settled()
    reading = {lease.run for lease in house.catalog.leases()}
    views = [_view(house, caller, run.id, reading) for run in house.catalog.runs()]
    return sorted((v for v in views if v is not None), key=lambda v: v.last_at, reverse=True)


def named(house: House, caller: Caller, text: str) -> str:
    """The run `tenant:name` that is meant: by it, by a name of the caller's tenant, or by UUID."""
    if UUID_NAME.match(text):
        return next((run.id for run in house.catalog.runs() if run_uuid(run.id) == text), text)
    name = text.removeprefix("run:")
    return name if ":" in name else qualified_run(caller.subject.tenant, name) or name


async def show(house: House, caller: Caller, run_id: str) -> W.RunView:
    """One run, by its name or UUID; NotFound when it concerns other tenants."""
    await house.settled()
    try:
        reading = {lease.run for lease in house.catalog.leases()}
        view = _view(house, caller, named(house, caller, run_id), reading)
    except NotFound:
        view = None
    if view is None:
        raise NotFound(f"no run `{run_id[:80]}` that you may see")
    return view


async def finish(house: House, caller: Caller, run_id: str, wanted: W.RunFinish) -> W.RunView:
    """Say that a run is over and which model it made; whoever started it.

    Its streams end, and nothing is delivered to it any more. With a model and the digest of
    its file the run is bound to both, once, and its attestation is made.

    Raises:
        NotFound: no run of the caller's has this name.
        InvalidInput: a file without a model's name.
        Conflict: it is bound already, or finished and nothing is to be bound.
    """
    await house.settled()
    run = _own(house, caller, run_id)
    bound = wanted.model is not None and wanted.artifact_sha256 is not None
    if wanted.artifact_sha256 is not None and wanted.model is None:
        raise InvalidInput("a model's file needs a model's name", advice="add --model NAME")
    if run.artifact_sha256 is not None or (run.finished_at is not None and not bound):
        raise Conflict(
            f"run `{run.id}` is finished already",
            advice="`gateway run show` says which model it made",
        )
    await house.recorded(
        EventDraft(
            kind=EventKind.RunFinished,
            owner_tenant=run.subject_tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "run": run.id,
                "model": wanted.model,
                "artifact_sha256": wanted.artifact_sha256,
            },
            concerns=run.owners,
        )
    )
    open_leases = [lease.id for lease in house.catalog.leases() if lease.run == run.id]
    await asyncio.gather(*(house.workers.close(lease, "run-finished") for lease in open_leases))
    await house.settled()
    if bound:
        await attest.of(house, run)
    return await show(house, caller, run.id)


async def attestation(house: House, caller: Caller, run_id: str) -> W.Attestation:
    """The signed statement about a finished run; for its own tenant.

    Raises:
        NotFound: no run of the caller's tenant, or not finished with a model.
    """
    await house.settled()
    view = await show(house, caller, run_id)
    run = house.catalog.run(view.run)
    if run.subject_tenant != caller.subject.tenant:
        raise NotFound(f"no run `{run_id[:80]}` of yours")
    return await attest.of(house, run)


def _own(house: House, caller: Caller, run_id: str) -> Run:
    try:
        run = house.catalog.run(named(house, caller, run_id))
    except NotFound:
        run = None
    if run is None or run.subject != caller.subject.id:
        raise NotFound(f"no run `{run_id[:80]}` of yours")
    return run


def _view(
    house: House, caller: Caller, run_id: str, reading: Container[str | None]
) -> W.RunView | None:
    """The run as a tenant may see it: whole for its own, else only what was read from it.

    `reading`: runs with an open stream.
    """
    run = house.catalog.run(run_id)
    own = caller.subject.tenant
    is_own = run.subject_tenant == own
    if not is_own and own not in run.owners:
        return None
    return W.RunView(
        run=run.id,
        uuid=run_uuid(run.id),
        subject=run.subject,
        state=_state(run, is_reading=run.id in reading),
        datasets=tuple(d for d in run.datasets if is_own or d.startswith(f"{own}/")),
        grants=tuple(g for g in run.grants if is_own or house.catalog.grant(g).owner_tenant == own),
        purposes=run.purposes,
        rows=run.rows_acknowledged,
        first_at=iso(run.first_at),
        last_at=iso(run.last_at),
        finished_at=iso(run.finished_at) if run.finished_at is not None else None,
        model=_model(run) if is_own else None,
        attestation=run.attestation if is_own else None,
    )


def _state(run: Run, *, is_reading: bool) -> str:
    if run.artifact_sha256 is not None:
        return W.BOUND
    return W.STREAMING if is_reading else W.UNBOUND


def _model(run: Run) -> str | None:
    if run.artifact_sha256 is None:
        return run.model
    return f"model:{run.model}@sha256:{run.artifact_sha256}"
