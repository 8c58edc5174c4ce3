"""From one version to the next: what stays, what is shown, and what never slips in.

A column keeps its field id, and with it its tags, while name and type stay. A column that is
retyped, or comes back after a version without it, is a new column: untagged, hence
`restricted`, and not released by rules that name it until somebody has classified it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import gateway.wire as W
from gateway.domain.dataset import Column, DatasetRef, Dealing
from gateway.errors import Conflict, InvalidInput, NotFound
from gateway.services.house import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The dataset as it stands before the new version; empty for a new dataset."""

    dataset_id: str | None = None
    version: int = 0
    columns: tuple[Column, ...] = ()
    next_field_id: int = 1  # above all that the dataset ever used
    profile: str = ""
    dealing: Dealing | None = None
    erasures: int = 0  # that there were when the new version began


def previous_of(house: House, ref: DatasetRef) -> Previous:
    """The dataset as it stands; empty when there is none yet."""
    with contextlib.suppress(NotFound):
        dataset = house.catalog.dataset(ref.tenant, ref.name)
        newest = dataset.newest
        return Previous(
            dataset_id=dataset.dataset_id,
            version=dataset.last_version,
            columns=newest.columns,
            next_field_id=dataset.next_field_id,
            erasures=len(house.catalog.erasures(ref)),
            profile=newest.profile,
            dealing=newest.dealing,
        )
    return Previous(
        version=house.catalog.expect_next_version(ref) - 1,
        erasures=len(house.catalog.erasures(ref)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDiff:
    """What changes for those who hold Grants."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[str, ...]  # `name: old -> new`

    @property
    def is_breaking(self) -> bool:
        """Whether somebody may find a column gone or of another type."""
        return bool(self.removed or self.retyped)


def diff(old: tuple[Column, ...], new: tuple[Column, ...]) -> SchemaDiff:
    """Compare two versions' columns by name."""
    before = {column.name: column for column in old}
    after = {column.name: column for column in new}
    return SchemaDiff(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        retyped=tuple(
            f"{name}: {before[name].type} -> {after[name].type}"
            for name in after
            if name in before and before[name].type != after[name].type
        ),
    )


def next_columns(
    previous: Previous, columns: tuple[Column, ...], *, allow_change: bool
) -> SchemaDiff:
    """The diff to the previous version; Conflict when it breaks readers without leave."""
    if previous.dataset_id is None:
        return SchemaDiff(added=tuple(c.name for c in columns), removed=(), retyped=())
    found = diff(previous.columns, columns)
    if found.is_breaking and not allow_change:
        changes = ", ".join((*(f"{name} removed" for name in found.removed), *found.retyped))
        raise Conflict(
            f"the new version changes the schema: {changes[:400]}",
            advice="register with --allow-schema-change if that is meant",
        )
    return found


def as_appended(previous: Previous, wanted: W.RegistrationRequest) -> W.RegistrationRequest:
    """An append is laid out and dealt to splits as the version that it extends.

    So the rows of one person stay in the split that they were in before.

    Raises:
        Conflict: there is nothing to append to, or other splits are asked for than it has.
    """
    given = dealing_of(wanted)
    if not wanted.append:
        return wanted
    if previous.dataset_id is None:
        raise Conflict(
            f"there is no version of `{wanted.dataset}` to append to",
            advice="register the first one without --append",
        )
    before = previous.dealing
    if before is None:
        return replace(wanted, profile=previous.profile)
    if given not in (Dealing(), before):
        raise Conflict(
            "an append is dealt to splits as the version that it extends",
            advice="leave the splits out, or register a whole new version",
        )
    return replace(
        wanted,
        profile=previous.profile,
        splits={name: float(share) for name, share in before.shares},
        split_by=None if before.names_split else before.column,
        split_column=before.column if before.names_split else None,
    )


def dealing_of(wanted: W.RegistrationRequest) -> Dealing:
    """How the rows of a registration come into splits; InvalidInput when that makes no sense."""
    if wanted.split_column is not None and wanted.split_by is not None:
        raise InvalidInput("a split column leaves nothing to `--split-by`")
    return Dealing(
        column=wanted.split_column or wanted.split_by,
        names_split=wanted.split_column is not None,
        shares=tuple((name, repr(float(share))) for name, share in wanted.splits.items()),
    )
