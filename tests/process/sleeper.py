"""A child that hangs and never looks at its channel."""

from __future__ import annotations

import time
from typing import Any

from gateway.process.channel import Channel


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Say that we are here, then hang."""
    channel.send("here")
    time.sleep(60)
