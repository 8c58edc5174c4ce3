"""How training runs follow from events: what each read, its end, its attestation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.catalog.records import Run
from gateway.errors import Conflict, NotFound

if TYPE_CHECKING:
    from gateway.catalog.state import State
    from gateway.domain.events import Event
    from gateway.domain.lease import Grant


def grant_joined(state: State, grant: Grant, event: Event) -> None:
    """A Grant names its run, which begins with the first."""
    if grant.run is None:
        return
    run = state.runs.get(grant.run)
    if run is None:
        run = state.runs[grant.run] = Run(
            id=grant.run,
            subject=grant.subject,
            subject_tenant=grant.subject_tenant,
            first_at=event.time,
            last_at=event.time,
        )
    run.grants = with_value(run.grants, grant.id)
    run.datasets = with_value(run.datasets, str(grant.plan.dataset))
    run.purposes = with_value(run.purposes, grant.plan.purpose)
    run.owners = with_value(run.owners, grant.owner_tenant)
    run.last_at = event.time


def with_value(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    """The values and this one, once."""
    return values if value in values else (*values, value)


def lease_joined(state: State, run_id: str | None, event: Event) -> None:
    """A stream of the run began."""
    run = state.runs.get(run_id or "")
    if run is not None:
        run.leases += 1
        run.last_at = event.time


def rows_confirmed(state: State, run_id: str | None, rows: int, event: Event) -> None:
    """So many rows were handed to the kernel or ring."""
    run = state.runs.get(run_id or "")
    if run is not None:
        run.rows_confirmed += rows
        run.last_at = event.time


def rows_acknowledged(
    state: State, run_id: str | None, order_key: str, rows: int, event: Event
) -> None:
    """The client says that it has so many rows more, in this order of this Grant."""
    run = state.runs.get(run_id or "")
    if run is not None:
        run.rows_acknowledged += rows
        run.acknowledged[order_key] = run.acknowledged.get(order_key, 0) + rows
        run.last_at = event.time


def run_finished(state: State, event: Event) -> None:
    """The job says it is done, and what came of it."""
    f = event.facts
    run = _run(state, f["run"])
    run.model, run.artifact_sha256 = f.get("model"), f.get("artifact_sha256")
    run.finished_at = run.last_at = event.time
    run.finished_index = event.index


def run_attested(state: State, event: Event) -> None:
    """The digest of what was signed about the run, and where it is stored; once."""
    f = event.facts
    run = _run(state, f["run"])
    if run.artifact_sha256 is None:
        raise Conflict("a run without a model's file has no attestation")
    if run.attestation is not None:
        raise Conflict("this run has its attestation already")
    run.attestation, run.attestation_key = f["attestation"], f["attestation_key"]


def _run(state: State, run_id: str) -> Run:
    run = state.runs.get(run_id)
    if run is None:
        raise NotFound(f"no run `{run_id[:80]}`")
    return run
