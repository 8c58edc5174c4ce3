"""What values look like: e-mail, card numbers, national ids… over a bounded sample. Sealer only.

A sample is spread over the whole version and bounded in rows, cells and characters. Patterns
run as RE2 in pyarrow, which no text can make slow; only what has the right shape meets the
check digits in Python. The result names columns, reasons and coarse shares, never a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.domain import identifiers as ids
from gateway.domain.proposals import HINTS_MAX, Hint

SAMPLE_ROWS_MAX = 5_000
SAMPLE_CELLS_MAX = 200_000  # of all columns that are looked at
VALUE_CHARS_MAX = 128
VALUES_MIN = 5  # of a column: fewer say nothing
_UNIQUE_VALUES_MIN = 100
_CODE_CHARS_MAX = 40  # on average; longer unique texts are prose
_IPV4 = r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_YEAR = r"^(?:(?P<a>(?:19|20)\d\d)-\d\d-\d\d|\d\d[./]\d\d[./](?P<b>(?:19|20)\d\d))(?:[ T].*)?$"
_BIRTHS_FROM, _BIRTHS_TO, _BIRTHS_SPAN = 1900, 2035, 20  # years
_BIRTHS_MEDIAN_TO = 2008


@dataclass(frozen=True, slots=True)
class _Detector:
    reason: str
    shape: str  # RE2
    least: float  # share of a column's values that makes a hint
    check: Callable[[str], bool] | None = None
    width: int = 0  # digits of it when stored as a number, which loses leading zeros


# In this order the first that reaches its share wins; the surest first.
_DETECTORS = (
    _Detector("e-mail", r"[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}\b", 0.05),
    _Detector("iban", r"^[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}$", 0.2, ids.iban),
    _Detector(
        "payment-card",
        r"^(?:(?:4\d|5\d|2[2-7]|6\d|35)\d{2}(?:[ -]?\d{4}){3}"
        r"|3[47]\d{2}[ -]?\d{6}[ -]?\d{5}|3[068]\d{2}[ -]?\d{6}[ -]?\d{4})$",
        0.6,
        ids.luhn,
    ),
    _Detector("national-id-fr", r"^[12] ?\d\d ?(?:0[1-9]|[1-9]\d) ?(?:\d\d|2[AB])(?: ?\d){8}$",
              0.8, ids.fr_nir, 15),
    _Detector("national-id-it", r"^[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]$", 0.5,
              ids.it_codice_fiscale),
    _Detector("national-id-es", r"^(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]$", 0.5, ids.es_dni),
    _Detector("national-id-fi", r"^\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]$", 0.5, ids.fi_hetu),
    _Detector("national-id-us", r"^\d{3}-\d{2}-\d{4}$", 0.8, ids.us_ssn),
    _Detector("national-id-de", r"^[1-9]\d ?\d{3} ?\d{3} ?\d{3}$", 0.8, ids.de_steuer_id, 11),
    _Detector("national-id-be", r"^\d\d\.?\d\d\.?\d\d-?\d{3}[.-]?\d\d$", 0.8, ids.be_nrn, 11),
    _Detector("national-id-pl", r"^\d{11}$", 0.8, ids.pl_pesel, 11),
    _Detector("national-id-br", r"^\d{3}\.?\d{3}\.?\d{3}-?\d\d$", 0.8, ids.br_cpf, 11),
    _Detector("national-id-se", r"^(?:19|20)?\d{6}[-+]?\d{4}$", 0.8, ids.se_personnummer, 10),
    _Detector("national-id-uk", r"^\d{3}[ -]?\d{3}[ -]?\d{4}$", 0.8, ids.uk_nhs, 10),
    _Detector("national-id-nl", r"^\d{9}$", 0.8, ids.nl_bsn, 9),
    _Detector("ip-address", rf"^(?:{_IPV4}|(?:[0-9a-fA-F]{{1,4}}:){{7}}[0-9a-fA-F]{{1,4}}"
              r"|(?:[0-9a-fA-F]{1,4}:){1,6}(?::[0-9a-fA-F]{1,4}){1,6})$", 0.8),
    _Detector("phone", r"^(?:\+[1-9](?:[ ().-]{0,2}\d){7,14}"
              r"|(?:1[ .-])?\(?[2-9]\d\d\)?[ .-] ?[2-9]\d\d[ .-]\d{4}"
              r"|\(?0[1-9]\d{1,4}\)?[ /-](?:\d[ -]?){4,9}\d)$", 0.8),
)  # fmt: skip


class Sample:
    """Some rows of everything that passes, of the columns that could be looked at."""

    def __init__(self, schema: Any, rows_expected: int) -> None:
        """Expect about so many rows; more or fewer only make the sample less even."""
        self._columns = [n for n, f in enumerate(schema) if _is_looked_at(f.type)]
        most = SAMPLE_CELLS_MAX // max(1, len(self._columns))
        self._left = max(VALUES_MIN, min(SAMPLE_ROWS_MAX, most))
        self._stride = max(1, -(-rows_expected // self._left))
        self._next = 0  # row of the coming batch to take
        self._taken: dict[int, list[Any]] = {n: [] for n in self._columns}

    def take(self, batch: Any) -> None:
        """Keep every stride-th row."""
        rows = np.arange(self._next, len(batch), self._stride)[: self._left]
        self._next = (self._next - len(batch)) % self._stride
        if not len(rows) or not self._columns:
            return
        self._left -= len(rows)
        indices = pa.array(rows)
        for n in self._columns:
            values = batch.column(n).take(indices)
            if pa.types.is_string(values.type):
                values = pc.utf8_slice_codeunits(values, 0, VALUE_CHARS_MAX)
            self._taken[n].append(values)

    def hints(self, field_ids: tuple[int, ...]) -> list[Hint]:
        """What was found, by the columns' field ids."""
        found = []
        for n in self._columns:
            if not self._taken[n]:
                continue
            values = pa.chunked_array(self._taken[n]).combine_chunks().drop_null()
            result = look(values) if len(values) >= VALUES_MIN else None
            if result:
                reason, share = result
                percent = min(100, max(10, 10 * -int(-share * 10 // 1)))
                found.append(Hint(field_id=field_ids[n], reason=reason, percent=percent))
        return found[:HINTS_MAX]


def _is_looked_at(kind: Any) -> bool:
    tests = (pa.types.is_string, pa.types.is_integer, pa.types.is_date, pa.types.is_timestamp)
    return any(test(kind) for test in tests)


def look(values: Any) -> tuple[str, float] | None:
    """The first reason that enough of the values give, and their share; values have no nulls."""
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return _births(pc.year(values), 1.0)
    is_number = pa.types.is_integer(values.type)
    text = values.cast(pa.string()) if is_number else pc.utf8_trim_whitespace(values)
    for detector in _DETECTORS:
        if is_number and not detector.width and detector.reason != "payment-card":
            continue
        padded = _padded(text, detector.width) if is_number else text
        share = _share(padded, detector)
        if share >= detector.least:
            return detector.reason, share
    return (None if is_number else _text_births(text)) or _unique(values)


def _padded(text: Any, width: int) -> Any:
    # At most two zeros are missing, or small numbers would be ids.
    near = pc.greater_equal(pc.utf8_length(text), width - 2)
    return pc.if_else(near, pc.utf8_lpad(text, width, "0"), text) if width else text


def _share(text: Any, detector: _Detector) -> float:
    fits = pc.match_substring_regex(text, detector.shape)
    count = pc.sum(fits).as_py() or 0
    if detector.check is None or count < detector.least * len(text):
        return float(count / len(text))
    right = sum(map(detector.check, text.filter(fits).to_pylist()))
    return right / len(text)


def _text_births(text: Any) -> tuple[str, float] | None:
    years = pc.extract_regex(text, _YEAR).drop_null()
    if len(years) < 0.8 * len(text):
        return None
    both = pc.binary_join_element_wise(*(pc.struct_field(years, n) for n in (0, 1)), "")
    return _births(both.cast(pa.int64()), len(years) / len(text))


def _births(years: Any, share: float) -> tuple[str, float] | None:
    """Dates spread like births: decades wide, most of them before children now at school."""
    low, early, median, late, high = np.percentile(years.to_numpy(), (0, 5, 50, 95, 100))
    spread = late - early >= _BIRTHS_SPAN and median <= _BIRTHS_MEDIAN_TO
    return ("birth-dates", share) if spread and low >= _BIRTHS_FROM and high <= _BIRTHS_TO else None


def _unique(values: Any) -> tuple[str, float] | None:
    """Another value in each row, unless the rows are only numbered or the texts are prose."""
    if len(values) < _UNIQUE_VALUES_MIN or pc.count_distinct(values).as_py() != len(values):
        return None
    if pa.types.is_string(values.type):
        spaced = pc.mean(pc.match_substring_regex(values, r"\s").cast(pa.int8())).as_py()
        length = pc.mean(pc.utf8_length(values)).as_py()
        return None if spaced > 0.1 or length > _CODE_CHARS_MAX else ("unique", 1.0)  # noqa: PLR2004
    steps = np.diff(values.to_numpy().astype("f8"))
    return None if (steps > 0).all() or (steps < 0).all() else ("unique", 1.0)
