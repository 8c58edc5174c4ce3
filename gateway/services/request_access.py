"""Journey 2: a caller asks; the judge answers; the answer is recorded before it is told.

Numbered as docs/explain/how-a-decision-is-made.md:
(1) the caller is authenticated (authenticate.py); (2) the resource is looked up, in the same
order whether it exists or not; (3) the judge decides over one catalogue index; (4) the
Decision is recorded; with effect allow on a data action that event *is* the Grant;
(5) the caller is told after it is durable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.catalog.catalog import Catalog
from gateway.domain.access import (
    DATA_ACTIONS,
    NOT_VISIBLE,
    AccessRequest,
    Decision,
    Limits,
    Plan,
    Reason,
    Resource,
    Subject,
)
from gateway.domain.dataset import DatasetRef
from gateway.domain.derivation import inherit
from gateway.domain.lease import Grant
from gateway.domain.purpose import parse_purpose
from gateway.domain.run_names import qualified_run
from gateway.errors import (
    AccessDenied,
    InvalidInput,
    KeyUnavailable,
    NotFound,
    Unavailable,
)
from gateway.services import (
    approvals,
    combining,
    decision_event,
    down_scope,
    groups,
    key_check,
    refusals,
)
from gateway.services.house import PLATFORM, House
from gateway.services.limits import require_running
from gateway.services.shared_grant import pinned, same_grant

CLOCK_BACK_SECONDS_MAX = 5  # invariant 1
Narrow = Callable[[Decision], Decision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who the verified token says is calling."""

    subject: Subject
    jti: str
    grant: str | None = None  # set when the token is a dataset token
    thumbprint: str = ""  # of the DPoP key the token is bound to
    expires_at: int = 0
    chain: tuple[str, ...] = ()  # jti of its token and of all that one was exchanged for
    vouched_by: str | None = None  # without a token of ours: who said so
    act: tuple[str, ...] = ()  # keys that act for the subject by delegation, latest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked of a dataset (the body of check, request and token alike)."""

    dataset: str
    action: str = "stream"
    purpose: str | None = None
    columns: tuple[str, ...] | None = None
    split: str | None = None
    limits: Limits = field(default_factory=Limits)
    run: str | None = None
    parent: str | None = None  # a Grant of one's own, to get a narrower one


def resource_of(house: House, ref: DatasetRef) -> Resource:
    """(2) What the catalogue knows; NotFound when there is no such version."""
    return resource_in(house.catalog, ref)


def resource_in(catalog: Catalog, ref: DatasetRef) -> Resource:
    """The same in another catalogue, such as that of an earlier time."""
    try:
        dataset = catalog.dataset(ref.tenant, ref.name)
    except NotFound as cause:
        raise unseen(ref) from cause
    wanted = ref.version if ref.version is not None else dataset.newest.ref.version
    for version in dataset.versions:
        if version.ref.version == wanted:
            ancestors = catalog.ancestors(version.ref)
            return Resource(
                tenant=ref.tenant,
                dataset=version.ref,
                columns=inherit(dataset.columns_of(version), ancestors),
                ancestors=ancestors,
                splits=tuple(split.name for split in version.splits),
                suspended=catalog.is_suspended(version.ref),
            )
    raise unseen(ref)


async def found_resource(house: House, caller: Caller, ref: DatasetRef) -> Resource:
    """`resource_of` for somebody who acts: not finding it is recorded, and costs the same.

    What exists and is not seen takes a durable record before its 404; so must this, or the
    time would tell the one from the other.
    """
    try:
        return resource_of(house, ref)
    except NotFound:
        await refusals.record(house, caller.subject, "/v1/datasets", NotFound.code)
        raise


def unseen(ref: DatasetRef | str) -> NotFound:
    """The one answer for what is not there and for what the caller may not see."""
    return NotFound(f"no dataset `{ref}` that you may see")


def decide(
    house: House, request: AccessRequest, resource: Resource, at: float | None = None
) -> Decision:
    """(3) Judge one request over the catalogue as it is now; `at` asks for another time.

    Raises:
        Unavailable: this machine's clock is behind the newest recorded event.
    """
    if house.catalog.newest_time - house.now() > CLOCK_BACK_SECONDS_MAX:
        raise Unavailable(
            "the clock of the gateway is behind its own journal", advice="set the server's clock"
        )
    return house.judge.decide(
        request,
        resource,
        decision_id=house.id("dec_"),
        now=house.now() if at is None else at,
        policy_epoch=house.catalog.policy_epoch,
        catalog_index=house.catalog.index,
    )


