"""Named steps of what must never stay half done: where tests kill the process or fail the disk.

`reach("register.sheet")` stands in the code behind the step it names; it looks at one variable
and returns. Only a test can set that variable, by `arm` inside the process it tests: no flag,
setting, environment variable or file leads there, no code of the gateway calls `arm` (a test
looks), and children, which are started by exec, begin unarmed. So a server in use has no
failpoints at all.

A new step: its name here, `reach` in the code, and a campaign under tests/crashes that kills
there; tests/test_failpoints.py fails while one of the three is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

# name -> what has just happened. Registration: the number is the step in services/register.py.
STEPS: Final[Mapping[str, str]] = {
    "register.begun": "(1) the upload is open, its directory made",
    "register.part": "(2) a part is sealed and durable, its receipt not yet given",
    "register.staging": "(3) the directory for sealed shards is made",
    "register.sealed": "(3) every shard is sealed in it",
    "register.kek": "(4) a key that wraps keys is made, no sheet names it",
    "register.sheet": "(4) the KeySheet of the next version is durable",
    "register.object": "(5) a shard or a block table is in the store, more are to come",
    "register.objects": "(5) all of them are, the Manifest is not",
    "register.manifest": "(5) the Manifest is in the store",
    "register.recorded": "(6) the event is appended, perhaps not durable",
    "register.durable": "(6) the version exists, nobody was told",
    "register.staging-gone": "(7) the sealed shards' second names are removed",
    "register.parts-gone": "(7) the parts are removed",
    "register.take-back": "a refused registration has removed one of its objects",
    "start.object-gone": "an object of nobody is removed at a start, more are to go",
    "start.sheet-gone": "a KeySheet of nobody is removed",
    "start.keks-gone": "keys that wrap keys of nobody are removed",
    "start.file-gone": "a part, staging directory or view of nobody is removed",
    # Rotation: numbers as in services/rotate_keys.py.
    "rotate.keks": "(1) each KEK has a next generation in the ring",
    "rotate.sheets": "(2) every sheet is wrapped under it",
    "rotate.keks-recorded": "(3) the event is durable",
    "rotate.keks-gone": "(4) the old KEKs are out of the ring",
    "rotate.root": "(1) the KMS has a next root",
    "rotate.ring": "(2) the ring is under it",
    "rotate.recorded": "(3) the event is durable",
    "rotate.root-gone": "(4) the old root is destroyed",
    # The key that signs tokens: numbers as in services/signing_keys.py.
    "signing.made": "(1) the next key stands beside the old one",
    "signing.recorded": "(2) the event is durable, the file still the old one's",
    # Erasure: letters as in services/erase.py.
    "erase.recorded": "(a) nobody reads it any more, streams have stopped",
    "erase.keks": "(b) the KEKs of what survives have a next generation",
    "erase.sheets": "(b) sheets of survivors are wrapped anew, others are gone",
    "erase.root": "(b) there is a next root",
    "erase.destroyed": "(c) the old root and KEKs are destroyed",
    "erase.object": "(d) one shard with its table is deleted",
    "erase.objects": "(d) all objects are",
    "erase.certificate": "(e) the certificate is stored",
    "erase.certified": "(e) and recorded",
    # Retention: letters as in services/retention.py.
    "expire.recorded": "(a) no detail of the month opens any more",
    "expire.base": "(b) the catalogue is kept without what it forgot",
    "expire.key-gone": "(c) the month's key is out of the ring, older rings still open",
    # Just before the system is asked: an OSError raised here is the disk's own.
    "disk.private-file": "a key, sheet, receipt or ring is to be written",
    "disk.snapshot": "the catalogue's snapshot is to be written, at the end of a control",
    "disk.object": "bytes of an object are to be written",
    "disk.object-name": "an object is to get its name",
    "disk.part": "a frame of a part is to be written",
    "disk.staging": "the directory for sealed shards is to be made",
    "disk.journal": "a group of events is to be written",
    "disk.journal-sync": "they are written, to be made durable",
    "journal.file": "the next file of the journal has its name and holds nothing",
    "lineage.checkpoint": "the projection's file has changed, its seal is of the file before",
    "disk.anchor": "the newest LogCheckpoint is to be written beside the journal",
}

_armed: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Say that the step `name` has been reached; may not return, or raise, under a test."""
    if _armed is not None:
        _armed(name)


def arm(act: Callable[[str], None] | None) -> None:
    """For tests only: call `act` with every name reached in this process (None: no more)."""
    global _armed  # noqa: PLW0603 - one switch per process is what it is
    _armed = act
