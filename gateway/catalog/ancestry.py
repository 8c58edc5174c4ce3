"""Who descends from whom: versions made from other versions, as far as they are not released.

Every origin of a version was registered before it, so there is no cycle; how many there are is
bounded when it is registered. An owner releases from his own dataset only: what a released
dataset was made from still counts unless its owner released too. What was erased still counts:
nobody sheds an origin, or what it said of a column, by erasing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.catalog.state import State
from gateway.domain.dataset import UNCLASSIFIED_TAG, Column, Dataset, DatasetRef, DatasetVersion
from gateway.domain.derivation import ANCESTORS_MAX, Ancestor, inherit
from gateway.errors import InvalidInput, LimitExceeded, NotFound

_Known = dict[DatasetRef, tuple[Ancestor, ...]]


def check(state: State, version: DatasetVersion, facts: Sequence[Mapping[str, Any]]) -> None:
    """Refuse origins that are not there, or too many.

    Raises:
        NotFound, Conflict: an origin is no version of that dataset.
        LimitExceeded: more than ANCESTORS_MAX over all generations.
    """
    for origin in facts:
        dataset = state.dataset(origin["dataset"], origin["dataset_id"])
        if not any(v.ref.version == origin["version"] for v in dataset.versions):
            raise NotFound(f"no dataset `{origin['dataset']}@{origin['version']}`")
    if version.ref in version.origins:
        raise InvalidInput("a version is not made from itself")
    seen: set[DatasetRef] = set()
    left = list(version.origins)
    while left:
        ref = left.pop()
        if ref not in seen:
            seen.add(ref)
            found = _version(state, ref)
            left += found.origins if found else ()
    if len(seen) > ANCESTORS_MAX:
        raise LimitExceeded(
            f"the version descends from more than {ANCESTORS_MAX} versions",
            advice="ask the owners to release what it was made from",
            limit="ancestors of a version",
        )


def ancestors(state: State, version: DatasetVersion) -> tuple[Ancestor, ...]:
    """What `version` inherits from, by name."""
    return _of(state, version, {}) if version.origins else ()


def is_suspended(state: State, version: DatasetVersion) -> bool:
    """Whether its dataset is suspended, or one that it inherits from.

    When the origin was erased, another dataset may have its name now: that one does not count.
    """
    if _is_held(state, state.datasets[str(version.ref.unversioned)]):
        return True
    for ancestor in ancestors(state, version):
        origin = _version(state, ancestor.dataset)
        dataset = state.datasets.get(str(ancestor.dataset.unversioned))
        is_it = origin and dataset and origin.dataset_id == dataset.dataset_id
        if is_it and dataset and _is_held(state, dataset):
            return True
    return False


def _is_held(state: State, dataset: Dataset) -> bool:
    """By its owner, or because an operator suspended its whole tenant."""
    return dataset.suspended or state.tenant(dataset.tenant).suspended


def _of(state: State, version: DatasetVersion, known: _Known) -> tuple[Ancestor, ...]:
    if version.ref in known:
        return known[version.ref]
    found: dict[DatasetRef, Ancestor] = {}
    for ref in version.origins:
        origin = _version(state, ref)
        above = _of(state, origin, known) if origin else ()
        found |= {ancestor.dataset: ancestor for ancestor in above}
        columns = inherit(_columns(state, origin), above) if origin else ()
        found[ref] = Ancestor(dataset=ref, columns=columns)
    kept = (found[ref] for ref in sorted(found) if not _is_released(state, ref, version))
    known[version.ref] = tuple(kept)
    return known[version.ref]


def _version(state: State, ref: DatasetRef) -> DatasetVersion | None:
    """With the columns that were erased from it; also when all of it was."""
    for erasure in state.erasures.values():  # the oldest tells of the most columns
        for version in erasure.versions:
            if version.ref == ref:
                return version
    return _present(state, ref)


def _present(state: State, ref: DatasetRef) -> DatasetVersion | None:
    dataset = state.datasets.get(str(ref.unversioned))
    versions = dataset.versions if dataset else ()
    return next((v for v in versions if v.ref == ref), None)


def _columns(state: State, version: DatasetVersion) -> tuple[Column, ...]:
    """With the newest tags that there are; of an erased version also `restricted`."""
    dataset = state.datasets.get(str(version.ref.unversioned))
    columns = version.columns
    if dataset is not None and dataset.dataset_id == version.dataset_id:
        columns = dataset.columns_of(version)
    if _present(state, version.ref) is not None:
        return columns
    return tuple(
        replace(c, tags=tuple(sorted({*c.effective_tags, UNCLASSIFIED_TAG}))) for c in columns
    )


def _is_released(state: State, origin: DatasetRef, version: DatasetVersion) -> bool:
    """By the dataset of that name, or by one that was erased."""
    name = str(origin.unversioned)
    dataset = state.datasets.get(name)
    erased = (e.released for e in state.erasures.values() if e.dataset == name)
    told = (*((dataset.released,) if dataset else ()), *erased)
    upto = max((released.get(version.dataset_id, 0) for released in told), default=0)
    return (version.ref.version or 0) <= upto
