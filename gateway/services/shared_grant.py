"""The one Grant that all ranks of a run and request share, and the version that a run reads."""

from __future__ import annotations

from gateway.domain.access import AccessRequest, Decision
from gateway.domain.dataset import DatasetRef
from gateway.domain.lease import Grant
from gateway.services.house import House


def pinned(house: House, run: str | None, ref: DatasetRef) -> DatasetRef:
    """`tenant/name` at the version that the run reads already, whatever was registered since.

    A run that is started again goes on with the data it began with; another version is read
    only by its name.
    """
    if run is None or ref.version is not None:
        return ref
    for grant in house.catalog.grants(run=run):
        if grant.plan.dataset.unversioned == ref:
            return grant.plan.dataset
    return ref


def same_grant(
    house: House, request: AccessRequest, decision: Decision, wider: Grant | None, *, is_whole: bool
) -> Grant | None:
    """A living Grant that is just this; `is_whole`: that may be the wider one itself."""
    plan = decision.plan
    if wider is not None and is_whole and (wider.run, wider.plan) == (request.run, plan):
        return wider
    if request.run is None or plan is None:
        return None
    for grant in house.catalog.grants(run=request.run, subject=request.subject.id):
        if (
            grant.plan.cells() == plan.cells()
            and grant.attributes == request.subject.attributes  # it is judged again by them
            and not grant.revoked
            and grant.expires_at > house.now()
            and grant.parent == (wider.id if wider else None)
            and (grant.plan.purpose, grant.plan.action) == (plan.purpose, plan.action)
            and grant.plan.limits.is_within(plan.limits)  # the rules may allow less now
            and set(grant.plan.obligations) >= set(plan.obligations)
        ):
            return grant
    return None
