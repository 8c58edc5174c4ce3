"""Where the server is and who we are: the documented chain, and nothing else.

Server: argument > `GATEWAY_SERVER` > `server` in gateway.toml > the file that a running
gateway keeps in the runtime directory. Who we are: argument >
`GATEWAY_KEY_FILE` > `key_file` in gateway.toml > the token file of the workload
(`GATEWAY_WORKLOAD_TOKEN_FILE` or `workload_token_file`) > what `gateway login` kept for this
server > `identity.json` in the config directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from gateway.config import Settings
from gateway.errors import ConfigError, Unavailable

_TOKEN_BYTES_MAX = 16 << 10
_SERVER_FILE = "server.json"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def find_server(settings: Settings, given: str | None = None) -> str:
    """Return the base URL of the gateway, without a trailing slash.

    Raises:
        ConfigError: not a URL, or plain HTTP to another host.
        Unavailable: none was named and none runs here.
    """
    return check_url(given or settings.server or _running(settings.runtime_dir)["url"])


def find_key_file(settings: Settings, given: str | Path | None = None) -> Path:
    """Return the path of the identity key; whether it can be read is seen when it is needed."""
    return Path(given or settings.key_file or settings.config_dir / "identity.json").expanduser()


class ForeignToken(Protocol):
    """A token of a trusted issuer, shown instead of a key."""

    @property
    def origin(self) -> str:
        """Where it comes from, for messages."""
        ...

    def current(self) -> str:
        """The token as it is now; asked for at every renewal."""
        ...


@dataclass(frozen=True, slots=True)
class WorkloadTokenFile:
    """What a cluster projects: whoever does so replaces the file before the token ends."""

    path: Path

    @property
    def origin(self) -> str:
        """The file."""
        return str(self.path)

    def current(self) -> str:
        """The token that is there now; ConfigError when it cannot be read."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_TOKEN_BYTES_MAX + 1)
            token = data.decode("ascii").strip()
        except (OSError, ValueError) as cause:
            raise ConfigError(f"the workload token `{self.path}` cannot be read") from cause
        if not token or len(data) > _TOKEN_BYTES_MAX:
            raise ConfigError(f"`{self.path}` holds no token")
        return token


def find_foreign_token(
    settings: Settings, server: str, given: str | Path | None = None
) -> ForeignToken | None:
    """What to show instead of a key; None when a key was named, or there is nothing else."""
    if given or settings.key_file:
        return None
    if settings.workload_token_file is not None:
        return WorkloadTokenFile(settings.workload_token_file)
    path = login_file(settings, server)
    if not path.exists():
        return None
    from gateway.client.logins import KeptLogin

    return KeptLogin(path, settings.tls_ca)


def login_file(settings: Settings, server: str) -> Path:
    """Where `gateway login` keeps what it got for this server."""
    name = hashlib.sha256(server.encode()).hexdigest()[:32]
    return settings.state_dir / "logins" / f"{name}.json"


def check_url(url: str) -> str:
    """Return `url` normalised; ConfigError when it is no base URL or sends tokens in the clear."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ConfigError(
            f"`{url[:200]}` is not the URL of a gateway", advice="write `https://host:8787`"
        )
    if parts.username or parts.password or parts.path.strip("/"):
        raise ConfigError("the URL of a gateway has no path and no password")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(f"`{host}` is not this machine, and the URL is not https")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


def find_authority(settings: Settings, server: str) -> Path | None:
    """PEM file of an authority to trust besides the system's.

    The one that is configured; else, for the gateway that runs here, the certificate that
    `--tls-auto` made and whose place its own file (0600, of this account) names.
    """
    if settings.tls_ca is not None:
        return settings.tls_ca
    with contextlib.suppress(Unavailable):
        facts = _running(settings.runtime_dir)
        if facts.get("url") == server and "tls_ca" in facts:
            return Path(str(facts["tls_ca"]))
    return None


def _running(runtime_dir: Path) -> dict[str, Any]:
    path = runtime_dir / _SERVER_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        os.kill(int(facts["pid"]), 0)
        return {**facts, "url": str(facts["url"])}
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise Unavailable(
            "no gateway is running here and no server is named",
            advice="start one with `gateway serve`, or name it with --server or GATEWAY_SERVER",
        ) from cause
