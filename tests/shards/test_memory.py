"""A file of any size is read within the children's memory: their watchdog would say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import register

MEGABYTES = {"csv": 250, "parquet": 1200, "arrow": 400}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(MEGABYTES))
def test_a_large_file_stays_within_the_memory_of_parser_and_sealer(
    kind: str, tmp_path: Path
) -> None:
    size = MEGABYTES[kind] * 10**6
    make = register.tokens if kind == "arrow" else register.numbers
    key, _ = register.write(tmp_path, make, size, kind=kind)
    _, _, memory = register.run(tmp_path, key)
    assert memory < register.MEMORY_GOAL * 10**6


def test_a_page_of_blobs_stays_within_the_memory_of_the_parser(tmp_path: Path) -> None:
    key, _ = register.write(tmp_path, register.blobs, 50 * 10**6, kind="parquet")
    register.run(tmp_path, key)
