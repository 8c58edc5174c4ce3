"""No flipped bit of anything stored is ever read as something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shards.flips import campaign


def test_flipped_bits_of_every_stored_object_are_refused(tmp_path: Path) -> None:
    assert campaign(tmp_path, 320) == {"flips": 320, "silent": 0, "refused": 320}


@pytest.mark.slow
def test_ten_thousand_flipped_bits_are_refused(tmp_path: Path) -> None:
    assert campaign(tmp_path, 10_000)["silent"] == 0
