"""What was at some time: who, which datasets and which rules; nothing of decisions and streams.

The same folds over the events up to then, without those that come in millions.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.catalog.catalog import Catalog
from gateway.catalog.folds import FOLDS
from gateway.catalog.state import State
from gateway.domain.events import Event, EventKind

KINDS = frozenset(
    {
        EventKind.TenantAdded,
        EventKind.TenantSuspended,
        EventKind.TenantResumed,
        EventKind.IdentityAdded,
        EventKind.IdentityDisabled,
        EventKind.VersionRegistered,
        EventKind.ColumnsClassified,
        EventKind.DatasetUpdated,
        EventKind.DerivationReleased,
        EventKind.DatasetSuspended,
        EventKind.DatasetResumed,
        EventKind.DatasetErased,
        EventKind.PolicyPublished,
        EventKind.PolicyProposed,
    }
)


def catalog_of(events: Iterable[Event]) -> Catalog:
    """Fold events of KINDS, in index order."""
    state = State()
    for event in events:
        FOLDS[event.kind](state, event)
        state.index = event.index + 1
    return Catalog(state)
