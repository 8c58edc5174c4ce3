"""Datasets made from others: who may claim it, and how the origin's owner releases.

A registration names what it was made from: a dataset version that its caller may see, or a run
of the caller's tenant, which stands for all that it read. The new version inherits tags, deny
and restrict rules of these (domain/derivation.py) until their owners release it.
"""

from __future__ import annotations

from typing import Any

from gateway.domain.dataset import Dataset, DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.run_names import qualified_run
from gateway.errors import InvalidInput, NotFound
from gateway.services import refusals, request_access
from gateway.services.house import House
from gateway.services.request_access import Caller

REFERENCES_MAX = 64


async def pinned(house: House, caller: Caller, references: tuple[str, ...]) -> tuple[str, ...]:
    """The references with their versions; each is something that the caller may see.

    Raises:
        NotFound: one is not there or not to be seen (same words).
        InvalidInput: one is no reference, or there are too many.
    """
    if len(references) > REFERENCES_MAX:
        raise InvalidInput(f"a version is made from at most {REFERENCES_MAX} references")
    found: list[str] = []
    for reference in references:
        if reference.startswith("run:"):
            found.append(await _run(house, caller, reference))
            continue
        ref = DatasetRef.parse(reference)
        resource = await request_access.found_resource(house, caller, ref)
        if not request_access.is_visible(house, caller.subject, resource):
            await refusals.record(house, caller.subject, "/v1/datasets", NotFound.code)
            raise request_access.unseen(ref)
        found.append(str(resource.dataset))
    return tuple(dict.fromkeys(found))


async def _run(house: House, caller: Caller, reference: str) -> str:
    name = qualified_run(caller.subject.tenant, reference)
    assert name is not None
    try:
        house.catalog.run(name)
    except NotFound as cause:
        await refusals.record(house, caller.subject, "/v1/runs", NotFound.code)
        raise NotFound(f"no run `{reference[:200]}` of your tenant") from cause
    return f"run:{name}"


def facts(house: House, references: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Facts of the event, and the tenants that it concerns; a run is all that it read so far."""
    runs = [reference.removeprefix("run:") for reference in references if _is_run(reference)]
    refs = [DatasetRef.parse(reference) for reference in references if not _is_run(reference)]
    for run in runs:
        refs += [DatasetRef.parse(read) for read in house.catalog.run(run).datasets]
    if not refs and not runs:
        return {}, ()
    refs = sorted(set(refs))
    origins = [
        {
            "dataset": str(ref.unversioned),
            "dataset_id": house.catalog.version(ref).dataset_id,
            "version": ref.version,
        }
        for ref in refs
    ]
    tenants = tuple(dict.fromkeys(ref.tenant for ref in refs))
    return {"origins": origins, "origin_runs": runs}, tenants


def _is_run(reference: str) -> bool:
    return reference.startswith("run:")


def release(house: House, caller: Caller, origin: Dataset, derived: str) -> None:
    """Record that `derived` inherits nothing of `origin` any more, up to its version named.

    The caller may update `origin`: `update.update` has asked. Sent again, it changes nothing.

    Raises:
        NotFound: there is no such dataset, or it was not made from this one (same words).
    """
    ref = DatasetRef.parse(derived)
    try:
        version = house.catalog.version(ref)
        made_from = {a.dataset.unversioned for a in house.catalog.ancestors(version.ref)}
    except NotFound:
        version, made_from = None, set()
    own = DatasetRef(origin.tenant, origin.name)
    if version is None:
        raise NotFound(f"nothing called `{ref}` was made from `{own}`")
    upto = version.ref.version or 0
    if own not in made_from:
        if origin.released.get(version.dataset_id, 0) >= upto:
            return
        raise NotFound(f"nothing called `{ref}` was made from `{own}`")
    house.record(
        EventDraft(
            kind=EventKind.DerivationReleased,
            owner_tenant=origin.tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "dataset": str(own),
                "dataset_id": origin.dataset_id,
                "derived": str(ref.unversioned),
                "derived_id": version.dataset_id,
                "version": upto,
            },
            concerns=(ref.tenant,),
        )
    )
