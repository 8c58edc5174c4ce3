"""Training jobs: what each was delivered, and the proof of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.client.records import Record, Table
from gateway.client.targets import segment
from gateway.errors import InvalidInput

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient
    from gateway.client.transport import Transport


class Runs:
    """`gw.runs`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(self) -> Table:
        """Runs of our tenant, and those that read its data, newest first."""
        return self._gateway.all_of("/v1/runs")

    def show(self, run: str) -> Record:
        """One run: datasets, grants, purposes, rows, model."""
        return Record(self._gateway.get(f"/v1/runs/{segment(run)}"), self._gateway)

    def finish(
        self, run: str, *, model: str | None = None, artifact: str | Path | None = None
    ) -> Record:
        """Say that a run is over; nothing is delivered to it any more.

        Args:
            run: as it was named when the data was asked for.
            model: name of the model that it made.
            artifact: the model's file. It stays here; its SHA-256 is recorded.

        Returns:
            With both, the signed attestation (as `attestation` gives it); else the run.
        """
        found = finish(self._gateway.transport, run, model, artifact)
        return Record(found, self._gateway)

    def attestation(self, run: str) -> Record:
        """What a finished run was delivered: `envelope` (DSSE, in-toto), `digest`, `public_key`.

        Verify it with `gateway.crypto.attestation.verify`, or any tool that reads DSSE.
        """
        return Record(self._gateway.get(_path(run)), self._gateway)


def finish(
    transport: Transport, run: str, model: str | None, artifact: str | Path | None
) -> dict[str, Any]:
    """Finish a run over a transport; see `Runs.finish`."""
    body = {"model": model, "artifact_sha256": _sha256(artifact) if artifact else None}
    given = {name: value for name, value in body.items() if value is not None}
    path = f"/v1/runs/{segment(run)}"
    done: dict[str, Any] = transport.request("PATCH", path, json=given).json()
    if done.get("attestation") is not None:
        done = transport.request("GET", _path(run)).json()
    return done


def _path(run: str) -> str:
    return f"/v1/runs/{segment(run)}/attestation"


def _sha256(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as cause:
        raise InvalidInput(
            f"`{path}` cannot be read: {cause.strerror}",
            advice="name the model's file; the run is not finished yet",
        ) from cause
