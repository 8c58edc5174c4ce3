"""What a token of somebody else's says, unverified: only its reader verifies it.

For when it ends, and for a message that names whom it is about.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from gateway.errors import NotAuthenticated

_PARTS = 3


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT; NotAuthenticated when it is none."""
    parts = token.split(".")
    payload = parts[1] if len(parts) == _PARTS else ""
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError as cause:
        raise NotAuthenticated("the token is not a JWT") from cause
    if not isinstance(found, dict):
        raise NotAuthenticated("the token is not a JWT")
    return found
