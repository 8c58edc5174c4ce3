"""Start a server: the settings are safe, then the process tree.

The parent of the tree runs this and stays: it imports no room, so that it is small, holds no
key, and control's own start is all there is to wait for.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import time

from gateway.config import Settings
from gateway.errors import ConfigError
from gateway.process import tree


def check_safe(settings: Settings) -> None:
    """Refuse what would be unsafe on a public bind; ConfigError says the way out."""
    if _is_loopback(settings.bind):
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigError(
            f"`{settings.bind}` is not loopback, and there is no TLS",
            advice="use --tls-auto, or --tls-cert and --tls-key",
        )
    if settings.debug:
        raise ConfigError("debug on a public bind shows internals", advice="switch debug off")
    if settings.kms.startswith("file:") and not settings.accept_local_keys:
        raise ConfigError(
            "the default keyring (root keys in files on this machine) on a public bind",
            advice="use a KMS, or say --accept-local-keys if you mean it",
        )


def serve(settings: Settings, announce: tree.Announce) -> int:
    """Check the settings, make the TLS certificate if asked, and run the process tree.

    Returns:
        The exit code; see process/tree.py, which also says what `announce` is told.

    Raises:
        ConfigError: the settings are unsafe, or the state directory is refused.
    """
    if settings.tls_auto and settings.tls_cert is None:
        from gateway.crypto.certificates import self_signed

        certificate, key, fingerprint = self_signed(
            settings.config_dir, settings.host or settings.bind, now=time.time()
        )
        settings = dataclasses.replace(settings, tls_cert=certificate, tls_key=key)
        announce({"tls_fingerprint": fingerprint})
    check_safe(settings)
    return tree.serve(settings, announce)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
