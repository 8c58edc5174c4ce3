"""Which SQL of an auditor may run at all: an allow-list walked over DuckDB's syntax tree.

The tree comes from `json_serialize_sql` of the very DuckDB build that will run the text, and
is treated as hostile: a shape that is not known here is refused. Only one SELECT passes; it
names only the auditors' views (or its own CTEs), calls only listed functions, and has no
parameters. This is the first of three walls; the others are the confined process and the
absence of any other rows in it (`sandbox.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidInput
from gateway.lineage.functions import FUNCTIONS, TABLE_FUNCTIONS

SQL_CHARS_MAX = 20_000
TREE_BYTES_MAX = 4 << 20

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLES = frozenset(
    {"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "SUBQUERY", "TABLE_FUNCTION"}
)
_MODIFIERS = frozenset(
    {"DISTINCT_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER"}
)
_ORDERS = frozenset({"ASCENDING", "DESCENDING", "ORDER_DEFAULT"})
_KNOWN_TYPES = _NODES | _TABLES | _MODIFIERS | _ORDERS
_EXPRESSIONS = frozenset(
    {
        "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT",
        "FUNCTION", "LAMBDA", "LAMBDA_REF", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY",
        "TYPE", "WINDOW",
    }
)  # fmt: skip
_TYPE_NAMES = frozenset(
    {
        "BIGINT", "BLOB", "BOOLEAN", "BOOL", "CHAR", "DATE", "DATETIME", "DECIMAL", "DOUBLE",
        "DOUBLE PRECISION", "FLOAT", "FLOAT4", "FLOAT8", "HUGEINT", "INT", "INT1", "INT2", "INT4",
        "INT8", "INTEGER", "INTERVAL", "LIST", "LONG", "MAP", "NUMERIC", "REAL", "SHORT", "SIGNED",
        "SMALLINT", "STRING", "STRUCT", "TEXT", "TIME", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S",
        "TIMESTAMP_US", "TINYINT", "UBIGINT", "UHUGEINT", "UINTEGER", "USMALLINT", "UTINYINT",
        "UUID", "VARCHAR", "ARRAY", "ROW", "BPCHAR", "DEC",
    }
)  # fmt: skip


# Functions that are called without brackets, so that the tree shows them as columns.
_CALLED_BARE = frozenset(
    {"current_user", "session_user", "current_role", "current_catalog", "current_schema"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a permitted statement has to be given."""

    views: frozenset[str]
    words: frozenset[str] | None  # lower case; columns of other names are not read. None = all


def check(tree: bytes, views: frozenset[str]) -> Needs:
    """Return which of `views`, and which of their columns, the statement can read.

    Raises:
        InvalidInput: the statement is not one SELECT of the allowed kind.
    """
    statement = _statement(tree, views)
    walk = _Walk(views)
    try:
        walk.value(statement["node"], frozenset())
    except RecursionError as cause:
        raise InvalidInput("the statement is nested too deeply") from cause
    except (KeyError, TypeError, AttributeError, IndexError) as cause:
        raise InvalidInput("the statement has a form that is not allowed") from cause
    words = None if walk.is_whole or walk.alone & walk.tables else frozenset(walk.words)
    return Needs(views=frozenset(walk.used), words=words)


def _statement(tree: bytes, views: frozenset[str]) -> dict[str, Any]:
    if len(tree) > TREE_BYTES_MAX:
        raise InvalidInput("the statement is too large")
    try:
        parsed = json.loads(tree)
    except (ValueError, RecursionError) as cause:
        raise InvalidInput("the statement cannot be parsed") from cause
    if not isinstance(parsed, dict) or parsed.get("error") is not False:
        reason = parsed.get("error_message") if isinstance(parsed, dict) else ""
        raise InvalidInput(
            f"not a SELECT that lineage runs: {str(reason)[:300]}",
            advice=f"write one SELECT over {', '.join(sorted(views))}",
        )
    statements = parsed.get("statements")
    if not isinstance(statements, list) or len(statements) != 1:
        raise InvalidInput("exactly one statement is allowed")
    statement = statements[0]
    if not isinstance(statement, dict) or set(statement) != {"node", "named_param_map"}:
        raise InvalidInput("the statement has a form that is not allowed")
    if not isinstance(statement["node"], dict) or statement["node"].get("type") not in _NODES:
        raise InvalidInput("only SELECT is allowed")
    return statement


