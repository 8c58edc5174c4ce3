from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.catalog.snapshot import FILE_NAME, load
from tests.journal.places import LOG

VECTORS = sorted((Path(__file__).resolve().parents[1] / "vectors/catalog-snapshot-v0").iterdir())


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_snapshot_vector_is_judged_as_it_says(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / FILE_NAME)
    found = load(tmp_path, b"s" * 32, LOG.public_key)
    assert (found is not None) == path.name.startswith("ok-")
