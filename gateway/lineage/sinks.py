"""The sinks that the setting `lineage_sinks` names. Light: control reads it too, at its start."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway import discovery
from gateway.errors import ConfigError
from gateway.ports import LineageSink

SINKS_MAX = 16
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkName:
    """One entry of the setting `lineage_sinks`."""

    uri: str
    tenant: str | None = None  # whose side it is told; None: an operator's

    @property
    def shown(self) -> str:
        """Without its query, for people."""
        parts = urlsplit(self.uri)
        where = f"{parts.scheme}://{parts.netloc}{parts.path}"
        return f"{self.tenant}={where}" if self.tenant else where

    @property
    def id(self) -> str:
        """Names the file of its cursor."""
        return hashlib.sha256(f"{self.tenant or ''}={self.uri}".encode()).hexdigest()[:24]


def parse(setting: str | None) -> list[SinkName]:
    """The sinks that the setting names; ConfigError."""
    found: list[SinkName] = []
    for word in (setting or "").split():
        tenant, equals, uri = word.partition("=")
        is_named = bool(equals) and ":" not in tenant
        if is_named and not _TENANT.match(tenant):
            raise ConfigError(f"`{tenant[:80]}` in `lineage_sinks` is no tenant")
        found.append(SinkName(uri=uri, tenant=tenant) if is_named else SinkName(uri=word))
    if len({sink.id for sink in found}) != len(found) or len(found) > SINKS_MAX:
        raise ConfigError(f"`lineage_sinks` names a sink twice, or more than {SINKS_MAX}")
    return found


def connect(name: SinkName) -> LineageSink:
    """The plug; ConfigError or ConnectorError."""
    sink: LineageSink = discovery.connect("lineage", name.uri)
    return sink
