"""Where the server is and who we are: the documented chain, and nothing else.

Server: argument > `GATEWAY_SERVER` > `server` in gateway.toml > the file that a running
gateway keeps in the runtime directory. Who we are: argument >
`GATEWAY_KEY_FILE` > `key_file` in gateway.toml > the token file of the workload
(`GATEWAY_WORKLOAD_TOKEN_FILE` or `workload_token_file`) > `identity.json` in the config directory.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config import Settings
from gateway.errors import ConfigError, Unavailable

_TOKEN_BYTES_MAX = 16 << 10
_SERVER_FILE = "server.json"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


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


def find_workload_token(settings: Settings, given: str | Path | None = None) -> Path | None:
    """The token file to use instead of a key; None when a key was named, or no such file was."""
    return None if given or settings.key_file else settings.workload_token_file


def read_workload_token(path: Path) -> str:
    """The token as the cluster has it there now; ConfigError when it cannot be read.

    Read at every renewal: whoever projects the file replaces it before the token ends.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_TOKEN_BYTES_MAX + 1)
        token = data.decode("ascii").strip()
    except (OSError, ValueError) as cause:
        raise ConfigError(f"the workload token `{path}` cannot be read") from cause
    if not token or len(data) > _TOKEN_BYTES_MAX:
        raise ConfigError(f"`{path}` holds no token")
    return token


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
    if parts.scheme == "http" and host not in _LOOPBACK:
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
