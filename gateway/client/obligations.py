"""What we owe for data that we were given, and what we are owed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import gateway.wire as W
from gateway.client.records import Record, Table
from gateway.client.targets import segment

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient


class Obligations:
    """`gw.obligations`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(self, *, overdue: bool = False) -> Table:
        """What our tenant owes and is owed, the next deadline first."""
        return self._gateway.all_of("/v1/obligations", overdue="true" if overdue else None)

    def fulfil(self, obligation: str, *, evidence: str | Path) -> Record:
        """Say that it is done; `evidence` is a file that shows it.

        Its SHA-256 is recorded. A short text goes along, sealed in the journal; anything else
        stays here, and should be kept.
        """
        digest, text = _read(Path(evidence))
        request = W.FulfilmentRequest(evidence_sha256=digest, evidence=text)
        path = f"/v1/obligations/{segment(obligation)}/fulfilment"
        return Record(self._gateway.post(path, request), self._gateway)


def _read(path: Path) -> tuple[str, str | None]:
    """The digest of a file, and its text when it is one and short."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if path.stat().st_size > W.EVIDENCE_CHARS_MAX:
        return digest, None
    try:
        return digest, path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return digest, None
