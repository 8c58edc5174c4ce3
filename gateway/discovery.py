"""Find the one plug that answers to a URI scheme, through entry points; load nothing else."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gateway.errors import ConnectorError


def connect(kind: str, uri: str, **given: Any) -> Any:
    """Call the plug of group `gateway.<kind>` named by the URI's scheme: `plug(parts, **given)`.

    Args:
        kind: `kms`, `stores`, `identity`, `lineage` or `sources`.
        uri: for instance `file:///var/lib/keys`; the plug gets it split.
        given: what bootstrap hands to every plug of this kind.

    Raises:
        ConnectorError: no installed plug answers, two do, or the plug cannot be imported.
    """
    parts: SplitResult = urlsplit(uri)
    found = [e for e in entry_points(group=f"gateway.{kind}") if e.name == parts.scheme]
    if len(found) != 1:
        claimants = ", ".join(sorted(e.dist.name if e.dist else "?" for e in found)) or "none"
        raise ConnectorError(
            f"{len(found)} plugs answer to `{parts.scheme}` for {kind} (installed by: {claimants})"
        )
    try:
        plug = found[0].load()
    except ImportError as cause:
        raise ConnectorError(f"the plug for `{parts.scheme}` needs a missing library") from cause
    return plug(parts, **given)
