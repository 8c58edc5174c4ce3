"""Which rules the suites of a bundle make count, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.policy.bundle import PolicyBundle
from gateway.policy.suite import SuiteResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """In how many cases each rule took part in the answer."""

    cases: dict[str, int]  # every rule of the bundle

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Rules that no case makes count."""
        return tuple(rule for rule, count in self.cases.items() if not count)

    @property
    def decisive(self) -> dict[str, int]:
        """Rules that decide somewhere, and in how many cases."""
        return {rule: count for rule, count in self.cases.items() if count}

    @property
    def percent(self) -> int:
        """Of the rules, how many count somewhere; only all of them are 100."""
        total = len(self.cases)
        return (total - len(self.uncovered)) * 100 // total if total else 100

    def to_dict(self) -> dict[str, Any]:
        """JSON shape."""
        return {
            "rules": len(self.cases),
            "percent": self.percent,
            "uncovered": list(self.uncovered),
            "cases": dict(self.cases),
        }


def coverage(bundle: PolicyBundle, results: Iterable[SuiteResult]) -> Coverage:
    """Count for every rule the results in whose answer it took part."""
    counts = Counter(rule for result in results for rule in result.rules)
    return Coverage(cases={rule.id: counts[rule.id] for rule in bundle.rules})
