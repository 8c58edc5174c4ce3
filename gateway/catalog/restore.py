"""Open journal and catalogue together: from the snapshot if it fits, else from the first event."""

from __future__ import annotations

from pathlib import Path

from gateway.catalog import snapshot
from gateway.catalog.catalog import Catalog
from gateway.journal.journal import Journal
from gateway.journal.opening import ForeignStart, JournalSetup


def restore(setup: JournalSetup, snapshots: Path, key: bytes) -> tuple[Catalog, Journal]:
    """The catalogue as of the whole journal, and the journal, open for appending.

    Args:
        setup: of the journal.
        snapshots: directory of the snapshot.
        key: that it is sealed with.

    Raises:
        IntegrityError: the journal itself was changed. A snapshot never causes an error.
    """
    found = snapshot.load_snapshot(snapshots, key, setup.signer.public_key)
    if found is not None:
        catalog = found.catalog
        try:
            return catalog, Journal.open(setup, catalog.apply, catalog.index, root=found.root)
        except ForeignStart:  # of another history, or ahead of this one: not the journal's fault
            snapshot.discard(snapshots)
    catalog = Catalog()
    return catalog, Journal.open(setup, catalog.apply, 0)
