"""The sinks that the setting `lineage_sinks` names. Light: control reads it too, at its start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
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


def file_of(directory: Path, name: SinkName) -> Path:
    """Where it is kept how far the sink was told."""
    return directory / f"sink-{name.id}.json"


def told(directory: Path, name: SinkName) -> tuple[int, int]:
    """Index of the next event to tell of, and how many were refused.

    A file that says nothing sensible is as none: all is sent again.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        value = json.loads(file_of(directory, name).read_bytes())
        following, refused = value["next"], value["refused"]
        if type(following) is int and type(refused) is int and following >= 0:
            return following, refused
    return 0, 0
