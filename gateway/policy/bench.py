"""The single-use child that builds somebody's rules aside: compile, lint, test, diff, replay.

It has no key, no network and no file but the program's own, and dies after one answer. What it
returns is read as hostile; what it never returns is a refusal (services/bench.py).
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import islice
from typing import Any

from gateway.errors import GatewayError, InvalidInput
from gateway.policy.bench_job import BenchJob
from gateway.policy.bundle import PolicyBundle
from gateway.policy.coverage import coverage
from gateway.policy.diff import diff
from gateway.policy.lint import ERROR, lint
from gateway.policy.replay import replay
from gateway.policy.suite import Show, run_suites
from gateway.policy.suite import SuiteResult as Case
from gateway.process.channel import Channel
from gateway.wire import codec
from gateway.wire.policy import (
    PolicyDiff,
    PolicyFinding,
    PolicyProblem,
    PolicyReplay,
    SuiteResult,
    Trial,
    VisibleRows,
)

FAILURES_MAX = 100  # of a suite, in words; all are counted
SHOWN_MAX = 100  # of a suite
DECISIVE_MAX = 1_000


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Take one job, answer with one Trial."""
    job = BenchJob.of_bytes(bytes(channel.receive().payload))
    answer = json.dumps(codec.encode(examine(job, show=options.get("show")))).encode()
    channel.send("trial", answer)


def examine(job: BenchJob, *, show: Show | None = None) -> Trial:
    """Do the parts that the job names; a bundle that cannot be read is a Trial that says so."""
    try:
        bundle = PolicyBundle.read(job.files, job.tenant)
        cases = run_suites(bundle, show=show) if "test" in job.parts else []
        findings = _findings(job, bundle) if "lint" in job.parts else ()
        compared, replayed = _beside_what_is(job, bundle)
    except InvalidInput as refused:
        return Trial(ok=False, problems=(problem_of(refused),))
    covered = coverage(bundle, cases) if cases else None
    return Trial(
        ok=all(case.ok for case in cases) and all(f.level != ERROR for f in findings),
        findings=findings,
        suites=suite_views(cases),
        uncovered=covered.uncovered if covered else (),
        coverage=covered.percent if covered else None,
        decisive=dict(islice(covered.decisive.items(), DECISIVE_MAX)) if covered else {},
        diff=compared,
        replay=replayed,
    )


def problem_of(refused: GatewayError) -> PolicyProblem:
    """What is wrong, and where."""
    facts = refused.facts
    return PolicyProblem(
        file=str(facts.get("file", "")),
        line=int(facts.get("line") or 0),
        column=int(facts.get("column") or 0),
        message=refused.message,
    )


def suite_views(cases: list[Case]) -> tuple[SuiteResult, ...]:
    """Test results, counted by the file they stand in."""
    by_file: dict[str, list[Case]] = {}
    for case in cases:
        by_file.setdefault(case.place.partition(":")[0], []).append(case)
    return tuple(
        SuiteResult(
            name=name,
            passed=sum(case.ok for case in found),
            failed=sum(not case.ok for case in found),
            failures=tuple(f"{c.place}: {'; '.join(c.problems)}" for c in found if not c.ok)[
                :FAILURES_MAX
            ],
            shown=tuple(_shown(c) for c in found if c.visible is not None)[:SHOWN_MAX],
        )
        for name, found in sorted(by_file.items())
    )


def _shown(case: Case) -> VisibleRows:
    return VisibleRows(
        place=case.place,
        test=case.test,
        subject=case.subject,
        action=case.action,
        dataset=case.dataset,
        visible=case.visible or (),
    )


def _findings(job: BenchJob, bundle: PolicyBundle) -> tuple[PolicyFinding, ...]:
    found = lint(bundle, now=job.now, resources=job.resources, principals=frozenset(job.principals))
    return tuple(PolicyFinding(**finding.to_dict()) for finding in found)


def _beside_what_is(
    job: BenchJob, bundle: PolicyBundle
) -> tuple[PolicyDiff | None, PolicyReplay | None]:
    if not {"diff", "replay"} & set(job.parts):
        return None, None
    before = PolicyBundle.read(job.before, job.tenant)
    beside = [PolicyBundle.read(files, tenant) for tenant, files in job.beside.items()]
    compared = replayed = None
    if "diff" in job.parts:
        compared = diff(
            before,
            bundle,
            now=job.now,
            clock=time.monotonic,
            resources=job.resources,
            beside=beside,
        )
    if "replay" in job.parts:
        found = replay(before, bundle, job.recorded, now=job.now, beside=beside, since=job.since)
        replayed = replace(found, is_cut=job.is_cut)
    return compared, replayed
