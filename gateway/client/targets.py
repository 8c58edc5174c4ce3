"""What a request may be addressed with: Unicode text, each part in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from gateway.errors import InvalidInput


def segment(text: str) -> str:
    """`text` as one segment of a path: nothing in it can leave its place."""
    with unicode_only():
        return quote(text, safe="-_@")


@contextmanager
def unicode_only() -> Iterator[None]:
    """What was typed as other bytes than UTF-8 is refused here, and never sent."""
    try:
        yield
    except UnicodeEncodeError as cause:
        raise InvalidInput(
            "what was given is not Unicode text", advice="write it in UTF-8"
        ) from cause
