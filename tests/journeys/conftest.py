"""Homes with a server, cleaned up whatever happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An initialised home; no server yet."""
    made = Home.make(tmp_path)
    yield made
    made.end()
