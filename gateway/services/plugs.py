"""The plugs that the settings name: each is made here, in one way, by whoever needs it."""

from __future__ import annotations

from gateway import config, discovery
from gateway.config import Settings
from gateway.ports import Kms, ObjectStore


def kms_of(settings: Settings) -> Kms:
    """The key service.

    Raises:
        ConfigError, ConnectorError: the URI is refused, or its library is not installed.
        KeyUnavailable: its secret (passphrase, PIN) is not there or not right.
    """
    kms: Kms = discovery.connect(
        "kms", settings.kms, config_dir=settings.config_dir, variables=config.variable
    )
    return kms


def store_of(settings: Settings) -> ObjectStore:
    """The object store; ConfigError or ConnectorError like `kms_of`."""
    store: ObjectStore = discovery.connect("stores", settings.store, state_dir=settings.state_dir)
    return store
