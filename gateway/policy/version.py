"""The `format` line of a policy file: which version of which kind of file it is.

Version 1 closed the grammar and changed no meaning, so that files which say v0 are read as
before: bundles in the journals of running gateways stay what they are, to the byte.
"""

from __future__ import annotations

from gateway.policy.documents import Fields

_READ = ("v1", "v0")  # newest first


def written(kind: str) -> str:
    """What a new file of this kind says: `gateway-policy/v1`."""
    return f"{kind}/{_READ[0]}"


def check_format(top: Fields, kind: str) -> None:
    """Refuse a file that does not say it is of this kind, in a version that is read."""
    found = top.required("format")
    if found.text not in [f"{kind}/{version}" for version in _READ]:
        raise found.place.refuse(
            f"`{found.text[:80]}` is not `{written(kind)}`", f"write `format: {written(kind)}`"
        )
