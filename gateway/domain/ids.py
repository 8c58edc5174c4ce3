"""Ids that say what they are: a known prefix and 16 random bytes in lower-case base32.

`dec_` Decision, `req_` AccessRequest, `grant_`, `lease_`, `op_` Operation, `run:` training run.
Randomness comes in as an argument: the domain draws none.
"""

from __future__ import annotations

import base64
import re

from gateway.errors import InvalidInput

PREFIXES = ("dec_", "req_", "grant_", "lease_", "op_", "reg_", "run:")
RANDOM_BYTES = 16
ID_BODY = r"[a-z2-7]{25}[aeimquy4]"  # 128 bits: the last character carries 3 of them
ID_BODY_CHARS = 26
_BODY = re.compile(ID_BODY + r"\Z")


def new_id(prefix: str, random16: bytes) -> str:
    """Return `prefix` followed by 26 characters.

    Args:
        prefix: one of PREFIXES.
        random16: 16 bytes from `secrets` or `os.urandom`, never used for another id.

    Raises:
        InvalidInput: an unknown prefix, or not exactly 16 bytes.
    """
    if prefix not in PREFIXES:
        raise InvalidInput(f"`{prefix[:20]}` is not a prefix of ids")
    if len(random16) != RANDOM_BYTES:
        raise InvalidInput(f"an id needs {RANDOM_BYTES} random bytes, not {len(random16)}")
    return prefix + base64.b32encode(random16).decode("ascii").rstrip("=").lower()


def is_id(text: object, prefix: str) -> bool:
    """Whether `text` is an id as `new_id(prefix, …)` makes them."""
    return (
        isinstance(text, str)
        and text.startswith(prefix)
        and _BODY.match(text, len(prefix)) is not None
    )
