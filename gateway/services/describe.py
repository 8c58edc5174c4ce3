"""What datasets there are and what they are made of; owners classify their columns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import gateway.wire as W
from gateway.domain.access import Resource
from gateway.domain.card import texts_of
from gateway.domain.dataset import Column, Dataset, DatasetRef, parse_tag
from gateway.domain.derivation import Ancestor, inherit
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import InvalidInput, NotFound, PreconditionFailed
from gateway.policy.outlook import Outlook
from gateway.services import shapes
from gateway.services.house import House
from gateway.services.request_access import (
    Caller,
    authorize,
    is_visible,
    may,
    resource_of,
    unseen,
)
from gateway.services.storage import load_manifest


class Seen(NamedTuple):
    """A dataset at one version, and how much of it may be told; None: all (threats 8 and 19)."""

    dataset: Dataset
    resource: Resource
    outlook: Outlook | None


def seen(house: House, caller: Caller, ref: DatasetRef) -> Seen:
    """What the caller may be told: all to those whom the owner's rules let `describe`.

    Everybody else is told of the columns, splits and counts that some Plan of his could
    release, and of nothing that hidden columns have a part in: sizes, shards, digests, ids.

    Raises:
        NotFound: it is not there, or not to be seen.
    """
    resource = resource_of(house, ref)
    if not is_visible(house, caller.subject, resource):
        raise unseen(ref)
    dataset = house.catalog.dataset(ref.tenant, ref.name)
    is_own = caller.subject.tenant == ref.tenant
    told = _told_tags(house, caller, dataset, resource)
    if is_own and may(house, caller, "describe", resource):
        return Seen(dataset, told, None)
    if not is_own:
        dataset = replace(dataset, card=_told_card(house, caller, dataset.card))
    outlook = house.judge.outlook(caller.subject, resource, house.now())
    tags = {column.field_id: column.tags for column in told.columns}
    columns = tuple(replace(column, tags=tags[column.field_id]) for column in outlook.columns)
    return Seen(dataset, told, replace(outlook, columns=columns))


def _told_tags(house: House, caller: Caller, dataset: Dataset, resource: Resource) -> Resource:
    """With the inherited tags of those columns of the origins only that the caller may see.

    What is judged has them all; told, they would say of hidden columns that they are there.
    """
    if resource.dataset is None or not resource.ancestors:
        return resource
    version = house.catalog.version(resource.dataset)
    told = [
        replace(ancestor, columns=_seen_columns(house, caller, ancestor))
        for ancestor in resource.ancestors
    ]
    return replace(resource, columns=inherit(dataset.columns_of(version), told))


def _seen_columns(house: House, caller: Caller, ancestor: Ancestor) -> tuple[Column, ...]:
    if ancestor.dataset.tenant == caller.subject.tenant:
        return ancestor.columns
    try:
        origin = resource_of(house, ancestor.dataset)
    except NotFound:
        return ()
    return house.judge.outlook(caller.subject, origin, house.now()).columns


def _told_card(house: House, caller: Caller, card: Mapping[str, object]) -> dict[str, object]:
    """Without runs, and datasets that the caller may not see: the gateway wrote these names in."""
    given = card.get("derived_from")
    if not isinstance(given, (list, tuple)):
        return dict(card)
    left = [origin for origin in given if _may_be_named(house, caller, str(origin))]
    rest = {key: value for key, value in card.items() if key != "derived_from"}
    return {**rest, "derived_from": left} if left else rest


def _may_be_named(house: House, caller: Caller, origin: str) -> bool:
    try:
        resource = resource_of(house, DatasetRef.parse(origin))
    except (InvalidInput, NotFound):
        return False
    return is_visible(house, caller.subject, resource)


async def datasets(
    house: House, caller: Caller, *, tag: str | None = None, text: str | None = None
) -> list[Seen]:
    """Every dataset the caller may see, by name; filtered by a column tag, by name and card."""
    await house.settled()
    found = []
    for dataset in house.catalog.datasets():
        if not dataset.versions:
            continue
        try:
            one = seen(house, caller, DatasetRef(dataset.tenant, dataset.name))
        except NotFound:
            continue
        columns = one.resource.columns if one.outlook is None else one.outlook.columns
        if tag is not None and not any(tag in c.effective_tags for c in columns):
            continue
        if text is not None and not _holds(one.dataset, text.lower()):
            continue
        found.append(one)
    return sorted(found, key=lambda one: (one.dataset.tenant, one.dataset.name))


def _holds(dataset: Dataset, text: str) -> bool:
    return text in f"{dataset.tenant}/{dataset.name}" or text in texts_of(dataset.card)


async def dataset(house: House, caller: Caller, ref: DatasetRef) -> Seen:
    """One dataset with the columns of the version asked for; NotFound when unseen."""
    await house.settled()
    return seen(house, caller, ref)


async def versions(house: House, caller: Caller, ref: DatasetRef) -> list[Seen]:
    """Its versions, ascending, each as far as it may be told; some may have no rule for him."""
    newest = await dataset(house, caller, ref.unversioned)
    found = []
    for version in newest.dataset.versions:
        with contextlib.suppress(NotFound):
            found.append(seen(house, caller, version.ref))
    return found


async def manifest(house: House, caller: Caller, ref: DatasetRef) -> dict[str, Any]:
    """The signed Manifest as stored: shards, sizes, key ids; for owners and auditors only."""
    is_auditor = may(house, caller, "audit", Resource(tenant=ref.tenant))
    is_own = caller.subject.tenant == ref.tenant
    action = "audit" if is_own and is_auditor else "update"
    resource = await authorize(house, caller, action, ref.tenant, ref)
    if resource.dataset is None:
        raise unseen(ref)
    await house.aside(load_manifest, house, resource.dataset)
    data = await house.aside(house.store.read, house.catalog.manifest_key(resource.dataset))
    found: dict[str, Any] = json.loads(data)
    return found


def require_match(house: House, caller: Caller, ref: DatasetRef, if_match: str | None) -> None:
    """Raise PreconditionFailed unless the dataset is as the caller read it (None, `*`: any)."""
    if if_match in (None, "*"):
        return
    if if_match != W.etag_of(shapes.dataset_detail(*seen(house, caller, ref.unversioned))):
        raise PreconditionFailed(
            f"`{ref.unversioned}` is not as you read it", advice="read it again, then change it"
        )


async def classify(
    house: House,
    caller: Caller,
    ref: DatasetRef,
    tags: Mapping[str, list[str]],
    if_match: str | None = None,
) -> Seen:
    """Set the tags of columns (the whole set per named column); raises the PolicyEpoch.

    Raises:
        InvalidInput: a column is not in the newest version, or a tag is malformed.
        PreconditionFailed: the names may mean other columns than the caller saw.
    """
    resource = await authorize(house, caller, "classify", ref.tenant, ref.unversioned)
    require_match(house, caller, ref, if_match)
    by_name = {column.name: column.field_id for column in resource.columns}
    unknown = [name for name in tags if name not in by_name]
    if unknown or not tags:
        named = f"`{unknown[0][:80]}` is not a column" if unknown else "no column is named"
        raise InvalidInput(named, advice="`gateway dataset show` lists the columns")
    known = house.catalog.dataset(ref.tenant, ref.name)
    await house.recorded(
        EventDraft(
            kind=EventKind.ColumnsClassified,
            owner_tenant=ref.tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "dataset": str(ref.unversioned),
                "dataset_id": known.dataset_id,
                "tags": {
                    str(by_name[name]): sorted({parse_tag(tag) for tag in wanted})
                    for name, wanted in tags.items()
                },
            },
        )
    )
    return await dataset(house, caller, ref.unversioned)
