"""Statements from a grammar, and the same with one forbidden thing put into one place.

    Grammar(7).statement()            # honest: the allow-list lets it pass
    Grammar(7, poison=3).statement()  # place 3 of the same statement holds what is forbidden

Every place where the grammar puts an expression, a table, the body of a CTE or an end is one that
can be poisoned; names are spelled in any case, quoted and commented as DuckDB permits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

POISON: dict[str, Sequence[str]] = {
    "expression": (
        "getenv('HOME')", "current_setting('memory_limit')", "pg_sleep(1)", "sleep_ms(1)",
        "repeat('x', 9)", "lpad('x', 9, 'y')", "printf('%d', 1)", "getvariable('a')",
        "current_query()", "version()", "write_log('x')", "nextval('s')", "random()",
        "main.sum(1)", "system.main.count(*)", "json_serialize_sql('SELECT 1')",
        "(SELECT count(*) FROM event)", "(SELECT max(idx) FROM confirmed)",
        "(SELECT 1 FROM read_text('/etc/passwd'))", "exists(SELECT 1 FROM duckdb_secrets())",
        "'a'::main.secret_type", "$1", "?", "$name", "add_parquet_key('k', 'v')",
        "(SELECT getenv('HOME') FROM read)", "list_transform([1], lambda x: getenv('HOME'))",
        "sum(pg_sleep(1)) OVER ()", "CASE WHEN true THEN getenv('A') END", "[getenv('A')]",
        "{'a': getenv('A')}", "sum(rows) FILTER (WHERE getenv('A') = '')", "current_user",
    ),
    "table": (
        "event", "copied.read", "copied.main.read", "later_read", "confirmed", "granted",
        "progress", "seen_read", "incoming", "main.read",
        "memory.main.read", "temp.read", "'/etc/passwd'", '"/etc/passwd"', "pg_class",
        "information_schema.tables", "sqlite_master", "read_csv('/etc/passwd')",
        "read_text('/etc/passwd')", "read_parquet('s3://a/b')", "glob('/*')", "duckdb_tables()",
        "duckdb_settings()", "query('SELECT 1')", "query_table('read')", "read AT (VERSION => 1)",
        "(SHOW TABLES)", "(DESCRIBE read)", "(SUMMARIZE read)", "test_all_types()",
        "(PIVOT read ON purpose USING sum(rows))", "range((SELECT count(*) FROM event))",
        "pragma_storage_info('read')", "(SELECT * FROM event)", "(VALUES (getenv('HOME')))",
    ),
    "body": (
        "DELETE FROM read RETURNING *", "INSERT INTO read SELECT * FROM read RETURNING *",
        "UPDATE read SET rows = 0 RETURNING *", "COPY (SELECT 1) TO '/prey/out'",
        "SELECT * FROM event", "SELECT getenv('HOME')", "FROM read_text('/etc/passwd')",
    ),
    "end": (
        "; DROP TABLE read", "; SELECT 1", " UNION ALL FROM event", " EXCEPT SELECT getenv('A')",
        " LIMIT (SELECT count(*) FROM event)", " ORDER BY pg_sleep(1)",
    ),
}  # fmt: skip
_VIEWS = ("read", "decision", "denial", "lease", "policy", "question", "release", "expired")
_COLUMNS = ("time", "rows", "purpose", "dataset", "run", "reasons", "columns", "month", "1", "'x'")
_CALLS = ("lower", "length", "abs", "coalesce", "hash", "typeof", "list_contains", "greatest")
_SUMS = ("count", "sum", "max", "min", "median", "list", "string_agg", "approx_count_distinct")


class Grammar:
    """One statement per seed."""

    def __init__(self, seed: int, *, poison: int | None = None) -> None:
        self._rng, self._spelling = random.Random(seed), random.Random(seed)
        self._poison = poison
        self.places = 0  # that could be poisoned, so far
        self.kind = ""  # of the one that was
        self._ctes: list[str] = []
        self._in_window = False  # another one inside is no SQL

    def statement(self) -> str:
        names = [f"c{n}" for n in range(self._rng.choice((0, 0, 1, 2)))]
        bodies = []
        for name in names:
            bodies.append(f"{name} AS ({self._place('body', self._select(1))})")
            self._ctes.append(name)
        head = f"WITH {', '.join(bodies)} " if bodies else ""
        return head + self._select(3) + self._place("end", "")

    def _window(self, deeper: Callable[[], str]) -> str:
        if self._in_window:
            return deeper()
        self._in_window = True
        text = f"sum({deeper()}) OVER (PARTITION BY {deeper()} ORDER BY 1)"
        self._in_window = False
        return text

    def _place(self, kind: str, honest: str) -> str:
        number, self.places = self.places, self.places + 1
        if number != self._poison:
            return honest
        self.kind = kind
        return self._spelt(self._spelling.choice(POISON[kind]))

    def _spelt(self, text: str) -> str:
        """As somebody writes it who wants it not to be recognised."""
        how = self._spelling.randrange(5)
        if how == 1:
            return text.upper() if "'" not in text and '"' not in text else text
        if how == 2:
            return text.replace("(", "/* x */(", 1)
        if how == 3 and text.partition("(")[0].isidentifier() and "(" in text:
            name, _, rest = text.partition("(")
            return f'"{name}"({rest}'
        if how == 4:
            return text.replace(" ", "\n-- y\n ", 1)
        return text

    def _select(self, depth: int) -> str:
        rng = self._rng
        shown = ", ".join(f"{self._expression(depth)} AS e{n}" for n in range(rng.randint(1, 3)))
        head = rng.choice(("SELECT", "SELECT", "SELECT DISTINCT"))
        text = f"{head} {shown} FROM {self._table(depth)} t"
        if rng.random() < 0.3:
            join = rng.choice(("JOIN", "LEFT JOIN", "ASOF JOIN", "CROSS JOIN"))
            on = "" if join == "CROSS JOIN" else f" ON t.time >= {self._expression(1)}"
            text += f" {join} {self._table(1)} u{on}"
        for part, chance in (("WHERE", 0.5), ("GROUP BY", 0.3), ("HAVING", 0.2), ("QUALIFY", 0.1)):
            if rng.random() < chance:
                text += f" {part} {self._expression(depth)}"
        if depth > 1 and rng.random() < 0.2:
            text += f" {rng.choice(('UNION ALL', 'EXCEPT', 'INTERSECT'))} {self._select(1)}"
        return text

    def _table(self, depth: int) -> str:
        chosen = self._rng.random()
        if depth > 1 and chosen < 0.2:
            return self._place("table", f"({self._select(depth - 1)})")
        if self._ctes and chosen < 0.4:
            return self._place("table", self._rng.choice(self._ctes))
        if chosen < 0.5:
            return self._place("table", "range(9)")
        return self._place("table", self._rng.choice(_VIEWS))

    def _expression(self, depth: int) -> str:
        rng = self._rng
        if depth <= 0 or rng.random() < 0.3:
            return self._place("expression", rng.choice(_COLUMNS))

        def deeper() -> str:
            return self._expression(depth - 1)

        forms = (  # made when chosen: a place that is not written cannot be poisoned
            lambda: f"{rng.choice(_CALLS)}({deeper()}, {deeper()})",
            lambda: f"{rng.choice(_SUMS)}({deeper()})",
            lambda: self._window(deeper),
            lambda: f"CASE WHEN {deeper()} = {deeper()} THEN 1 ELSE 0 END",
            lambda: f"({deeper()} || {deeper()})",
            lambda: f"CAST({deeper()} AS VARCHAR)",
            lambda: f"list_transform([{deeper()}], lambda x: {deeper()})",
            lambda: f"({self._select(depth - 1)})",
            lambda: f"({deeper()} BETWEEN {deeper()} AND 9)",
        )
        return rng.choice(forms)()