def is_visible(house: House, subject: Subject, resource: Resource) -> bool:
    """Whether the subject may know that this dataset exists: its own, or named by a rule."""
    return subject.tenant == resource.tenant or house.judge.is_visible(
        subject, resource, house.now()
    )


def may(house: House, caller: Caller, action: str, resource: Resource) -> bool:
    """Whether the rules allow a management action; only to choose what to do or to show.

    Whatever is then done goes through `authorize`, which records.
    """
    request = AccessRequest(
        subject=caller.subject, action=action, dataset=resource.dataset, tenant=resource.tenant
    )
    return decide(house, request, resource).is_allowed


async def authorize(
    house: House, caller: Caller, action: str, tenant: str, ref: DatasetRef | None = None
) -> Resource:
    """Require that the caller may do a management action; a denial is recorded.

    Returns:
        The resource that was judged (columns with tags, when it is a dataset).

    Raises:
        NotFound: the dataset is not there, or the caller may not see it (same words).
        AccessDenied: it is visible, and the rules do not allow the action.
    """
    if caller.grant is not None:
        raise AccessDenied("a dataset token opens streams only", advice="use your API token")
    resource = Resource(tenant=tenant)
    if ref is not None:
        resource = await found_resource(house, caller, ref)
    request = AccessRequest(
        subject=caller.subject, action=action, dataset=resource.dataset, tenant=tenant
    )
    decision = decide(house, request, resource)
    if not decision.is_allowed:
        if ref is None and not _may_know(house, caller.subject, resource):
            decision = await _denied_by_strangers(house, request, decision)
        else:
            await record_denial(house, request, decision, resource, ref)
        decision.require()
    return resource


def _may_know(house: House, subject: Subject, resource: Resource) -> bool:
    """Whether the subject may know that there is this tenant; the platform is no secret."""
    return resource.tenant == PLATFORM or is_visible(house, subject, resource)


async def _denied_by_strangers(
    house: House, request: AccessRequest, decision: Decision
) -> Decision:
    """(4) Record it; told alike, and as much recorded, when there is no such tenant at all.

    The Decision has no id for its asker: nothing that he can look up tells the one from the other.
    """
    try:
        house.catalog.tenant(request.tenant)
    except NotFound:
        await refusals.record(house, request.subject, "/v1/datasets", NotFound.code)
    else:
        await record(house, request, _hidden(decision))
    return dataclasses.replace(decision, id="")


def _hidden(decision: Decision) -> Decision:
    marked = (*decision.reasons, Reason(code=NOT_VISIBLE, text="no such dataset"))
    return dataclasses.replace(decision, reasons=marked)


async def request_of(house: House, caller: Caller, ask: Ask) -> tuple[AccessRequest, Resource]:
    """Build the AccessRequest of an ask: names parsed, the version pinned."""
    subject = caller.subject
    if ask.action not in DATA_ACTIONS:
        raise InvalidInput(
            f"`{ask.action[:40]}` does not release data", advice=f"use {', '.join(DATA_ACTIONS)}"
        )
    purpose = parse_purpose(ask.purpose) if ask.purpose is not None else None
    run = qualified_run(subject.tenant, ask.run)
    require_running(house, run)
    ref = pinned(house, run, DatasetRef.parse(ask.dataset))
    resource = await found_resource(house, caller, ref)
    request = AccessRequest(
        subject=subject,
        action=ask.action,
        dataset=resource.dataset,
        tenant=ref.tenant,
        purpose=purpose,
        columns=ask.columns,
        split=ask.split,
        limits=ask.limits,
        run=run,
    )
    return request, resource


async def check(house: House, caller: Caller, ask: Ask, at: float | None = None) -> Decision:
    """Answer whether, without a Grant. The question itself is recorded."""
    request, resource = await request_of(house, caller, ask)
    await groups.count(house, request, decide(house, request, resource, at))
    decision = judge_grant(house, request, resource, at=at)[0]
    if decision.is_allowed:
        await record(house, request, decision, is_question=True)
    else:
        asked = ask.dataset
        await record_denial(house, request, decision, resource, asked, is_question=True)
    return decision


async def request_grant(
    house: House, caller: Caller, ask: Ask, narrow: Narrow | None = None
) -> tuple[Decision, Grant]:
    """`begin_grant`, and wait until the Grant is durable."""
    given = await begin_grant(house, caller, ask, narrow)
    await house.settled()
    return given


