"""Answer one named question on one snapshot of the projection."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from gateway.errors import LimitExceeded
from gateway.lineage import expiry, names, parameters
from gateway.lineage.question import Question
from gateway.lineage.views import VIEWS

ASK_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An answer: rows of Python values."""

    columns: list[dict[str, str]]
    rows: list[tuple[Any, ...]]
    is_truncated: bool
    expired: list[str]  # months in its time that are not in it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Whose side of history is asked for."""

    tenant: str | None  # None for an operator
    is_operator: bool = False  # every tenant, without private attributes
    terms: Sequence[Mapping[str, Any]] = ()  # what cards of its own datasets say
    held: Sequence[Mapping[str, Any]] = ()  # what Grants had of the person asked about
    vouched: Sequence[str] = ()  # parameters whose names control knows to be there


def ask(
    cursor: duckdb.DuckDBPyConnection,
    question: Question,
    given: Mapping[str, Any],
    *,
    asker: Asker,
    now: float,
) -> Table:
    """Answer `question` for one tenant's side.

    Args:
        cursor: on one snapshot of the projection.
        question: what is asked.
        given: its parameters, as the caller wrote them.
        asker: whose side is asked for.
        now: Unix seconds, what ages such as `30d` count from.

    Raises:
        InvalidInput: a parameter is unknown, missing or not of its type.
        UnknownName: a name is not in this side of history.
        LimitExceeded: it took longer than ASK_SECONDS_MAX.
    """
    bound = parameters.bind(question.parameters, given, now=now)
    limit = bound["limit"]
    bound.update(
        tenant=asker.tenant,
        operator=asker.is_operator,
        terms=list(asker.terms),
        held=list(asker.held),
        limit=limit + 1,
    )
    sql, wanted = question.statement()
    with within(cursor, ASK_SECONDS_MAX):
        names.require_known(
            cursor,
            question.parameters,
            bound,
            vouched=asker.vouched,
            expired=expired(cursor, asker),
        )
        cursor.execute(sql, {name: bound[name] for name in wanted})
        columns = [{"name": str(c[0]), "type": str(c[1])} for c in cursor.description or ()]
        rows = cursor.fetchall()
    return Table(
        columns=columns,
        rows=rows[:limit],
        is_truncated=len(rows) > limit,
        expired=expired(cursor, asker, bound.get("since"), bound.get("until")),
    )


def expired(
    cursor: duckdb.DuckDBPyConnection,
    asker: Asker,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[str]:
    """Months in that time of which this side of history has lost rows by retention."""
    sql = f"SELECT DISTINCT month FROM ({VIEWS['expired']})"  # noqa: S608 - our own view
    given = {"tenant": asker.tenant, "operator": asker.is_operator}
    months = [str(row[0]) for row in cursor.execute(sql, given).fetchall()]
    return expiry.months_within(months, since, until)


@contextmanager
def within(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt what `cursor` does after so many seconds; LimitExceeded."""
    timer = threading.Timer(seconds, cursor.interrupt)
    timer.start()
    try:
        yield
    except duckdb.InterruptException as cause:
        raise LimitExceeded(
            f"the answer took longer than {seconds:g} seconds", advice="narrow it with since"
        ) from cause
    finally:
        timer.cancel()
