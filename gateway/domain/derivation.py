"""What a dataset made from another one inherits, until the other's owner releases it.

Decided in docs/adr/0003-derived-datasets.md. Pure: the catalogue says who descends from whom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.domain.dataset import UNCLASSIFIED_TAG, Column, DatasetRef

ANCESTORS_MAX = 64  # versions that one version may descend from, over all generations


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A version that another one was made from and is not released from."""

    dataset: DatasetRef  # with version
    columns: tuple[Column, ...] = ()  # with its own inherited tags

    @property
    def tags(self) -> frozenset[str]:
        """What any of its columns is; nothing known is `restricted`."""
        found = {tag for column in self.columns for tag in column.effective_tags}
        return frozenset(found or {UNCLASSIFIED_TAG})


def inherit(columns: tuple[Column, ...], ancestors: Iterable[Ancestor]) -> tuple[Column, ...]:
    """The columns with what they inherit.

    A column of an ancestor's name has that column's tags too; any other may hold anything of
    the ancestor, so it has all of the ancestor's tags.
    """
    for ancestor in ancestors:
        named = {column.name: column.effective_tags for column in ancestor.columns}
        columns = tuple(
            replace(
                column,
                tags=tuple(
                    sorted({*column.effective_tags, *named.get(column.name, ancestor.tags)})
                ),
            )
            for column in columns
        )
    return columns
