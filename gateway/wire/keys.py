"""What is said about keys: names, generations, ages; never a key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One generation of a key. `root`, `kek`, `token` can be rotated by that id."""

    id: str
    kind: str  # root | kek | sheet | signing
    name: str  # tenant, `tenant/name[@version]`, or the use of a signing key
    state: str  # in use | unfinished rotation; of a signing key: in use | verifies | retired
    group: str | None = None  # column group of a KEK
    generation: int | None = None
    since: str | None = None
    detail: str = ""  # custody of a root
