"""What a trainer imports: `from gateway.client import GatewayClient`. Light and lazy.

Names load on first use, so that an import costs no more than the libraries a training image
has anyway (tests/client/test_light_client.py).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient
    from gateway.client.records import Dataset, Decision, Grant, Record, Revocation, Table, Token
    from gateway.client.stream import Stream, open_stream
    from gateway.client.transport import Transport
    from gateway.domain.position import StreamPosition
    from gateway.errors import (
        AccessDenied,
        DatasetSuspended,
        GatewayError,
        LeaseExpired,
        LeaseRevoked,
        PlanChanged,
        StreamBroken,
        StreamStopped,
        TenantSuspended,
    )

__all__ = [
    "AccessDenied",
    "Dataset",
    "DatasetSuspended",
    "Decision",
    "GatewayClient",
    "GatewayError",
    "Grant",
    "LeaseExpired",
    "LeaseRevoked",
    "PlanChanged",
    "Record",
    "Revocation",
    "Stream",
    "StreamBroken",
    "StreamPosition",
    "StreamStopped",
    "Table",
    "TenantSuspended",
    "Token",
    "Transport",
    "open_stream",
]
_HOMES = {
    "GatewayClient": "gateway.client.client",
    "Transport": "gateway.client.transport",
    "Stream": "gateway.client.stream",
    "StreamPosition": "gateway.domain.position",
    "open_stream": "gateway.client.stream",
    **dict.fromkeys(
        ("Dataset", "Decision", "Grant", "Record", "Revocation", "Table", "Token"),
        "gateway.client.records",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"gateway.client has no `{name}`")
    return getattr(import_module(_HOMES.get(name, "gateway.errors")), name)


def __dir__() -> list[str]:
    return list(__all__)
