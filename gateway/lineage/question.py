"""What a named question is, and what many questions share: parameters and conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gateway.lineage.parameters import Parameter
from gateway.lineage.views import with_views

NEAREST_MAX = 3  # names that a refusal of an unknown one tells
_NAMED = re.compile(r"\$([a-z_]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One named question."""

    name: str
    version: int
    text: str  # one line for the list
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    views: tuple[str, ...]
    sql: str
    ctes: tuple[str, ...] = ()

    def statement(self) -> tuple[str, frozenset[str]]:
        """The whole SQL and the names of the parameters it binds."""
        sql = with_views(self.views, self.sql, *self.ctes)
        return sql, frozenset(_NAMED.findall(sql))

    @property
    def uses_terms(self) -> bool:
        """Whether it wants to know what cards say."""
        return TERMS in self.ctes

    @property
    def is_about_person(self) -> bool:
        """Whether it is about one person, and needs the right to `audit-person`."""
        return any(parameter.type == "person" for parameter in self.parameters)

    @property
    def uses_held(self) -> bool:
        """Whether it wants to know what each Grant had of that person."""
        return HELD in self.ctes

    def to_dict(self) -> dict[str, Any]:
        """JSON shape for the list of questions."""
        return {
            "name": self.name,
            "version": self.version,
            "text": self.text,
            "parameters": [parameter.to_dict() for parameter in self.parameters],
            "columns": list(self.columns),
        }


DATASET = Parameter(name="dataset", type="dataset", text="`tenant/name` or `tenant/name@3`")
THE_DATASET = Parameter(name="dataset", type="dataset", text=DATASET.text, required=True)
COLUMN = Parameter(name="column", type="column", text="only where this column was released")
SUBJECT = Parameter(name="subject", type="subject", text="only what this subject did")
PURPOSE = Parameter(name="purpose", type="purpose", text="only for this purpose")
PERSON = Parameter(name="person", type="person", text="id of the person", required=True)
WHY = Parameter(name="purpose", type="purpose", text="why you ask; recorded", required=True)
RUN = Parameter(name="run", type="run", text="only for this training run")
SINCE = Parameter(name="since", type="time", text="from this time on (ISO 8601 or 30d)")
UNTIL = Parameter(name="until", type="time", text="before this time (ISO 8601 or 30d)")
AS_OF = Parameter(name="as_of", type="time", text="as it was known at this time")
STATE = Parameter(name="as_of", type="state", text="the state at this time; default: now")
LIMIT = Parameter(name="limit", type="limit", text="at most so many rows")

OF_DATASET = """($dataset IS NULL OR dataset = $dataset)
  AND ($dataset_version IS NULL OR version = $dataset_version)"""
IN_TIME = """($since IS NULL OR time >= $since) AND ($until IS NULL OR time < $until)
  AND ($as_of IS NULL OR time <= $as_of)"""

# What cards of the asker's own datasets say; bound by `asking.ask`, not by who asks.
TERMS = """terms AS (SELECT unnest($terms::STRUCT(
  dataset VARCHAR, legal_basis VARCHAR, licence VARCHAR, region VARCHAR, retention VARCHAR,
  retention_days BIGINT, retention_months BIGINT, retention_until VARCHAR)[], recursive := true))"""

# What each Grant had of a person, as control found it; bound like TERMS.
HELD = """held AS (SELECT unnest($held::STRUCT(
  "grant" VARCHAR, outcome VARCHAR, because VARCHAR, strength BIGINT)[], recursive := true))"""
