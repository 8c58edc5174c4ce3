"""How the parts of a trial are said to people: one line each, safe to print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.cli.output import safe

_RULES_SHOWN = 50
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def trial_lines(trial: Mapping[str, Any]) -> Iterator[str]:
    """Everything, the verdict last."""
    for problem in trial.get("problems", ()):
        yield safe(problem["message"])  # begins with its place
    yield from map(finding_line, trial.get("findings", ()))
    for suite in trial.get("suites", ()):
        yield f"{safe(suite['name'])}: {suite['passed']} passed, {suite['failed']} failed"
        yield from (f"  {safe(failure)}" for failure in suite["failures"])
        for case in suite.get("shown", ()):
            yield from _case_lines({**case, "ok": True})
    for case in trial.get("cases", ()):
        yield from _case_lines(case)
    yield from _coverage_lines(trial)
    if trial.get("diff"):
        yield from diff_lines(trial["diff"])
    if trial.get("replay"):
        yield from replay_lines(trial["replay"])
    yield "all hold" if trial["ok"] else "refused"


def _case_lines(case: Mapping[str, Any]) -> Iterator[str]:
    """What fails, and for whoever sees rows which."""
    asked = f"{case['place']}: {case['test']}"
    if not case["ok"]:
        yield safe(f"{asked}: {'; '.join(case['problems'])}")
    rows = case.get("visible")
    if rows is None:
        return
    yield safe(f"{asked}: {case['subject']} {case['action']} {case['dataset']}: {len(rows)} rows")
    if rows:
        shown = [list(rows[0]), *(["NULL" if v is None else v for v in r.values()] for r in rows)]
        cells = [[safe(cell) for cell in line] for line in shown]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            yield f"    {'  '.join(map(str.ljust, line, widths))}".rstrip()


def _coverage_lines(trial: Mapping[str, Any]) -> Iterator[str]:
    """Which rules no test reaches, and of how many."""
    found = trial.get("coverage")
    percent, never, decisive = found, trial.get("uncovered", ()), trial.get("decisive", {})
    if isinstance(found, Mapping):
        percent, never = found["percent"], found["uncovered"]
        decisive = {rule: cases for rule, cases in found["cases"].items() if cases}
    for rule, cases in list(decisive.items())[:_RULES_SHOWN]:
        yield safe(f"`{rule}` decides in {cases} cases")
    if len(decisive) > _RULES_SHOWN:
        yield f"and {len(decisive) - _RULES_SHOWN} more rules decide"
    if never:
        yield f"no test makes these count: {safe(never)}"
    if percent is not None:
        yield f"tests reach {percent} % of the rules"


def finding_line(finding: Mapping[str, str]) -> str:
    """Where, how bad, what."""
    where = f"{finding['place']}: " if finding["place"] else ""
    rule = f"`{finding['rule']}`: " if finding["rule"] else ""
    return safe(f"{where}{finding['level']}: {finding['code']}: {rule}{finding['text']}")


def diff_lines(diff: Mapping[str, Any]) -> Iterator[str]:
    """Rules, then answers that change."""
    for rule in diff["rules"]:
        yield safe(f"{_SIGNS[rule['change']]} {rule['rule']}: {rule['after'] or rule['before']}")
    for effect in diff["effects"]:
        why = f" for {', '.join(effect['purposes'])}" if effect["purposes"] else ""
        on = f" {effect['dataset']}" if effect["dataset"] else ""
        yield safe(f"{effect['kind']}: {effect['subject']} {effect['action']}{on}{why}")
        yield safe(f"    before: {effect['before']}")
        yield safe(f"    after:  {effect['after']}")
        yield safe(f"    for example: {_pairs(effect['example'])}")
    if diff["more"]:
        yield f"and {diff['more']} more"
    how = "every" if diff["exhaustive"] else "some of the"
    changes = "" if diff["effects"] else "no answer changes; "
    yield f"{changes}tried {how} request that the rules tell apart: {diff['tried']}"


def replay_lines(replay: Mapping[str, Any]) -> Iterator[str]:
    """Changes of one's own requests, then how many of others they concern."""
    for change in replay["changes"]:
        run = f" in run {change['run']}" if change["run"] else ""
        why = f" for {change['purpose']}" if change["purpose"] else ""
        yield safe(
            f"{change['kind']}: {change['subject']} {change['action']} {change['dataset']}"
            f"{why}{run}: {change['requests']} requests"
        )
        yield safe(f"    before: {change['before']}")
        yield safe(f"    after:  {change['after']}")
    for group in replay["foreign"]:
        yield safe(
            f"{group['kind']}: {group['subjects']} people or jobs of {group['tenant']} "
            f"on {group['dataset']}"
        )
    if replay["more"]:
        yield f"and {replay['more']} more"
    since = f" since {replay['since']}" if replay["since"] else ""
    cut = "; older ones were left out" if replay.get("is_cut") else ""
    judged = f"replayed {replay['judged']} recorded requests{since}{cut}"
    yield f"{judged}; of others, at least 5 together"


def explanation_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Sentences, every rule with the tree of its condition, and the nearest allow."""
    yield from map(safe, found["sentences"])
    for candidate in found["candidates"]:
        place = f", {candidate['place']}" if candidate.get("place") else ""
        head = f"{candidate['rule']} ({candidate['kind']}{place}): {candidate['outcome']}"
        yield safe(head)
        yield from _branch_lines(candidate["conditions"].get("parts", ()), 1)
    nearest = found.get("nearest")
    if nearest:
        yield safe(f"nearest allow: {nearest['rule']}")
        yield from (safe(f"    {change}") for change in nearest["changes"])


def _branch_lines(branches: Iterable[Mapping[str, Any]], depth: int) -> Iterator[str]:
    for branch in branches:
        yield "    " * depth + safe(f"{branch['truth']:<7}  {branch['text']}")
        yield from _branch_lines(branch["parts"], depth + 1)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
