"""Policy bundles and their trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TRIAL_PARTS = ("lint", "test", "diff", "replay")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFiles:
    """A tenant's whole bundle: path -> text."""

    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedBundleView:
    """A bundle that waits for a second person."""

    hash: str
    base: str  # hash of the bundle that it would replace
    by: str
    proposed_at: str
    expires_at: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleView:
    """The bundle in force."""

    tenant: str
    hash: str  # SHA-256 hex; the ETag
    files: dict[str, str]
    rules: int
    second_person: bool = False  # what is pushed in its place waits for an approval
    proposed: ProposedBundleView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """Which proposed bundle a second person approves."""

    bundle: str  # its hash


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyProblem:
    """What is wrong, and where (1-based)."""

    file: str
    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleRows:
    """What one subject of a suite sees of the rows that the suite made up."""

    place: str  # `file:line`
    test: str
    subject: str
    action: str
    dataset: str
    visible: tuple[dict[str, str | None], ...]  # column -> value as text; null = NULL


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """One test suite of a bundle."""

    name: str
    passed: int
    failed: int
    failures: tuple[str, ...] = ()
    shown: tuple[VisibleRows, ...] = ()  # the first 100 that see rows


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFinding:
    """What is valid and was probably not meant; `code` is of docs/reference/policy-tools.md."""

    code: str
    rule: str
    place: str  # `file:line`
    text: str
    level: str  # `warning` | `error`: cannot be published


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """One rule that two bundles do not share."""

    rule: str
    change: str  # `added` | `removed` | `changed`
    before: str | None  # a plain sentence
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChange:
    """Somebody gets another answer; `example` is one request that shows it."""

    kind: str  # `newly-allowed` | `newly-denied` | `plan-changed`
    subject: str  # as rules name it: `startup/role:trainer`
    action: str
    dataset: str | None  # None: the tenant itself
    purposes: tuple[str, ...]  # () = the action has none
    example: dict[str, Any]
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDiff:
    """What differs between two bundles: by text, and by trying requests."""

    rules: tuple[RuleChange, ...]
    effects: tuple[AccessChange, ...]
    tried: int  # requests that both bundles were asked
    exhaustive: bool  # whether these were all that the rules can tell apart
    more: int = 0  # effects that are not listed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedChange:
    """Recorded requests of one's own tenant that would be answered otherwise."""

    kind: str  # as AccessChange
    dataset: str
    run: str | None
    subject: str
    action: str
    purpose: str | None
    requests: int
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignChange:
    """How many people and jobs of another tenant it concerns; never fewer than five."""

    kind: str
    dataset: str
    tenant: str
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReplay:
    """Recorded requests for the tenant's datasets, judged by two bundles as of now."""

    judged: int
    since: str | None  # time of the oldest of them
    changes: tuple[ReplayedChange, ...]
    foreign: tuple[ForeignChange, ...]
    more: int = 0  # changes that are not listed
    is_cut: bool = False  # there are older requests, which were not judged


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """What to try: files (null: those in force), and which parts of a trial ((): all)."""

    files: dict[str, str] | None = None
    parts: tuple[str, ...] = ()  # of TRIAL_PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a bundle would do; nothing was published."""

    ok: bool
    problems: tuple[PolicyProblem, ...] = ()
    findings: tuple[PolicyFinding, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
    uncovered: tuple[str, ...] = ()  # rules that no test makes count
    coverage: int | None = None  # percent of the rules that some test makes count
    decisive: dict[str, int] = field(default_factory=dict)  # rule -> cases; the first 1,000 rules
    diff: PolicyDiff | None = None
    replay: PolicyReplay | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoRequest:
    """Which access to review."""

    dataset: str
    column: str | None = None  # None: every column
    as_of: str | None = None  # a time, `30d` back, or a catalogue index; None: now


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntry:
    """Somebody who could get a column."""

    column: str
    subject: str  # as rules name it
    actions: tuple[str, ...]
    access: str  # `raw`, or the mask
    condition: str  # "" = always
    unless: tuple[str, ...]  # rules that may deny it or narrow it
    rule: str
    owner: str
    ticket: str
    expires_at: str | None
    last_used: str | None = None  # newest Grant under the rule (until `as_of`)
    looked_back_to: str | None = None  # older Grants were not looked at; None: all were
