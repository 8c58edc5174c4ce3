"""What an erasure takes and what it leaves: keys, shards, grants, streams, runs, derived data.

Reads only. The dry run shows it, the erasure records it, the certificate repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gateway.wire as W
from gateway.catalog.records import Erasure
from gateway.domain.dataset import Column, Dataset, DatasetRef, DatasetVersion
from gateway.domain.lease import Grant
from gateway.domain.manifest import FOOTER, Manifest
from gateway.errors import InvalidInput
from gateway.services.house import House
from gateway.services.storage import load_manifest
from gateway.wire import codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One erasure, before it happens."""

    dataset: Dataset
    version: int | None  # None: every version
    columns: tuple[Column, ...]  # (): whole versions
    hit: tuple[DatasetVersion, ...]
    deks: int  # that no surviving version needs
    shards: tuple[str, ...]  # ids of those that no surviving version refers to
    shards_kept: dict[str, tuple[int, ...]]  # id -> surviving versions that refer to it

    @property
    def ref(self) -> DatasetRef:
        """The dataset without a version."""
        return DatasetRef(self.dataset.tenant, self.dataset.name)

    @property
    def is_whole(self) -> bool:
        """Whether no version is left."""
        return not self.columns and len(self.hit) == len(self.dataset.versions)


def scope_of(house: House, ref: DatasetRef, columns: tuple[str, ...]) -> Scope:
    """Look up what is named.

    Raises:
        NotFound: there is no such dataset or version.
        InvalidInput: no version concerned has a column of that name.
        IntegrityError: a Manifest is not the recorded one.
    """
    dataset = house.catalog.dataset(ref.tenant, ref.name)
    hit = dataset.versions if ref.version is None else (house.catalog.version(ref),)
    chosen = tuple(_column(hit, name) for name in dict.fromkeys(columns))
    wanted = {c.field_id for c in chosen} if chosen else None
    taken: set[str] = set()
    left: set[str] = set()
    users: dict[str, list[int]] = {}
    seen: set[str] = set()
    for version in dataset.versions:
        manifest = load_manifest(house, version.ref)
        is_hit = version in hit
        for shard, leaf in _leaves(version, manifest):
            is_taken = is_hit and (wanted is None or _field_id(leaf) in wanted)
            (taken if is_taken else left).add(f"{shard}/{leaf}")
        for shard_ in manifest.shards:
            if is_hit:
                seen.add(shard_.id)
            if not is_hit or chosen:
                users.setdefault(shard_.id, []).append(manifest.version)
    return Scope(
        dataset=dataset,
        version=ref.version,
        columns=chosen,
        hit=tuple(hit),
        deks=len(taken - left),
        shards=tuple(sorted(seen - set(users))),
        shards_kept={shard: tuple(users[shard]) for shard in sorted(seen & set(users))},
    )


def _column(versions: tuple[DatasetVersion, ...], name: str) -> Column:
    for version in reversed(versions):
        for column in version.columns:
            if column.name == name:
                return column
    raise InvalidInput(
        f"there is no column `{name[:80]}` to erase", advice="`gateway dataset show` lists them"
    )


def _leaves(version: DatasetVersion, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(shard, leaf) of a version, without columns that were erased from it before."""
    there = {column.field_id for column in version.columns}
    for shard in manifest.shards:
        for leaf in shard.leaves:
            if leaf.name == FOOTER or leaf.field_id in there:
                yield shard.id, leaf.name


def _field_id(leaf: str) -> int | None:
    return None if leaf == FOOTER else int(leaf.partition(".")[0])


def grants_of(house: House, scope: Scope) -> list[Grant]:
    """Grants that end with it."""
    ids = {column.field_id for column in scope.columns}
    return [
        grant
        for grant in house.catalog.grants(owner=scope.dataset.tenant)
        if grant.plan.dataset.unversioned == scope.ref
        and scope.version in (None, grant.plan.dataset.version)
        and (not ids or ids & {column.field_id for column in grant.plan.columns})
    ]


def leases_of(house: House, grants: list[Grant]) -> list[str]:
    """Open streams under these Grants."""
    ids = {grant.id for grant in grants}
    return [lease.id for lease in house.catalog.leases() if lease.grant in ids]


def releases_of(
    house: House, dataset_id: str, field_ids: tuple[int, ...]
) -> tuple[W.KeyRelease, ...]:
    """Data keys that left: of any version, since versions share shards; of these columns or all."""
    return tuple(
        W.KeyRelease(
            grant=release.grant,
            tenant=release.recipient_tenant,
            version=release.version,
            columns=release.columns,
            shards=len(release.shards),
            keys=release.keys,
        )
        for release in house.catalog.key_releases(dataset_id)
        if not field_ids or set(field_ids) & set(release.columns)
    )


def released_by(house: House, erasure: Erasure) -> dict[str, Any]:
    """What left before an erasure and cannot be called back, as its certificate says it."""
    dataset = DatasetRef.parse(erasure.dataset)
    versions = {version.ref.version for version in erasure.versions}
    grants = [
        grant
        for grant in house.catalog.grants(owner=dataset.tenant)
        if grant.plan.dataset.unversioned == dataset
        and grant.plan.dataset.version in versions
        and (not erasure.columns or {c.field_id for c in grant.plan.columns} & set(erasure.columns))
    ]
    ids = {grant.id for grant in grants}
    return {
        "grants": [
            {"grant": g.id, "tenant": g.subject_tenant, "rows": g.rows_charged} for g in grants
        ],
        "runs": [
            {
                "run": run.id,
                "rows_acknowledged": run.rows_acknowledged,
                "model": run.model,
                "artifact_sha256": run.artifact_sha256,
            }
            for run in house.catalog.runs()
            if ids & set(run.grants)
        ],
        "keys": codec.encode(releases_of(house, erasure.dataset_id, erasure.columns)),
    }


def plan_of(house: House, scope: Scope) -> W.ErasurePlan:
    """The dry run's answer."""
    grants = grants_of(house, scope)
    ids = {grant.id for grant in grants}
    runs = [run for run in house.catalog.runs() if ids & set(run.grants)]
    return W.ErasurePlan(
        dataset=str(scope.ref if scope.version is None else scope.hit[0].ref),
        versions=tuple(version.ref.version or 0 for version in scope.hit),
        columns=tuple(column.name for column in scope.columns),
        is_whole=scope.is_whole,
        keys=scope.deks,
        shards=scope.shards,
        shards_kept={shard: list(versions) for shard, versions in scope.shards_kept.items()},
        grants=tuple(grant.id for grant in grants if not grant.revoked),
        recipients=tuple(sorted({grant.subject for grant in grants})),
        streams=tuple(leases_of(house, grants)),
        runs=tuple(run.id for run in runs),
        models=tuple(run.model for run in runs if run.model is not None),
        keys_released=releases_of(
            house, scope.dataset.dataset_id, tuple(column.field_id for column in scope.columns)
        ),
        views=house.views.count(scope.dataset.dataset_id),
        derived=_derived(house, scope),
    )


def _derived(house: House, scope: Scope) -> tuple[str, ...]:
    """Versions, also of other tenants, that say they were made from these; they stay."""
    hit = {version.ref for version in scope.hit}
    return tuple(
        str(version.ref)
        for dataset in house.catalog.datasets()
        for version in dataset.versions
        if version.ref not in hit and hit & set(version.origins)
    )