class _Walk:
    """One pass over a tree; raises at the first thing that is not allowed."""

    def __init__(self, views: frozenset[str]) -> None:
        self._views = views
        self.used: set[str] = set()
        self.words: set[str] = set()  # everything that could name a column
        self.alone: set[str] = set()  # those that stand unqualified
        self.tables: set[str] = set()  # names by which a whole row could be meant
        self.is_whole = False

    def value(self, value: Any, scope: frozenset[str]) -> None:
        """Check anything; `scope` holds the CTE names visible here."""
        if isinstance(value, list):
            for item in value:
                self.value(item, scope)
        elif isinstance(value, dict):
            self._object(value, scope)
            self._note(value)

    def _note(self, node: dict[str, Any]) -> None:
        names = [str(name).lower() for name in node.get("column_names") or ()]
        self.words.update(names)
        self.words.update(str(name).lower() for name in node.get("using_columns") or ())
        if len(names) == 1:
            self.alone.update(names)
            if names[0] in _CALLED_BARE:
                raise InvalidInput(f"`{names[0]}` is not a function of auditors' SQL")

    def _object(self, node: dict[str, Any], scope: frozenset[str]) -> None:
        if "class" in node:
            self._expression(node)
            self.is_whole |= node["class"] in ("STAR", "POSITIONAL_REFERENCE")
        elif isinstance(node.get("type"), str):
            self._typed(node, scope)
        if node.get("cte_map"):
            scope = scope | {self._cte_name(entry) for entry in node["cte_map"]["map"]}
        for item in node.values():
            self.value(item, scope)

    @staticmethod
    def _cte_name(entry: dict[str, Any]) -> str:
        name = str(entry["key"]).lower()
        if not name.isidentifier():
            raise InvalidInput(f"`{name[:80]}` cannot name a common table expression")
        return name

    def _typed(self, node: dict[str, Any], scope: frozenset[str]) -> None:
        kind = node["type"]
        if node.get("column_name_alias") or node.get("ref_type") == "NATURAL":
            self.is_whole = True
        if kind not in _KNOWN_TYPES:
            raise InvalidInput(f"`{kind[:80]}` is not allowed in auditors' SQL")
        if kind == "BASE_TABLE":
            self._table(node, scope)
        elif kind == "TABLE_FUNCTION":
            self._table_function(node["function"])

    def _table(self, node: dict[str, Any], scope: frozenset[str]) -> None:
        name = _single(node).lower()
        if node.get("at_clause") is not None:
            raise InvalidInput("`AT` is not allowed in auditors' SQL")
        if name in scope:
            return
        if name not in self._views:
            raise InvalidInput(
                f"`{name[:80]}` is not a view of lineage",
                advice=f"views: {', '.join(sorted(self._views))}",
            )
        self.used.add(name)
        self.tables |= {name, str(node["alias"]).lower()}

    @staticmethod
    def _table_function(call: dict[str, Any]) -> None:
        name = _single(call).lower()
        if name not in TABLE_FUNCTIONS:
            raise InvalidInput(f"`{name[:80]}` is not a table function of auditors' SQL")

    @staticmethod
    def _expression(node: dict[str, Any]) -> None:
        kind = node["class"]
        if kind not in _EXPRESSIONS:
            raise InvalidInput(f"`{str(kind)[:80]}` is not allowed in auditors' SQL")
        if kind in ("FUNCTION", "WINDOW"):
            name = _single(node).lower()
            if name not in FUNCTIONS and name not in TABLE_FUNCTIONS:
                raise InvalidInput(f"`{name[:80]}` is not a function of auditors' SQL")
        elif kind == "TYPE" and _single(node, "type_name").upper() not in _TYPE_NAMES:
            raise InvalidInput("this type is not allowed in auditors' SQL")


def _single(node: dict[str, Any], plain: str | None = None) -> str:
    """The one unqualified name of a table, function or type."""
    path = node["qualified_name"]["path"]
    given = [node.get(key) for key in ("schema", "catalog", "schema_name", "catalog_name")]
    if any(given) or len(path) != 1 or not isinstance(path[0], str):
        raise InvalidInput("qualified names are not allowed in auditors' SQL")
    for key in (plain, "table_name", "function_name"):
        if key and node.get(key, path[0]) != path[0]:
            raise InvalidInput("the statement has a form that is not allowed")
    return path[0]
