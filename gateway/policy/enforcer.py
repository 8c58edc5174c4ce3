"""Casbin, kept to the one thing it is good at: its decision loop over prepared rows.

`CompiledEnforcer` overrides only `_get_expression`, so that a matcher is parsed once instead
of once per call. The model is a constant that ships with the gateway and is pinned by its
SHA-256; no text of any rule ever becomes part of a matcher. Casbin's own loaders, role graph,
`eval()`, pattern functions, watchers and logging are not used (docs/formats/policy-v1.md §7).
"""

from __future__ import annotations

import ast
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import CodeType
from typing import Any

import casbin

from gateway.errors import ConfigError

MODEL_SHA256 = "cbd7d55f89a23fa1f1418a2a2cef22131f9932b3f159e843938296497ac528be"
# Not in the tree of loggers, so that no configuration can wake it: Casbin logs whole requests.
_SILENT = logging.Logger("gateway.policy.casbin")  # noqa: LOG001
_SILENT.disabled = True


class _Compiled:
    """What Casbin calls an expression: evaluates one compiled matcher."""

    __slots__ = ("_code", "_functions")

    def __init__(self, code: CodeType, functions: Mapping[str, Any]) -> None:
        self._code = code
        self._functions = {"__builtins__": {}, **functions}

    def eval(self, parameters: Mapping[str, Any]) -> Any:
        """Value of the matcher for one rule; the text is ours and pinned, never a rule's."""
        return eval(self._code, self._functions, parameters)  # noqa: S307


class CompiledEnforcer(casbin.Enforcer):  # type: ignore[misc]
    """Casbin's enforcer with a matcher that is parsed once."""

    @staticmethod
    def _get_expression(expr: str, functions: Mapping[str, Any] | None = None) -> _Compiled:
        return _Compiled(_compile(expr), functions or {})


class Loop:
    """Casbin's `enforce_ex` over the rows of one request; safe to share between threads."""

    def __init__(self, holds: Callable[[Any, str], bool]) -> None:
        """`holds(context, rule id)` says whether a rule counts for this request."""
        self._base = CompiledEnforcer(casbin.Enforcer.new_model(text=model_text()))
        self._base.logger = _SILENT
        self._base.add_function("holds", holds)

    def allows(self, request: Sequence[Any], rows: Sequence[Sequence[str]]) -> bool:
        """Casbin's answer for (context, principals, scopes, action).

        A row is (rule id, principal, scope, action, effect).

        No rows is never asked: Casbin evaluates its matcher over empty strings then.
        """
        if not rows:
            return False
        enforcer = _twin(self._base)
        enforcer.model = _with_rows(self._base.model, rows)
        allowed, _ = enforcer.enforce_ex(*request)
        return allowed is True


@cache
def model_text() -> str:
    """The pinned model; another file in its place is a ConfigError."""
    data = files("policies").joinpath("model.conf").read_bytes()
    if hashlib.sha256(data).hexdigest() != MODEL_SHA256:
        raise ConfigError(
            "the policy model is not the one this gateway was built with",
            advice="install the distribution again; nobody edits policies/model.conf",
        )
    return data.decode()


def _with_rows(base: Any, rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What `enforce_ex` reads of a model, with these rows as its policy."""
    view = {section: base[section] for section in base.keys()}  # noqa: SIM118 - no dict
    definition = _twin(base["p"]["p"])
    definition.policy = rows
    view["p"] = {"p": definition}
    return view


def _twin(thing: Any) -> Any:
    """A shallow copy of a plain object; `copy.copy` asks four protocols first."""
    found = object.__new__(type(thing))
    found.__dict__.update(thing.__dict__)
    return found


@cache
def _compile(expression: str) -> CodeType:
    """As Casbin translates it (`&&`, `||`, `!`), its first expression only, compiled."""
    text = expression.replace("&&", "and").replace("||", "or")
    statement = ast.parse(re.sub(r"!(?!=)", "not ", text).strip()).body[0]
    assert isinstance(statement, ast.Expr)
    return compile(ast.Expression(statement.value), "<matcher>", "eval")
