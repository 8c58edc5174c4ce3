"""Views that cannot be built."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.services import sources
from gateway.services.house import House


def test_a_view_that_fails_unforeseen_is_told_to_whoever_waits(house: House) -> None:
    broken: Any = None  # neither a Manifest nor a Grant: as if a defect of ours had struck
    house.views.building["key"] = "op_x"
    with pytest.raises(AttributeError):
        asyncio.run(sources._build(house, broken, broken, ("key", "op_x"), lambda *_: None))
    assert isinstance(house.views.failed["key"], GatewayError)
    assert house.views.building == {}
