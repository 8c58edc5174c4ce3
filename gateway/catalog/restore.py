"""Open journal and catalogue together: from a snapshot if one fits, else from the first event."""

from __future__ import annotations

import logging
from pathlib import Path

from gateway.catalog import snapshot
from gateway.catalog.catalog import Catalog
from gateway.errors import IntegrityError
from gateway.journal.journal import Journal, JournalSetup

_log = logging.getLogger("gateway.catalog")


def restore(setup: JournalSetup, snapshots: Path, key: bytes) -> tuple[Catalog, Journal]:
    """The catalogue as of the whole journal, and the journal, open for appending.

    Args:
        setup: of the journal.
        snapshots: directory of the snapshot.
        key: that it is sealed with.

    Raises:
        IntegrityError: the journal itself was changed. A snapshot never causes an error.
    """
    for name in snapshot.NAMES:
        found = snapshot.load(snapshots, key, setup.signer.public_key, name)
        if found is None:
            continue
        catalog = found.catalog
        try:
            return catalog, Journal.open(setup, catalog.apply, catalog.index, memory=found.memory)
        except IntegrityError as error:  # of another history, or the journal itself was changed
            _log.warning("the snapshot is not obeyed, the whole journal is read: %s", error.message)
    catalog = Catalog()
    try:
        journal = Journal.open(setup, catalog.apply, 0)
    except IntegrityError as error:
        error.advice += "; where a month has expired, `snapshots/base` of a backup is needed too"
        raise
    snapshot.discard(snapshots)  # not before: if the journal is refused, nothing was changed
    return catalog, journal
