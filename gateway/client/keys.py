"""Keys: list them by generation, renew them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.client.records import Record, Table
from gateway.client.targets import segment

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient


class Keys:
    """`gw.keys`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(self) -> Table:
        """Our tenant's keys by generation and age; no key is told."""
        return self._gateway.all_of("/v1/keys")

    def rotate(self, *, kind: str = "root", wait: bool = True) -> Record:
        """Renew the root or all KEKs of our tenant while streams run; the Operation."""
        started = self._gateway.post(f"/v1/keys/{segment(kind)}/rotation")
        return self._gateway.finished(started) if wait else Record(started, self._gateway)
