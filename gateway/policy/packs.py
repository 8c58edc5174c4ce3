"""Policy packs: ready rules with their tests, shipped as data under `policies/packs/`.

`$tenant` in a pack stands for the tenant that adopts it. What a pack gives is the tenant's own
text from then on: it is published, pulled and edited like any other.
"""

from __future__ import annotations

from importlib.resources import files

from gateway.domain.dataset import parse_name
from gateway.errors import NotFound

PLACEHOLDER = "$tenant"


def names() -> tuple[str, ...]:
    """The packs there are, sorted."""
    root = files("policies").joinpath("packs")
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))


def load(name: str, tenant: str) -> dict[str, str]:
    """Files of a pack for one tenant, as `PolicyBundle.read` takes them.

    Raises:
        NotFound: no such pack.
        InvalidInput: `tenant` cannot name a tenant.
    """
    parse_name(tenant, what="tenant")
    if name not in names():
        raise NotFound(f"no policy pack `{name[:80]}`", advice=f"use one of: {', '.join(names())}")
    root = files("policies").joinpath("packs", name)
    return {
        f"{name}/{entry.name}": entry.read_text("utf-8").replace(PLACEHOLDER, tenant)
        for entry in sorted(root.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }
