"""Clients that cannot make proofs: named one by one by the operator, or there are none.

A bearer token is good for whoever holds it. So it is only ever for one Grant, opens streams and
nothing else, and is neither exchanged nor renewed; taking the name off the list ends it.
"""

from __future__ import annotations

from gateway.config import Settings
from gateway.crypto.identity_keys import parse_identity
from gateway.errors import ConfigError, InvalidInput, NotAuthenticated
from gateway.services.house import House


def load(settings: Settings) -> frozenset[str]:
    """The identities of `bearer_clients`; ConfigError when one is no identity."""
    names = (settings.bearer_clients or "").split(",")
    try:
        return frozenset(parse_identity(name.strip()) for name in names if name.strip())
    except InvalidInput as cause:
        raise ConfigError(f"`bearer_clients` is refused: {cause.message}") from cause


def require_named(house: House, identity: str) -> None:
    """Raise NotAuthenticated unless the operator lets this identity go without proofs."""
    if identity not in house.bearers:
        raise NotAuthenticated(
            "a DPoP-bound access token and its proof are needed",
            advice="send a proof, or have the operator name this client in `bearer_clients`",
        )
