"""How the parts of a trial are said to people: one line each, safe to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.cli.output import safe

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def trial_lines(trial: Mapping[str, Any]) -> Iterator[str]:
    """Everything, the verdict last."""
    for problem in trial.get("problems", ()):
        yield safe(problem["message"])  # begins with its place
    yield from map(finding_line, trial.get("findings", ()))
    for suite in trial.get("suites", ()):
        yield f"{safe(suite['name'])}: {suite['passed']} passed, {suite['failed']} failed"
        yield from (f"  {safe(failure)}" for failure in suite["failures"])
    for case in trial.get("cases", ()):
        if not case["ok"]:
            yield f"{safe(case['place'])}: {safe(case['test'])}: {safe(case['problems'])}"
    if trial.get("uncovered"):
        yield f"no test makes these count: {safe(trial['uncovered'])}"
    if trial.get("diff"):
        yield from diff_lines(trial["diff"])
    if trial.get("replay"):
        yield from replay_lines(trial["replay"])
    yield "all hold" if trial["ok"] else "refused"


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
    yield f"replayed {replay['judged']} recorded requests{since}; of others, at least 5 together"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
