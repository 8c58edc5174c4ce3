"""Policy bundles and their trial."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFiles:
    """A tenant's whole bundle: path -> text."""

    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleView:
    """The bundle in force."""

    tenant: str
    hash: str  # SHA-256 hex; the ETag
    files: dict[str, str]
    rules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyProblem:
    """What is wrong, and where (1-based)."""

    file: str
    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """One test suite of a bundle."""

    name: str
    passed: int
    failed: int
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFinding:
    """What is valid and was probably not meant; `code` is of docs/reference/policy-tools.md."""

    code: str
    rule: str
    place: str  # `file:line`
    text: str
    level: str  # `warning` | `error`: cannot be published


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a bundle would do; nothing was published."""

    ok: bool
    problems: tuple[PolicyProblem, ...] = ()
    findings: tuple[PolicyFinding, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
