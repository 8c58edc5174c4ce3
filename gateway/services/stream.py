"""Journey 3: a dataset token becomes a lease; the lease's worker sends exactly the Plan.

(1) the token names a Grant that is alive and belongs to the caller; (2) the rules are judged
again: another Plan than the granted one is refused (PlanChanged); (3) the Manifest is the one
the journal recorded; (4) pages alone serve the Plan (direct), or a view of it is built first;
(5) the order of rows is fixed by a keyed function of what is released, to whom; (6) the lease
is durable; (7) its worker gets the keys of the planned leaves, and nothing else; (8) the
client gets a signed lease manifest and, once, the lease key.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import secrets
from collections.abc import Mapping

from gateway.crypto.envelope import derive
from gateway.crypto.signing import sign_document
from gateway.delivery.spec import DirectSource, LeaseSpec, ViewSource
from gateway.domain.access import AccessRequest, Decision, Plan, Scalar, digest_of
from gateway.domain.events import EventKind
from gateway.domain.lease import Grant, Lease, OrderSpec
from gateway.domain.manifest import Manifest
from gateway.domain.order import GlobalOrder, lay_out, order_id, window_key
from gateway.domain.position import StreamPosition
from gateway.domain.run_names import qualified_run
from gateway.errors import (
    AccessDenied,
    DatasetSuspended,
    GatewayError,
    IntegrityError,
    InvalidInput,
    KeyUnavailable,
    LeaseExpired,
    LeaseRevoked,
    NotFound,
    PlanChanged,
)
from gateway.services import (
    approvals,
    down_scope,
    fetch,
    key_check,
    request_access,
    shapes,
    sources,
    subjects,
    update,
)
from gateway.services.granted import granted
from gateway.services.house import House
from gateway.services.limits import require_pass, require_room
from gateway.services.request_access import Caller
from gateway.services.sources import Geometry, direct_source, is_direct, view_source
from gateway.services.storage import load_manifest
from gateway.wire import codec
from gateway.wire.leases import (
    LEASE_MANIFEST_FORMAT,
    LeaseManifest,
    LeaseRequest,
    LeaseView,
    OrderRequest,
)

CHANGED = "what is stored of the dataset is not what was registered"
OPENS_STREAMS = ("stream", "export")  # a preview's rows are handed out by preview.py alone

_log = logging.getLogger("gateway.stream")


async def open_lease(house: House, caller: Caller, wanted: LeaseRequest) -> LeaseView:
    """Open a stream; answers `building` with an Operation while its view is made.

    Raises:
        AccessDenied, LeaseRevoked, LeaseExpired, PlanChanged: the Grant does not hold now.
        LimitExceeded: the Grant's epochs are used up.
        IntegrityError: what is stored was changed; recorded as a denial.
    """
    grant = _grant_of(house, caller)
    _require_fits(grant, wanted)
    order = _order(wanted.order)
    require_pass(house, grant, order)
    epoch = await judge_again(house, grant)
    try:
        ready = await _source_of(house, grant, as_arrow=wanted.as_arrow)
    except (IntegrityError, NotFound) as error:
        raise await refused_as_changed(house, grant, error) from error
    if isinstance(ready, str):
        return LeaseView(lease="", state="building", expires_at=0, operation=ready)
    source, geometry = ready
    spec = LeaseSpec(
        lease=house.id("lease_"),
        key=secrets.token_bytes(32),
        boot=house.boot,
        plan_digest=digest_of(grant.plan.cells()),
        policy_epoch=epoch,
        expires_at=min(int(house.now()) + house.settings.lease_seconds_max, grant.expires_at),
        order=order,
        order_key=sources.bound_to_frames(order_key_of(house, grant, order), source),
        source=source,
    )
    described = _describe(spec, grant, geometry, wanted.order)
    if wanted.position is not None:
        StreamPosition.from_dict(wanted.position).require(described.order_id, described.rows)
    view = await _start(house, grant, (spec, described), wanted)
    await house.workers.bind(spec.lease, caller.chain)
    return view


def may_be_direct(manifest: Manifest, plan: Plan) -> bool:
    """Whether pages serve it; a copy comes as Arrow, which has every type and field's metadata."""
    return (
        plan.action != "export"
        and is_direct(manifest, plan)
        and bool(manifest.shards_of(plan.split))
    )


async def _source_of(
    house: House, grant: Grant, *, as_arrow: bool
) -> tuple[DirectSource | ViewSource, Geometry] | str:
    """(3) and (4); the id of an Operation while shards or a view are made ready.

    Keys and remote objects may take their time, during which rules may change: the lease
    carries the PolicyEpoch it was judged under, so that its worker has it judged again then.
    """
    manifest = await house.aside(load_manifest, house, grant.plan.dataset)
    if as_arrow or not may_be_direct(manifest, grant.plan):
        return view_source(house, manifest, grant)
    shards = manifest.shards_of(grant.plan.split)
    fetching = fetch.under_way(house, shards, grant.subject_tenant)
    if fetching is not None:
        return fetching
    return await house.aside(direct_source, house, manifest, grant.plan)


