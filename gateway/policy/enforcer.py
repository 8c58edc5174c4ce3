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
from types import CodeType, FunctionType
from typing import Any

import casbin
from casbin.model import FunctionMap

from gateway.errors import ConfigError

MODEL_SHA256 = "cbd7d55f89a23fa1f1418a2a2cef22131f9932b3f159e843938296497ac528be"
# Not in the tree of loggers, so that no configuration can wake it: Casbin logs whole requests.
_SILENT = logging.Logger("gateway.policy.casbin")  # noqa: LOG001
_SILENT.disabled = True


class _Compiled:
    """What Casbin calls an expression: `eval(parameters)` is one compiled matcher."""

    __slots__ = ("eval",)

    def __init__(self, code: CodeType, functions: Mapping[str, Any]) -> None:
        # The text is ours and pinned, never a rule's.
        self.eval = FunctionType(code, {"__builtins__": {}, **functions})


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
        self._base.fm = FunctionMap()  # no pattern function of Casbin's is within reach
        self._base.add_function("holds", holds)
        model = self._base.model
        self._sections = {section: model[section] for section in model.keys()}  # noqa: SIM118
        self._tokens = model["p"]["p"].tokens

    def allows(self, request: Sequence[Any], rows: Sequence[Sequence[str]]) -> bool:
        """Casbin's answer for (context, principals, scopes, action).

        A row is (rule id, principal, scope, action, effect).

        No rows is never asked: Casbin evaluates its matcher over empty strings then.
        """
        if not rows:
            return False
        enforcer = object.__new__(CompiledEnforcer)
        enforcer.__dict__.update(self._base.__dict__)
        enforcer.model = {**self._sections, "p": {"p": _Policy(self._tokens, rows)}}
        allowed, _ = enforcer.enforce_ex(*request)
        return allowed is True


class _Policy:
    """What `enforce_ex` reads of a policy section: these rows, of this call alone."""

    __slots__ = ("policy", "tokens")

    def __init__(self, tokens: Sequence[str], policy: Sequence[Sequence[str]]) -> None:
        self.tokens = tokens
        self.policy = policy


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


@cache
def _compile(expression: str) -> CodeType:
    """As Casbin translates it (`&&`, `||`, `!`), its first expression only, compiled.

    Into a function of Casbin's parameters: `p_sub` becomes `parameters["p_sub"]`.
    """
    text = expression.replace("&&", "and").replace("||", "or")
    statement = ast.parse(re.sub(r"!(?!=)", "not ", text).strip()).body[0]
    assert isinstance(statement, ast.Expr)
    function = ast.parse("lambda parameters: None", mode="eval")
    assert isinstance(function.body, ast.Lambda)
    function.body.body = _Parameters().visit(statement.value)
    module = compile(ast.fix_missing_locations(function), "<matcher>", "eval")
    return next(const for const in module.co_consts if isinstance(const, CodeType))


class _Parameters(ast.NodeTransformer):
    """Names of values read from `parameters`; names of functions stay."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Arguments only, when it is called by name."""
        if not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def visit_Name(self, node: ast.Name) -> ast.Subscript:
        """A value."""
        parameters = ast.Name("parameters", ast.Load())
        return ast.Subscript(parameters, ast.Constant(node.id), ast.Load())
