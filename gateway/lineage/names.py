"""Whether a name that is asked about stands in the asker's history; if not, which ones are near.

An answer without rows has to mean that nothing happened, never that a name was mistyped. Only
sided views are read (`views.py`), so a name that nobody has and one that the asker may not see
are refused in the same words, after the same look-ups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from gateway.domain.dataset import DatasetRef
from gateway.errors import UnknownName
from gateway.lineage.parameters import Parameter
from gateway.lineage.question import NEAREST_MAX
from gateway.lineage.views import with_views

_ALIKE = 0.8  # Jaro-Winkler; 1 is equal
_CHARS_MAX = 200  # of names that are compared
_OF_DATASET = """WHERE ($dataset IS NULL OR dataset = $dataset)
  AND ($version IS NULL OR version = $version)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One kind of name: in which views it stands, those first that answer soonest."""

    noun: str
    places: tuple[tuple[str, str], ...]  # view, and the SQL of its `name`s
    is_same: str = "name = $value"
    is_number: bool = False

    def statements(self) -> list[str]:
        """One look-up per place; the first that finds it ends the search."""
        found = "SELECT 1 FROM ({}) WHERE {} LIMIT 1"  # both are ours; the name is a parameter
        return [with_views((view,), found.format(sql, self.is_same)) for view, sql in self.places]

    def nearest(self) -> str:
        """The names most like `$value`, also without what stands before their colon."""
        views = tuple(dict.fromkeys(view for view, _ in self.places))
        union = " UNION ALL ".join(f"SELECT name FROM ({sql})" for _, sql in self.places)  # noqa: S608 - ours
        if self.is_number:
            return with_views(
                views,
                f"""SELECT DISTINCT name FROM ({union}) WHERE name IS NOT NULL
ORDER BY abs(name - $value::BIGINT), name LIMIT {NEAREST_MAX}""",  # noqa: S608 - ours; the name is a parameter
            )
        return with_views(
            views,
            f"""SELECT name FROM (
  SELECT name, lower(name) AS small FROM (SELECT DISTINCT name::VARCHAR AS name FROM ({union}))
  WHERE length(name) <= {_CHARS_MAX})
WHERE greatest(jaro_winkler_similarity(small, $value),
               jaro_winkler_similarity(regexp_replace(small, '^[^:]*:', ''), $value)) >= {_ALIKE}
ORDER BY greatest(jaro_winkler_similarity(small, $value),
                  jaro_winkler_similarity(regexp_replace(small, '^[^:]*:', ''), $value)) DESC, name
