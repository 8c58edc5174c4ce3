"""What datasets there are and what they are made of; owners classify their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.domain.access import Resource
from gateway.domain.card import texts_of
from gateway.domain.dataset import Dataset, DatasetRef, parse_tag
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import InvalidInput
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, is_visible, resource_of, unseen
from gateway.services.storage import load_manifest


async def datasets(
    house: House, caller: Caller, *, tag: str | None = None, text: str | None = None
) -> list[Dataset]:
    """Every dataset the caller may see, by name; filtered by a column tag, by name and card."""
    await house.settled()
    found = []
    for dataset in house.catalog.datasets():
        if not dataset.versions:
            continue
        resource = resource_of(house, DatasetRef(dataset.tenant, dataset.name))
        if not is_visible(house, caller.subject, resource):
            continue
        if tag is not None and not any(tag in c.effective_tags for c in resource.columns):
            continue
        if text is not None and not _holds(dataset, text.lower()):
            continue
        found.append(dataset)
    return sorted(found, key=lambda d: (d.tenant, d.name))


def _holds(dataset: Dataset, text: str) -> bool:
    return text in f"{dataset.tenant}/{dataset.name}" or text in texts_of(dataset.card)


async def dataset(house: House, caller: Caller, ref: DatasetRef) -> tuple[Dataset, Resource]:
    """One dataset with the columns of the version asked for; NotFound when unseen."""
    await house.settled()
    resource = resource_of(house, ref)
    if not is_visible(house, caller.subject, resource):
        raise unseen(ref)
    return house.catalog.dataset(ref.tenant, ref.name), resource


async def manifest(house: House, caller: Caller, ref: DatasetRef) -> dict[str, Any]:
    """The signed Manifest as stored: shards, sizes, key ids; not for recipients of the data."""
    resource = await authorize(house, caller, "update", ref.tenant, ref)
    if resource.dataset is None:
        raise unseen(ref)
    load_manifest(house, resource.dataset)
    found: dict[str, Any] = json.loads(
        house.store.read(house.catalog.manifest_key(resource.dataset))
    )
    return found


async def classify(
    house: House, caller: Caller, ref: DatasetRef, tags: Mapping[str, list[str]]
) -> tuple[Dataset, Resource]:
    """Set the tags of columns (the whole set per named column); raises the PolicyEpoch.

    Raises:
        InvalidInput: a column is not in the newest version, or a tag is malformed.
    """
    resource = await authorize(house, caller, "classify", ref.tenant, ref.unversioned)
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