def _require_fits(grant: Grant, wanted: LeaseRequest) -> None:
    if wanted.split not in (None, grant.plan.split):
        raise InvalidInput(f"the grant is for split `{grant.plan.split}`")
    if qualified_run(grant.subject_tenant, wanted.run) not in (None, grant.run):
        raise InvalidInput("the grant is for another run", advice="ask for a token of this run")


def _grant_of(house: House, caller: Caller) -> Grant:
    """(1)."""
    if caller.grant is None:
        raise AccessDenied("this token opens no stream", advice="ask for a dataset token")
    grant = down_scope.own_grant(house, caller.subject, caller.grant)
    if grant.plan.action not in OPENS_STREAMS:
        raise AccessDenied(
            f"a grant for `{grant.plan.action}` opens no stream",
            advice="ask for the action `stream`",
        )
    return grant


async def require_released(house: House, grant: Grant) -> None:
    """Raise DatasetSuspended, recorded as a denial, when its owner holds the dataset back."""
    try:
        update.require_active(house, grant)
    except DatasetSuspended:
        request, decision = _decide_again(house, grant)
        await request_access.record(house, request, decision)
        raise


async def judge_again(
    house: House, grant: Grant, attributes: Mapping[str, Scalar] | None = None
) -> int:
    """(2) The rules still allow this Plan, at the PolicyEpoch returned; a denial is recorded.

    `attributes` are what an issuer vouches for now; None: what it did for the Grant.
    """
    request, decision = _decide_again(house, grant, attributes)
    if not decision.is_allowed:
        await request_access.record(house, request, decision)
        update.require_active(house, grant)
        decision.require()
    _require_same(grant, decision.plan)
    return decision.policy_epoch


async def refused_as_changed(house: House, grant: Grant, error: GatewayError) -> IntegrityError:
    """What is stored is not what was registered: a denial that the owner reads, too."""
    request, decision = _decide_again(house, grant)
    denied = key_check.closed(decision, IntegrityError(""), CHANGED)
    await request_access.record(house, request, denied)
    of = grant.plan.dataset
    _log.error("stored bytes refused", extra={"dataset": str(of), "error": error.message})
    return IntegrityError(
        f"what is stored of `{of}` is not what was registered: {error.message}",
        advice=f"nothing of it was released; tell `{of.tenant}`, its owner: the operator puts the "
        "object back from a backup, or the data is registered again as the next version",
        decision=denied.id,
    )


def judge_lease(house: House, lease: Lease) -> int:
    """Judge an open lease under the rules as they are; the PolicyEpoch it holds for.

    Raises:
        LeaseRevoked, PlanChanged: the stream ends here.
    """
    grant = house.catalog.grant(lease.grant)
    if grant.revoked:
        raise LeaseRevoked("the owner revoked the grant of this stream")
    _, decision = _decide_again(house, grant)
    update.require_active(house, grant)
    if not decision.is_allowed:
        raise PlanChanged("the rules no longer allow this stream", decision=decision.id)
    _require_same(grant, decision.plan)
    return decision.policy_epoch


def _require_same(grant: Grant, plan: Plan | None) -> None:
    if plan is None or plan.cells() != grant.plan.cells():
        raise PlanChanged("the rules now allow another plan than the one granted")
    if not grant.plan.limits.is_within(plan.limits, slack=request_access.CLOCK_BACK_SECONDS_MAX):
        raise PlanChanged("the rules now allow less than was granted")
    if not set(plan.obligations) <= set(grant.plan.obligations):
        raise PlanChanged("the rules now oblige to more than the grant says")


def _decide_again(
    house: House, grant: Grant, attributes: Mapping[str, Scalar] | None = None
) -> tuple[AccessRequest, Decision]:
    """The same question as when the Grant was made, by the subject as it is now."""
    plan = grant.plan
    vouched = grant.attributes if attributes is None else attributes
    request = AccessRequest(
        subject=dataclasses.replace(subjects.subject_of(house, grant.subject), attributes=vouched),
        action=plan.action,
        dataset=plan.dataset,
        tenant=grant.owner_tenant,
        purpose=plan.purpose,
        columns=plan.names,
        split=plan.split,
        limits=plan.limits,
        run=grant.run,
    )
    resource = request_access.resource_of(house, plan.dataset)
    decision = request_access.decide(house, request, resource)
    return request, approvals.for_grant(house, request, grant, decision)


def _order(wanted: OrderRequest) -> OrderSpec:
    return OrderSpec(**{**dataclasses.asdict(wanted), "lanes": wanted.lanes_chosen})


def order_key_of(house: House, grant: Grant, order: OrderSpec) -> bytes:
    """(5) Limits and times are no part of it, so a renewed Grant resumes the same order."""
    return derive(
        house.vault.secret("order"),
        "order",
        digest_of(grant.plan.cells()),
        grant.subject_tenant,
        order.seed,
        order.epoch,
    )


