"""The plugs that the settings name: each is made here, in one way, by whoever needs it."""

from __future__ import annotations

import time
from typing import Any

from gateway import config, discovery
from gateway.config import Settings
from gateway.lineage import sinks
from gateway.ports import Kms, ObjectStore
from gateway.services.cached_store import CachedStore


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


def telling_of(settings: Settings, issuer: str) -> dict[str, Any]:
    """To whom, and in whose name, the lineage process tells of runs; ConfigError, ConnectorError.

    Each plug is made here once, so that a wrong URI ends the start and not the telling.
    """
    named = sinks.parse(settings.lineage_sinks)
    for name in named:
        sinks.connect(name).close()
    return {"issuer": issuer, "sinks": [{"uri": n.uri, "tenant": n.tenant} for n in named]}


def plain_store_of(settings: Settings) -> ObjectStore:
    """The object store itself; unlike `store_of`, harmless beside a running server."""
    store: ObjectStore = discovery.connect("stores", settings.store, state_dir=settings.state_dir)
    return store


def store_of(settings: Settings) -> ObjectStore:
    """The object store, with local copies in front of a remote one; raises like `kms_of`."""
    store = plain_store_of(settings)
    if store.is_local:
        return store
    return CachedStore(
        store, settings.state_dir / "cache", settings.cache_bytes_max, now=time.monotonic
    )
