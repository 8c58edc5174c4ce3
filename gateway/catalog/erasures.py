"""How rotated keys and erasures follow from events: what is older, and what is no more.

A DatasetErased ends what it names at once, for every reader: the version or column leaves the
catalogue, Grants that need it are revoked. What is still to be destroyed stands in the state
until an ErasureCertified says that it was: a gateway killed in between finishes it.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.catalog.records import Erasure, RingRecord
from gateway.catalog.state import State
from gateway.domain.dataset import Dataset, DatasetVersion
from gateway.domain.events import Event
from gateway.domain.lease import Grant
from gateway.errors import Conflict, NotFound


def keys_rotated(state: State, event: Event) -> None:
    """Older rings and sheets than these are refused from here on."""
    f = event.facts
    known = state.rings.get(f["ring"])
    if known is not None and (f["root"], f["ring_generation"]) < (known.root, known.generation):
        raise Conflict(f"the keys of `{f['ring']}` were rotated further already")
    sheets = {(s["dataset_id"], s["version"]): s["generation"] for s in f["sheets"]}
    state.rings[f["ring"]] = RingRecord(
        tenant=f["ring"], root=f["root"], generation=f["ring_generation"]
    )
    for name, dataset in state.datasets.items():
        if any(dataset_id == dataset.dataset_id for dataset_id, _ in sheets):
            versions = tuple(
                replace(
                    v,
                    sheet_generation=max(
                        v.sheet_generation, sheets.get((v.dataset_id, v.ref.version or 0), 0)
                    ),
                )
                for v in dataset.versions
            )
            state.datasets[name] = replace(dataset, versions=versions)


def dataset_erased(state: State, event: Event) -> None:
    """A dataset, one of its versions, or columns of them are no more."""
    f = event.facts
    dataset = state.dataset(f["dataset"], f["dataset_id"])
    version, columns = f.get("version"), frozenset(f["columns"])
    hit = tuple(v for v in dataset.versions if version in (None, v.ref.version))
    known = {column.field_id for v in hit for column in v.columns}
    if not hit or not columns <= known:
        raise NotFound(f"`{f['dataset']}` has no such version or column to erase")
    if f["erasure"] in state.erasures:
        raise Conflict("this erasure is recorded already")
    rest = _left_of(dataset, hit, columns)
    if rest is None:
        del state.datasets[f["dataset"]]
    else:
        state.datasets[f["dataset"]] = rest
    state.last_versions[f["dataset"]] = dataset.last_version
    for grant in [g for g in state.grants.values() if _needs(g, dataset, version, columns)]:
        state.grants[grant.id] = replace(grant, revoked=True)
    state.erasures[f["erasure"]] = Erasure(
        id=f["erasure"],
        dataset=f["dataset"],
        dataset_id=f["dataset_id"],
        version=version,
        columns=tuple(sorted(columns)),
        column_names=tuple(sorted({c.name for v in hit for c in v.columns
                                   if c.field_id in columns})),
        versions=tuple(replace(v, columns=dataset.columns_of(v)) for v in hit),
        released=dict(dataset.released),
        root=f["root"],
        keks=tuple(f["keks"]),
        deks=f["deks"],
        shards=f["shards"],
        shards_kept=f["shards_kept"],
        by=event.actor or "",
        at=event.time,
        reason=str((event.details or {}).get("reason", "")),
    )  # fmt: skip


def _left_of(
    dataset: Dataset, hit: tuple[DatasetVersion, ...], columns: frozenset[int]
) -> Dataset | None:
    """What stays of a dataset; None when no version does."""
    if columns:
        versions = tuple(
            replace(
                v, columns=tuple(c for c in v.columns if v not in hit or c.field_id not in columns)
            )
            for v in dataset.versions
        )
    else:
        versions = tuple(v for v in dataset.versions if v not in hit)
    if not versions:
        return None
    before = {(c.name, c.field_id) for v in dataset.versions for c in v.columns}
    after = {(c.name, c.field_id) for v in versions for c in v.columns}
    erased = tuple(sorted({*dataset.erased_columns, *(before - after)}))
    return replace(dataset, versions=versions, erased_columns=erased)


def _needs(grant: Grant, dataset: Dataset, version: int | None, columns: frozenset[int]) -> bool:
    plan = grant.plan
    if (plan.dataset.tenant, plan.dataset.name) != (dataset.tenant, dataset.name):
        return False
    if version not in (None, plan.dataset.version):
        return False
    return not columns or bool(columns & {column.field_id for column in plan.columns})


def erasure_certified(state: State, event: Event) -> None:
    """All that was to be destroyed is; the certificate's digest."""
    f = event.facts
    erasure = state.erasures.get(f["erasure"])
    if erasure is None or erasure.dataset_id != f["dataset_id"]:
        raise NotFound("no such erasure")
    if erasure.certificate is not None:
        raise Conflict("this erasure is certified already")
    state.erasures[erasure.id] = replace(
        erasure, certificate=f["certificate"], certificate_key=f["certificate_key"]
    )