def _describe(
    spec: LeaseSpec, grant: Grant, geometry: Geometry, wanted: OrderRequest
) -> LeaseManifest:
    """What the client verifies every segment against."""
    segments = lay_out(spec.order_key, spec.order, geometry.rows, geometry.sizes)
    lanes: list[list[int]] = [[] for _ in range(spec.order.lanes)]
    for segment in segments:
        lanes[segment.lane].append(segment.rows)
    return LeaseManifest(
        format=LEASE_MANIFEST_FORMAT,
        lease=spec.lease,
        dataset=str(grant.plan.dataset),
        split=grant.plan.split,
        kind=spec.kind,
        plan_digest=spec.plan_digest,
        columns=geometry.columns,
        schema=geometry.schema,
        rows=GlobalOrder([sum(lane) for lane in lanes]).rows,
        lanes=tuple(tuple(lane) for lane in lanes),
        order=dataclasses.replace(wanted, lanes=spec.order.lanes),
        order_id=order_id(spec.order_key, spec.order),
        window_key=window_key(spec.order_key).hex() if spec.order.shuffle else "",
        boot=spec.boot,
    )


async def _start(
    house: House, grant: Grant, made: tuple[LeaseSpec, LeaseManifest], wanted: LeaseRequest
) -> LeaseView:
    """(6) to (8); an older lease of the same run, rank and Grant is replaced at once."""
    spec, described = made
    for older in house.catalog.leases(grant=grant.id):
        if older.run == grant.run and older.order.rank == spec.order.rank and grant.run:
            await house.workers.close(older.id, "replaced")
    worker = house.workers.choose()
    require_room(house, grant, spec.order)  # others may have begun theirs meanwhile
    await house.recorded(
        granted(
            EventKind.LeaseOpened,
            grant,
            {
                "lease": spec.lease,
                "grant": grant.id,
                "run": grant.run,
                "worker": worker,
                "order": dataclasses.asdict(spec.order),
                "segments": sum(len(lane) for lane in described.lanes),
                "view": spec.kind == "view",
                "expires_at": spec.expires_at,
                "policy_epoch": spec.policy_epoch,
                "plan_digest": spec.plan_digest,
                "code": wanted.code,
                "framework": wanted.framework,
            },
        )
    )
    try:
        await house.workers.open(worker, spec)
    except IntegrityError as error:
        raise await refused_as_changed(house, grant, error) from error
    return LeaseView(
        lease=spec.lease,
        state="open",
        expires_at=spec.expires_at,
        policy_epoch=spec.policy_epoch,
        **house.workers.door_of(worker),
        lease_key=base64.b64encode(spec.key).decode(),
        manifest=sign_document(house.signers.view, codec.encode(described)),
        plan=codec.encode(shapes.plan_view(grant.plan)),
    )


def owned(house: House, caller: Caller, lease_id: str) -> Lease:
    """A lease of the caller's own; NotFound for anybody else's."""
    try:
        lease = house.catalog.lease(lease_id)
        grant = house.catalog.grant(lease.grant)
    except NotFound:
        grant = None
    if grant is None or grant.subject != caller.subject.id:
        raise NotFound(f"no lease `{lease_id[:80]}` that you may see")
    return lease


async def show(house: House, caller: Caller, lease_id: str) -> LeaseView:
    """The lease as it stands, without its key."""
    return _view(house, owned(house, caller, lease_id))


async def renew(house: House, caller: Caller, lease_id: str) -> LeaseView:
    """Judge again and prolong; the worker learns it before the caller."""
    owner = house.catalog.grant(owned(house, caller, lease_id).grant).owner_tenant
    if await key_check.trouble(house, owner) is not None:
        raise KeyUnavailable(key_check.TEXT)
    lease = owned(house, caller, lease_id)
    if lease.closed is not None:
        raise LeaseExpired(f"the lease is closed: {lease.closed}")
    if lease.expires_at <= house.now():
        raise LeaseExpired("the lease ran out")  # its place may be another stream's by now
    epoch = judge_lease(house, lease)
    grant = house.catalog.grant(lease.grant)
    expires_at = min(int(house.now()) + house.settings.lease_seconds_max, grant.expires_at)
    await house.recorded(
        granted(
            EventKind.LeaseRenewed,
            grant,
            {"lease": lease.id, "expires_at": expires_at, "policy_epoch": epoch},
        )
    )
    await house.workers.renew(lease, expires_at)
    await house.workers.bind(lease.id, caller.chain)
    return _view(house, house.catalog.lease(lease_id))


async def close(house: House, caller: Caller, lease_id: str) -> None:
    """Hand it back; harmless when it is closed already."""
    owned(house, caller, lease_id)
    await house.workers.close(lease_id, "returned")
    await house.settled()


def _view(house: House, lease: Lease) -> LeaseView:
    grant = house.catalog.grant(lease.grant)
    return LeaseView(
        lease=lease.id,
        state="closed" if lease.closed else "open",
        expires_at=lease.expires_at,
        policy_epoch=lease.policy_epoch,
        **house.workers.door_of(lease.worker),
        plan=codec.encode(shapes.plan_view(grant.plan)),
        closed=lease.closed,
    )
