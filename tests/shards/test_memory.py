"""A file of any size is read within the children's memory: their watchdog would say so."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.shards import ingest
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


def test_row_groups_as_large_as_the_advice_says_leave_the_parser_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "at most 32 MiB" in ingest._REWRITE
    monkeypatch.setattr(ingest, "PARSER_RESIDENT_MAX", ingest.PARSER_RESIDENT_MAX * 12 // 13)
    blobs = pa.array([os.urandom(1 << 16)] * 512, pa.large_binary())  # 32 MiB: one page
    table = pa.table({"blob": pa.chunked_array([blobs] * 5)})
    key = secrets.token_bytes(32)
    upload = register.Upload(tmp_path, key)
    pq.write_table(table, pa.PythonFile(upload, mode="w"), compression="none",
                   use_dictionary=False, row_group_size=512)  # fmt: skip
    upload.part.finish()
    register.run(tmp_path, key)


def test_a_page_of_blobs_stays_within_the_memory_of_the_parser(tmp_path: Path) -> None:
    key, _ = register.write(tmp_path, register.blobs, 50 * 10**6, kind="parquet")
    register.run(tmp_path, key)
