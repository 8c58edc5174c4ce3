"""The models of the demo, as functions of batches. They do not know where batches come from.

The same function trains through the gateway and directly on the source file; equal rows in
equal order give equal coefficients, bit for bit, and that is what the demo compares.
A batch is a mapping from column name to a one-dimensional array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Batch = Mapping[str, Any]
Floats = npt.NDArray[np.float64]

FLIGHT_COLUMNS = ("dep_delay", "arr_delay", "distance", "hour", "month")
_FLIGHT_CENTRE = np.array([12.6, 1040.0, 13.2, 6.5])  # close to the means; fixed, so streamable
_FLIGHT_SCALE = np.array([40.0, 733.0, 4.7, 3.4])
LATE_MINUTES = 15.0  # the usual definition of a delayed arrival

VERSE_COLUMNS = ("verse", "later", "text")

RISK_FEATURES = (
    "xage", "female", "black", "income", "educdec", "disea", "physlm", "ghindx", "mhi",
    "coins", "child", "lfam", "hlthg", "hlthf", "hlthp",
)  # fmt: skip
RISK_LABEL = "mdvis"  # visits to a doctor in the year; the label is: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model: its coefficients, what it scored, and on which rows."""

    coefficients: Floats
    score: float  # accuracy on each batch before it was learnt
    rows: int
    rows_digest: str  # SHA-256 hex of all values in the order they came

    @property
    def digest(self) -> str:
        """SHA-256 hex of the coefficients' bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.coefficients).tobytes()).hexdigest()


def late_arrivals(batches: Iterable[Batch]) -> Trained:
    """Does a flight arrive late? Logistic regression by SGD, one pass."""
    return _one_pass(batches, _flight_rows)


def later_verses(batches: Iterable[Batch]) -> Trained:
    """Is a verse from the later part? Hashed words, logistic regression by SGD, one pass."""
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(n_features=2**16, alternate_sign=False)

    def rows(batch: Batch) -> tuple[Any, Floats]:
        return words.transform([str(text) for text in batch["text"]]), floats(batch["later"])

    return _one_pass(batches, rows)


def doctor_visits(train: Batch, test: Batch, features: Sequence[str]) -> float:
    """AUC on `test` of a boosted model: does a person see a doctor this year?

    Rows are put into a canonical order first, so that equal rows give an equal model in
    whatever order they came.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits

    fit_x, fit_y = _visits(train, features)
    test_x, test_y = _visits(test, features)
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    with threadpool_limits(1):  # equal on every machine; its threads spin where cores are few
        model.fit(fit_x, fit_y)
        return float(roc_auc_score(test_y, model.predict_proba(test_x)[:, 1]))


def gathered(batches: Iterable[Batch]) -> dict[str, Any]:
    """All rows of a stream, column by column."""
    columns: dict[str, list[Any]] = {}
    for batch in batches:
        for name, values in batch.items():
            columns.setdefault(name, []).append(values)
    join: Callable[[list[Any]], Any] = np.ma.concatenate  # keeps masks, unlike np.concatenate
    return {name: join(parts) for name, parts in columns.items()}


def _visits(rows: Batch, features: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int64]]:
    table = np.column_stack([floats(rows[name]) for name in (*features, RISK_LABEL)])
    table = table[np.lexsort(table.T)]
    return table[:, :-1], (table[:, -1] > 0).astype(np.int64)


def _flight_rows(batch: Batch) -> tuple[Any, Floats]:
    arrival = floats(batch["arr_delay"])
    features = np.column_stack(
        [floats(batch[name]) for name in ("dep_delay", "distance", "hour", "month")]
    )
    known = ~(np.isnan(arrival) | np.isnan(features).any(axis=1))  # a cancelled flight has none
    late = (arrival[known] > LATE_MINUTES).astype(np.float64)
    return (features[known] - _FLIGHT_CENTRE) / _FLIGHT_SCALE, late


def _one_pass(batches: Iterable[Batch], rows_of: Callable[[Batch], tuple[Any, Floats]]) -> Trained:
    """Train on each batch once; the score is accuracy on each batch before it is learnt."""
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", random_state=0)
    right = scored = rows = 0
    values = hashlib.sha256()
    for batch in batches:
        rows += len(next(iter(batch.values())))
        for name in sorted(batch):
            values.update(_bytes_of(batch[name]))
        features, labels = rows_of(batch)
        if not len(labels):
            continue
        if hasattr(model, "coef_"):
            right += int((model.predict(features) == labels).sum())
            scored += len(labels)
        model.partial_fit(features, labels, classes=[0.0, 1.0])
    coefficients = np.concatenate([model.coef_.ravel(), model.intercept_.ravel()])
    return Trained(
        coefficients=coefficients,
        score=right / max(scored, 1),
        rows=rows,
        rows_digest=values.hexdigest(),
    )


def _bytes_of(column: Any) -> bytes:
    array = np.asarray(column)
    is_text = array.dtype.kind in "UT" or (array.dtype == object and isinstance(array[0], str))
    return "\0".join(map(str, array)).encode() if is_text else floats(column).tobytes()


def floats(column: Any) -> Floats:
    """A column as float64, a missing value as NaN, whatever carries it."""
    if isinstance(column, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(column.astype(np.float64), np.nan))
    array = np.asarray(column)
    if array.dtype == object:
        return np.array([np.nan if x is None else x for x in array], dtype=np.float64)
    return array.astype(np.float64)
