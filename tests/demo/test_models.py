"""The demo's models depend on the rows and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

from gateway.demo import datasets, models


def batches(path: Path, columns: tuple[str, ...], rows: int) -> Iterator[dict[str, np.ndarray]]:
    table = pyarrow.csv.read_csv(path).select(columns)
    for start in range(0, table.num_rows, rows):
        batch = table.slice(start, rows)
        yield {n: batch.column(n).to_numpy(zero_copy_only=False) for n in columns}


def test_a_missing_value_is_nan_whatever_carries_it() -> None:
    for column in (
        [1.0, np.nan],
        np.array([1, None], dtype=object),
        np.ma.masked_array([1, 5], mask=[False, True]),
    ):
        assert np.array_equal(models.floats(column), [1.0, np.nan], equal_nan=True)


def test_equal_rows_give_equal_coefficients_and_one_other_value_shows(tmp_path: Path) -> None:
    path = datasets.flights(tmp_path).path
    first = list(batches(path, models.FLIGHT_COLUMNS, 20_000))
    one, two = models.late_arrivals(first), models.late_arrivals(first)
    assert one.digest == two.digest
    assert one.rows == 336_776
    assert one.score > 0.85
    changed = {n: c.copy() for n, c in first[3].items()}
    changed["dep_delay"][0] += 1
    other = models.late_arrivals([*first[:3], changed, *first[4:]])
    assert other.rows_digest != one.rows_digest == two.rows_digest


def test_verses_can_be_told_apart(tmp_path: Path) -> None:
    path = datasets.verses(tmp_path).path
    rows = next(batches(path, models.VERSE_COLUMNS, 40_000))
    order = np.random.default_rng(1).permutation(len(rows["verse"]))
    parts = [{n: c[order[i : i + 2_000]] for n, c in rows.items()} for i in range(0, 31_102, 2_000)]
    trained = models.later_verses(parts)
    assert trained.score > 0.8
    assert trained.rows == 31_102


def test_the_order_of_rows_does_not_change_the_boosted_model(tmp_path: Path) -> None:
    path = datasets.health_insurance(tmp_path).path
    names = (*models.RISK_FEATURES, models.RISK_LABEL)
    parts = list(batches(path, names, 5_000))
    train, test = models.gathered(parts[:-1]), models.gathered(parts[-1:])
    turned = models.gathered(reversed(parts[:-1]))
    auc = models.doctor_visits(train, test, models.RISK_FEATURES)
    assert auc == models.doctor_visits(turned, test, models.RISK_FEATURES)
    assert auc == pytest.approx(0.72, abs=0.05)
