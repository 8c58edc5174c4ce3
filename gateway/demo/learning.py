"""Scene: models are trained through the gateway, and compared with direct training.

The jobs are processes of their own (`gateway.demo.trainer`). The direct side reads the source
files as they are on disk; it never talks to the gateway.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.csv

from gateway.demo import models
from gateway.demo.asking import WITHHELD
from gateway.demo.cast import ANALYST, FLIGHTS, JOB, RAND, VERSES, Play, folder
from gateway.demo.stage import answer_of
from gateway.demo.steps import Seen, Step, expect

BATCH_ROWS = 4_096
_AUC_COST_MAX = 0.2


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    return [
        Step(
            name="train-flights",
            title="a model trained through the gateway equals the one trained on the file",
            act=lambda: _flights(play),
        ),
        Step(
            name="train-verses",
            title="so it is in shuffled order, and with text",
            act=lambda: _verses(play),
        ),
        Step(
            name="train-rand-hie",
            title="what withholding and masking cost in AUC",
            act=lambda: _cost_of_masks(play),
        ),
    ]


def job(play: Play, person: str, **wanted: Any) -> dict[str, Any]:
    """What a trainer is told: where, as whom, what."""
    return {"server": play.url, **play.shown_by(person), **wanted}


def _jobs(play: Play) -> dict[str, subprocess.Popen[str]]:
    """All training jobs, started together on first use, as in a training centre."""
    jobs: dict[str, subprocess.Popen[str]] = play.facts.setdefault("jobs", {})
    if not jobs:
        for name, (person, wanted) in _wanted().items():
            told = job(play, person, batch_rows=BATCH_ROWS, run=f"run:demo-{name}", **wanted)
            jobs[name] = play.stage.program(folder(person), "gateway.demo.trainer", told)
    return jobs


def _wanted() -> dict[str, tuple[str, dict[str, Any]]]:
    open_set = {"purpose": "methods-research"}
    risk = {"task": "risk", "dataset": RAND, "purpose": "health-research"}
    keys = ["zper", "year", models.RISK_LABEL]
    given = [name for name in models.RISK_FEATURES if name not in WITHHELD]
    return {
        "flights": (
            JOB,
            {
                **open_set,
                "task": "flights",
                "dataset": FLIGHTS,
                "columns": models.FLIGHT_COLUMNS,
            },
        ),
        "verses": (
            JOB,
            {
                **open_set,
                "task": "verses",
                "dataset": VERSES,
                "columns": models.VERSE_COLUMNS,
                "seed": 7,
            },
        ),
        "analyst": (
            ANALYST,
            {
                **risk,
                "columns": [*keys, *models.RISK_FEATURES],
                "features": models.RISK_FEATURES,
            },
        ),
        "risk": (JOB, {**risk, "columns": [models.RISK_LABEL, *given], "features": given}),
    }


def _trained(play: Play, name: str) -> dict[str, Any]:
    return answer_of(_jobs(play)[name])[-1]


def _source(play: Play, ref: str) -> dict[str, Any]:
    table = pyarrow.csv.read_csv(play.prepared[ref].path)
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: Any) -> np.ndarray[Any, Any]:
    """As numpy; an empty cell of a text column is a missing value, as for the gateway."""
    found: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    if found.dtype == object:
        found = found.copy()
        found[found == ""] = None
    return found


def _cut(
    rows: dict[str, Any], columns: Sequence[str], order: np.ndarray[Any, Any] | slice
) -> Iterator[models.Batch]:
    chosen = {name: rows[name][order] for name in columns}
    total = len(chosen[columns[0]])
    for start in range(0, total, BATCH_ROWS):
        yield {name: values[start : start + BATCH_ROWS] for name, values in chosen.items()}


def _flights(play: Play) -> Seen:
    _jobs(play)
    source = _source(play, FLIGHTS)
    direct = models.late_arrivals(_cut(source, models.FLIGHT_COLUMNS, slice(None)))
    through = _trained(play, "flights")
    _same(through, direct)
    return Seen(
        text=f"{through['rows']:,} flights: accuracy {through['score']:.3f} through the gateway, "
        f"{direct.score:.3f} direct; coefficients identical",
        facts={"rows": through["rows"], "score": through["score"], "identical": True},
        lines=(f"coefficients sha256 {direct.digest[:16]}…, on both sides",),
    )


def _verses(play: Play) -> Seen:
    through = _trained(play, "verses")
    source = _source(play, VERSES)
    place = {int(verse): row for row, verse in enumerate(source["verse"])}
    order = np.array([place[verse] for verse in through["verses"]])
    expect(len(set(through["verses"])) == len(place), "a verse is missing or came twice")
    expect(not np.array_equal(order, np.arange(len(order))), "the order was not shuffled")
    direct = models.later_verses(_cut(source, models.VERSE_COLUMNS, order))
    _same(through, direct)
    return Seen(
        text=f"{through['rows']:,} verses, shuffled: accuracy {through['score']:.3f} through the "
        f"gateway, {direct.score:.3f} direct; coefficients identical",
        facts={"rows": through["rows"], "score": through["score"], "identical": True},
    )


def _same(through: dict[str, Any], direct: models.Trained) -> None:
    expect(through["rows"] == direct.rows, f"{through['rows']} rows came, not {direct.rows}")
    expect(through["rows_digest"] == direct.rows_digest, "other values came than are in the file")
    expect(through["digest"] == direct.digest, "the coefficients differ")


def _cost_of_masks(play: Play) -> Seen:
    full, masked = _trained(play, "analyst"), _trained(play, "risk")
    direct = _direct_auc(play, full["test_keys"])
    expect(abs(full["auc"] - direct) < 1e-12, f"AUC {full['auc']} is not {direct}")  # noqa: PLR2004
    cost = full["auc"] - masked["auc"]
    expect(-0.01 < cost < _AUC_COST_MAX, f"withholding and masking cost {cost:.3f}")  # noqa: PLR2004
    return Seen(
        text=f"AUC {direct:.3f} direct, {full['auc']:.3f} through the gateway in full (identical), "
        f"{masked['auc']:.3f} without race and sex, income and age in steps: the masks cost "
        f"{cost:.3f}",
        facts={
            "auc_direct": direct,
            "auc_full": full["auc"],
            "auc_masked": masked["auc"],
            "cost": cost,
        },
    )


def _direct_auc(play: Play, test_keys: list[list[int]]) -> float:
    source = _source(play, RAND)
    keys = {(int(person), int(year)) for person, year in test_keys}
    pairs = zip(source["zper"], source["year"], strict=True)
    in_test = np.array([(int(person), int(year)) in keys for person, year in pairs])
    train = {name: values[~in_test] for name, values in source.items()}
    test = {name: values[in_test] for name, values in source.items()}
    return models.doctor_visits(train, test, models.RISK_FEATURES)
