"""Turn what the rooms know into what travels: domain values to wire messages. No rules here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gateway.wire as W
from gateway.domain.access import Decision, Plan, Resource
from gateway.domain.dataset import Column, Dataset, DatasetVersion
from gateway.domain.lease import Grant
from gateway.domain.proposals import proposal_for
from gateway.domain.rowfilter import text_of
from gateway.policy.outlook import Outlook
from gateway.policy.schema import default_schema
from gateway.services.operations import Operation
from gateway.wire.problems import document_of
from gateway.wire.times import iso


def plan_view(plan: Plan) -> W.PlanView:
    """A Plan as its requester may see it."""
    limits = plan.limits
    return W.PlanView(
        dataset=str(plan.dataset),
        columns=tuple(W.PlanColumn(name=c.name, mask=c.mask) for c in plan.columns),
        row_filter=text_of(plan.row_filter) if plan.row_filter is not None else None,
        split=plan.split,
        limits=W.LimitsView(
            max_rows=limits.max_rows, max_bytes=limits.max_bytes, max_epochs=limits.max_epochs
        ),
        obligations=dict(plan.obligations),
        obligation_levels=_levels(plan),
        expires_at=iso(limits.expires_at) if limits.expires_at is not None else None,
    )


def decision_view(decision: Decision, **asked: Any) -> W.DecisionView:
    """A Decision as its requester may see it; `asked` adds subject, action, dataset, purpose."""
    return W.DecisionView(
        decision=decision.id,
        effect=decision.effect.value,
        reasons=tuple(
            W.ReasonView(code=r.code, text=r.text, rule=r.rule) for r in decision.reasons
        ),
        advice=decision.advice,
        plan=plan_view(decision.plan) if decision.plan is not None else None,
        policy_epoch=decision.policy_epoch,
        bundle=decision.bundle,
        **asked,
    )


def grant_view(grant: Grant) -> W.GrantView:
    """A Grant with what was charged to it so far."""
    plan = plan_view(grant.plan)
    return W.GrantView(
        id=grant.id,
        decision=grant.decision,
        dataset=plan.dataset,
        subject=grant.subject,
        purpose=grant.plan.purpose,
        action=grant.plan.action,
        columns=plan.columns,
        row_filter=plan.row_filter,
        split=plan.split,
        run=grant.run,
        limits=plan.limits,
        rows_charged=grant.rows_charged,
        bytes_charged=grant.bytes_charged,
        granted_at=iso(grant.granted_at),
        expires_at=iso(grant.expires_at),
        revoked=grant.revoked,
        obligations=plan.obligations,
        obligation_levels=plan.obligation_levels,
    )


def _levels(plan: Plan) -> dict[str, str]:
    """What the gateway does about each obligation; what it no longer knows is only declared."""
    known = default_schema().obligations
    return {
        name: known[name].level if name in known else "declared" for name, _ in plan.obligations
    }


def dataset_summary(dataset: Dataset, resource: Resource, told: Outlook | None) -> W.DatasetSummary:
    """One line of `dataset list`; `told` bounds what is said (None: nothing is held back)."""
    newest = dataset.newest
    columns = resource.columns if told is None else told.columns
    return W.DatasetSummary(
        dataset=f"{dataset.tenant}/{dataset.name}",
        version=newest.ref.version or 0,
        rows=sum(split.rows or 0 for split in _splits(newest, told)) if _counts(told) else None,
        columns=len(columns),
        tags=tuple(sorted({tag for column in columns for tag in column.effective_tags})),
        suspended=resource.suspended,
        registered_at=newest.registered_at,
    )


def dataset_detail(dataset: Dataset, resource: Resource, told: Outlook | None) -> W.DatasetDetail:
    """`dataset show`: the version that `resource` names, with present tags."""
    version = next(v for v in dataset.versions if v.ref == resource.dataset)
    line = version_view(dataset, resource, told)
    return W.DatasetDetail(
        dataset=f"{dataset.tenant}/{dataset.name}",
        dataset_id=dataset.dataset_id if told is None else None,
        version=line.version,
        columns=tuple(
            W.ColumnView(
                field_id=c.field_id if told is None else None,
                name=c.name,
                type=c.type,
                nullable=c.nullable,
                tags=c.effective_tags,
                renewed=c.renewed,
                proposed=_proposed(c, dataset) if told is None else None,
            )
            for c in (resource.columns if told is None else told.columns)
        ),
        splits=line.splits,
        rows=line.rows,
        bytes=line.bytes,
        shards=line.shards,
        profile=line.profile,
        manifest_digest=line.manifest_digest,
        registered_at=version.registered_at,
        registered_by=line.registered_by,
        suspended=resource.suspended,
        versions=tuple(v.ref.version or 0 for v in dataset.versions),
        card=dict(dataset.card),
        owners=dataset.owners,
        contact=dataset.contact,
    )


def _proposed(column: Column, dataset: Dataset) -> W.ProposedTag | None:
    """For columns that nobody has classified yet."""
    found = proposal_for(column.name, column.field_id, dataset.hints)
    return W.ProposedTag(**asdict(found)) if found and not column.tags else None


def version_view(dataset: Dataset, resource: Resource, told: Outlook | None) -> W.VersionView:
    """One line of a dataset's versions."""
    version = next(v for v in dataset.versions if v.ref == resource.dataset)
    splits = _splits(version, told)
    is_all = told is None
    return W.VersionView(
        version=version.ref.version or 0,
        rows=sum(split.rows or 0 for split in splits) if _counts(told) else None,
        bytes=version.bytes if is_all else None,
        shards=version.shards if is_all else None,
        profile=version.profile if is_all else None,
        splits=splits,
        manifest_digest=version.manifest_digest if is_all else None,
        registered_at=version.registered_at,
        registered_by=version.registered_by if is_all else None,
    )


def _counts(told: Outlook | None) -> bool:
    return told is None or told.counts_rows


def _splits(version: DatasetVersion, told: Outlook | None) -> tuple[W.SplitView, ...]:
    return tuple(
        W.SplitView(name=split.name, rows=split.rows if _counts(told) else None)
        for split in version.splits
        if told is None or split.name in told.splits
    )


def operation_view(operation: Operation) -> W.Operation:
    """An Operation as polled."""
    return W.Operation(
        id=operation.id,
        kind=operation.kind,
        state=operation.state,
        progress=round(operation.progress, 4),
        detail=operation.detail,
        result=operation.result or None,
        problem=document_of(operation.error) if operation.error else None,
        started_at=iso(operation.started_at),
    )