async def begin_grant(
    house: House, caller: Caller, ask: Ask, narrow: Narrow | None = None
) -> tuple[Decision, Grant]:
    """Decide, record, and return the Grant; all ranks of one run and request share one.

    It may not be durable yet: nothing is told of it before an event that comes after it is.

    Args:
        house: the rooms.
        caller: who asks.
        ask: what.
        narrow: may turn what the rules allow into a denial, which is recorded as any other.

    Raises:
        AccessDenied: with the reasons the caller may read, after the denial is durable.
        NotFound: the caller may not see the dataset.
        KeyUnavailable: no stream could be opened now; recorded as a denial.
    """
    parent = await down_scope.required(house, caller.subject, ask.parent) if ask.parent else None
    request, resource = await request_of(
        house, caller, down_scope.cut(ask, parent) if parent else ask
    )
    trouble = None
    await groups.count(house, request, decide(house, request, resource))
    judged = judge_grant(house, request, resource, parent)
    if request.dataset is not None and judged[0].is_allowed:
        trouble = await key_check.trouble(house, request.tenant)
        resource = resource_of(house, request.dataset)  # as it is by now, and so are the rules
    decision, unit, wider = judge_grant(house, request, resource, parent)
    if wider is not None and decision.is_allowed:
        decision = down_scope.narrowed(decision, wider, request.run)
    if narrow is not None and decision.is_allowed:
        decision = narrow(decision)
    if not decision.is_allowed:
        await record_denial(house, request, decision, resource, ask.dataset)
        decision.require()
    shared = same_grant(house, request, decision, wider, is_whole=parent is None)
    if shared is not None:
        return dataclasses.replace(decision, id=shared.decision, plan=shared.plan), shared
    if trouble is not None:
        await record(house, request, key_check.closed(decision, trouble))
        raise KeyUnavailable(key_check.TEXT, decision=decision.id) from trouble
    grant_id = house.id("grant_")
    draft = decision_event.draft(house, request, decision, grant_id)
    facts = {**draft.facts, "parent": wider.id if wider else None}
    details = {**draft.details, "unit": unit.to_dict() if unit else None}
    house.record(dataclasses.replace(draft, facts=facts, details=details))
    return decision, house.catalog.grant(grant_id)


def judge_grant(
    house: House,
    request: AccessRequest,
    resource: Resource,
    parent: Grant | None = None,
    at: float | None = None,
) -> tuple[Decision, Plan | None, Grant | None]:
    """(3) Judge, beside what was given before, and under an approval where one is needed.

    Returns:
        The Decision; for a recipient all that its rules would release at once; and the Grant
        to cut from: the `parent` that was named, or one that a person approved.
    """
    decision, unit = judge_beside(house, request, resource, at)
    if parent is not None:
        return approvals.for_grant(house, request, parent, decision), unit, parent

    def judged(other: AccessRequest) -> Decision:
        return decide(house, other, resource, at)

    now = house.now() if at is None else at
    decision, approved = approvals.under(house, request, decision, judged, now)
    return decision, unit, approved


def judge_beside(
    house: House, request: AccessRequest, resource: Resource, at: float | None = None
) -> tuple[Decision, Plan | None]:
    """(3) What the rules say, also beside what the asker's tenant was given before.

    Returns:
        The Decision, and for a recipient all that its rules would release at once.
    """
    decision = decide(house, request, resource, at)
    decision = groups.large_enough(house, request, decision)
    if decision.plan is None or request.subject.tenant == request.tenant:
        return decision, None
    unit = decide(house, dataclasses.replace(request, columns=None), resource, at).plan
    return combining.beside_earlier(house, request, decision, unit), unit


async def record_denial(
    house: House,
    request: AccessRequest,
    decision: Decision,
    resource: Resource,
    asked: DatasetRef | str | None,
    *,
    is_question: bool = False,
) -> None:
    """(4) Record a denial; NotFound when its asker may not know that the dataset exists.

    The record then says so: its owner reads all of it, the asker what he reads after asking
    for a name that nobody has. The error names the dataset as it was `asked` for.
    """
    if asked is None or is_visible(house, request.subject, resource):
        await record(house, request, decision, is_question=is_question)
        return
    await record(house, request, _hidden(decision), is_question=is_question)
    raise unseen(asked)


async def record(
    house: House,
    request: AccessRequest,
    decision: Decision,
    *,
    is_question: bool = False,
) -> None:
    """(4) Record a Decision that gives no Grant, durably."""
    await house.recorded(
        decision_event.draft(house, request, decision, None, is_question=is_question)
    )