LIMIT {NEAREST_MAX}""",  # noqa: S608 - ours; the name is a parameter
        )


def _each(column: str, *views: str) -> tuple[tuple[str, str], ...]:
    return tuple((view, f"SELECT {column} AS name FROM seen_{view}") for view in views)  # noqa: S608


KINDS = {
    "dataset": _Kind(
        noun="dataset",
        places=_each(
            "dataset", "version", "grant", "decision", "request", "derivation", "erasure", "consent"
        ),
    ),
    "version": _Kind(
        noun="version",
        is_number=True,
        places=tuple(
            (view, f"SELECT version AS name FROM seen_{view} WHERE dataset = $dataset")  # noqa: S608
            for view in ("version", "grant", "decision", "request", "derivation", "erasure")
        ),
    ),
    "column": _Kind(
        noun="column",
        places=(
            ("version_column", f"SELECT name FROM seen_version_column {_OF_DATASET}"),  # noqa: S608
            ("grant", f"SELECT unnest(columns) AS name FROM seen_grant {_OF_DATASET}"),  # noqa: S608
        ),
    ),
    "subject": _Kind(noun="subject", places=_each("subject_tag", "grant", "event")),
    "run": _Kind(
        noun="run",
        places=_each("run", "lease", "grant", "run", "decision"),
        is_same="name = $value OR ends_with(name, ':' || $value)",
    ),
    "grant": _Kind(noun="grant", places=_each('"grant"', "grant")),
    "question": _Kind(noun="question", places=_each("question", "question")),
    "bundle": _Kind(noun="bundle", places=_each("bundle", "policy", "decision")),
    "model": _Kind(
        noun="model", places=_each("unnest([model, model || '@sha256:' || artifact])", "run")
    ),
    "word": _Kind(
        noun="decision, grant, lease, run, token or request",
        places=(
            *_each('unnest([decision, "grant", run])', "decision"),
            *_each('unnest([lease, "grant", run])', "lease"),
            *_each('unnest([jti, "grant"])', "token"),
            *_each("unnest([request, run])", "request"),
            *_each("run", "run"),
        ),
    ),
}
_GRANT_PREFIX = "grant_"
_SHARDS = with_views(
    ("version",),
    f"SELECT max(shards) FROM seen_version {_OF_DATASET}",  # noqa: S608 - our constants
)


def require_known(
    cursor: duckdb.DuckDBPyConnection,
    parameters: Collection[Parameter],
    bound: Mapping[str, Any],
    *,
    vouched: Collection[str] = (),
    expired: Collection[str] = (),
) -> None:
    """Refuse a question about a name that the asker's side of history does not have.

    Args:
        cursor: on the snapshot that answers.
        parameters: of the question.
        bound: their values as SQL gets them, with `tenant` and `operator`.
        vouched: parameters whose values control knows (identities that did nothing yet).
        expired: months that have left this side: a name may have gone with one of them.

    Raises:
        UnknownName: with the nearest names that the asker may see.
    """
    side = {"tenant": bound["tenant"], "operator": bound["operator"]}
    place = {"dataset": bound.get("dataset"), "version": bound.get("dataset_version")}
    for parameter in parameters:
        name, value = parameter.name, bound.get(parameter.name)
        if value is None or name in vouched:
            continue
        look = _Look(cursor, {**side, **place}, name, tuple(expired))
        if parameter.type == "place":
            look.require_shard(value)
        elif parameter.type in KINDS:
            look.require(KINDS[parameter.type], value)
        if parameter.type == "dataset" and place["version"] is not None:
            look.require(KINDS["version"], place["version"], lead=f"{place['dataset']}@")


def require_reference(cursor: duckdb.DuckDBPyConnection, ref: str, side: Mapping[str, Any]) -> None:
    """Refuse a reference of the graph (`trace.py`) that names nothing on the asker's side.

    Raises:
        UnknownName: with the nearest references; without any for names that only claims know.
    """
    kind, _, rest = ref.partition(":")
    place: dict[str, Any] = {"dataset": None, "version": None}
    if kind == "column":
        place["dataset"], _, name = rest.partition(":")
    look = _Look(cursor, {**side, **place}, "nodeId", ())
    if kind == "column" and ":" not in place["dataset"] and "/" in place["dataset"]:
        look.require(KINDS["dataset"], place["dataset"])
        look.require(KINDS["column"], name)
    elif kind in ("run", "model"):
        look.require(KINDS[kind], rest.rpartition("/")[2].removeprefix(f"{kind}:"), lead=f"{kind}:")
    elif (grant := rest if kind == "grant" else ref).startswith(_GRANT_PREFIX):
        look.require(KINDS["grant"], grant)
    elif ":" in (name := rest if kind in ("dataset", "version") else ref):
        raise look.unknown(f"`{ref[:80]}`", [])
    else:
        dataset = DatasetRef.parse(name)
        look.require(KINDS["dataset"], str(dataset.unversioned))
        if dataset.version is not None:
            at = {**look.given, "dataset": str(dataset.unversioned)}
            look = _Look(cursor, at, "nodeId", ())
            look.require(KINDS["version"], dataset.version, lead=f"{dataset.unversioned}@")


@dataclass(frozen=True, slots=True)
class _Look:
    """The look-ups of one parameter."""

    cursor: duckdb.DuckDBPyConnection
    given: Mapping[str, Any]
    parameter: str
    expired: tuple[str, ...]

    def require(self, kind: _Kind, value: Any, *, lead: str = "") -> None:
        """Refuse an unknown one; `lead` stands before names that are references."""
        for statement in kind.statements():
            if self._rows(statement, {**self.given, "value": value}):
                return
        text = str(value)[:_CHARS_MAX].lower()
        rows = self._rows(kind.nearest(), {**self.given, "value": text})
        nearest = [f"{lead}{row[0]}" for row in rows]
        raise self.unknown(f"{kind.noun} `{str(value)[:80]}`{self._of(kind.noun)}", nearest)

    def require_shard(self, number: int) -> None:
        """Refused where the versions are seen: a recipient does not know how many there are."""
        ((shards,),) = self._rows(_SHARDS, self.given)
        if shards is not None and number >= shards:
            raise self.unknown(f"shard `{number}`{self._of('shard')}", [str(shards - 1)])

    def _rows(self, statement: str, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        used = {name: value for name, value in given.items() if f"${name}" in statement}
        return self.cursor.execute(statement, used).fetchall()

    def _of(self, noun: str) -> str:
        dataset, version = self.given["dataset"], self.given["version"]
        if noun == "version" and dataset is not None:
            return f" of `{dataset}`"
        if noun not in ("column", "shard") or dataset is None:
            return ""
        return f" of `{dataset}`" if version is None else f" of `{dataset}@{version}`"

    def unknown(self, what: str, nearest: list[str]) -> UnknownName:
        """The refusal, in the same words whatever the reason."""
        tenant = self.given["tenant"]
        where = "any history" if tenant is None else f"the history of `{tenant}`"
        return UnknownName.near(
            f"there is no {what} in {where}",
            nearest,
            parameter=self.parameter,
            expired=self.expired,
        )
