"""From one version's columns to the next: field ids stay, changes are shown, none slips in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.dataset import Column
from gateway.errors import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The dataset as it stands before the new version; empty for a new dataset."""

    dataset_id: str | None = None
    version: int = 0
    columns: tuple[Column, ...] = ()
    field_ids: Mapping[str, int] = field(default_factory=dict)  # every name it ever had


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
    if previous.version == 0:
        return SchemaDiff(added=tuple(c.name for c in columns), removed=(), retyped=())
    found = diff(previous.columns, columns)
    if found.is_breaking and not allow_change:
        changes = ", ".join((*(f"{name} removed" for name in found.removed), *found.retyped))
        raise Conflict(
            f"the new version changes the schema: {changes[:400]}",
            advice="register with --allow-schema-change if that is meant",
        )
    return found
