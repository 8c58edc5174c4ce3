"""What `/readyz` says of lineage: shown, never in the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.services import health
from gateway.services.house import House


class Lineage:
    """A lineage process in one line: it says what it was told to say."""

    def __init__(self, **told: Any) -> None:
        self._told = {"lag_events": 0, "rebuilt_because": None, "fault": None, **told}

    async def status(self) -> dict[str, Any]:
        return self._told


@pytest.mark.parametrize(
    ("told", "is_ok", "said"),
    [
        ({"lag_events": 3}, True, "3 events behind"),
        ({"rebuilt_because": "it was changed"}, True, "built anew since its start: it was changed"),
        ({"fault": "/var/lib/x is gone"}, False, "does not go on"),
    ],
)
def test_what_is_wrong_with_lineage_is_shown(
    house: House, told: dict[str, Any], *, is_ok: bool, said: str
) -> None:
    house.lineage = Lineage(**told)  # type: ignore[assignment]
    check = asyncio.run(health.ready(house)).checks["lineage"]
    assert (check.ok, said in check.detail) == (is_ok, True)
    assert "/var" not in check.detail  # everybody may ask


def test_while_it_starts_again_the_rest_is_told(house: House) -> None:
    found = asyncio.run(health.ready(house))
    assert found.checks["lineage"].detail == "restarting"
    assert found.checks["journal"].ok
