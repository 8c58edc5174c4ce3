"""The demo's data is what docs/explain/demo-data.md says."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from gateway.demo import datasets
from gateway.errors import ConfigError


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ConfigError) as refused:
        datasets._inside("no_such_package_here", "x.csv")
    assert "no_such_package_here" in refused.value.message
    assert "make demo" in refused.value.advice


@pytest.mark.parametrize(
    ("prepare", "columns"),
    [(datasets.health_insurance, 45), (datasets.flights, 19), (datasets.verses, 3)],
)
def test_a_real_set_has_the_documented_size(
    prepare: Callable[[Path], datasets.Prepared], columns: int, tmp_path: Path
) -> None:
    prepared = prepare(tmp_path)
    with prepared.path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        assert len(header) == columns
        assert sum(1 for _ in rows) == prepared.rows
    assert prepared.split_by is None or prepared.split_by in header


def test_the_token_set_is_the_same_every_time_and_says_that_it_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "TOKEN_ROWS", 8_192)
    prepared = datasets.tokens(tmp_path)
    assert "generated" in prepared.title
    with pa.ipc.open_file(str(prepared.path)) as reader:
        table = reader.read_all()
    assert table.schema.field("tokens").type == pa.list_(pa.int32(), 1_024)
    first = hashlib.sha256(prepared.path.read_bytes()).hexdigest()
    datasets.tokens(tmp_path)
    assert hashlib.sha256(prepared.path.read_bytes()).hexdigest() == first
