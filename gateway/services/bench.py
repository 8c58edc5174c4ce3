"""Rules are built aside before they count: by a confined child that nothing depends on.

A child that crashes, hangs, grows or says what nobody can read is a refusal of the rules it was
given; the ones in force stay. Control reads a bundle itself only after the child could.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path

from gateway.errors import IntegrityError, InvalidInput, PolicyError
from gateway.policy.bench_job import BenchJob
from gateway.process.channel import Channel, ChannelClosed
from gateway.process.spawn import Confinement, Launch, spawn
from gateway.services.house import PLATFORM, House
from gateway.wire import codec
from gateway.wire.policy import PolicyProblem, Trial

MODULE = "gateway.services.bench_child"
SECONDS_MAX = 60.0  # from start to answer
MEMORY_BYTES_MAX = 1 << 30
ANSWER_BYTES_MAX = 16 << 20
AT_ONCE_MAX = 2
_slots = threading.BoundedSemaphore(AT_ONCE_MAX)


async def examined(house: House, tenant: str, files: Mapping[str, str]) -> Trial:
    """Lint and test a bundle aside; raises PolicyError unless it may be published."""
    job = BenchJob(tenant=tenant, files=files, parts=("lint", "test"), now=house.now())
    trial = await run(job)
    if not trial.ok:
        raise refusal(trial)
    return trial


async def run(job: BenchJob) -> Trial:
    """Give the job to a child and wait for what it says; PolicyError when it says nothing."""
    return await asyncio.to_thread(_run, job)


def refusal(trial: Trial) -> PolicyError:
    """The first reason why a Trial is not ok, as an error with its place."""
    if trial.problems:
        first = trial.problems[0]
        return PolicyError(first.message, file=first.file, line=first.line, column=first.column)
    failures = [failure for suite in trial.suites for failure in suite.failures]
    if failures:
        return PolicyError(
            f"the test at {failures[0][:400]} fails",
            advice="correct the rule or its test; the old bundle stays in force",
        )
    worst = trial.findings[0] if trial.findings else None
    return PolicyError(worst.text if worst else "these rules cannot be published")


def beside(house: House, tenants: set[str], tenant: str) -> dict[str, Mapping[str, str]]:
    """Bundles of others that judge the tenant's data: the platform's, and of its origins."""
    wanted = (tenants | {PLATFORM}) - {tenant}
    return {name: house.bundles[name].files for name in sorted(wanted) if name in house.bundles}


def _run(job: BenchJob) -> Trial:
    with _slots, spawn(_launch(), stderr=subprocess.DEVNULL) as child:
        channel = Channel(child.channel.socket, payload_bytes_max=ANSWER_BYTES_MAX)
        timer = threading.Timer(SECONDS_MAX, child.process.kill)
        timer.start()
        try:
            answer = channel.call("examine", job.to_bytes()).payload
            return codec.decode(Trial, codec.loads(bytes(answer)))
        except (ChannelClosed, IntegrityError, InvalidInput):
            message = "the rules could not be built: the child that tried broke its limits"
            return Trial(
                ok=False, problems=(PolicyProblem(file="", line=0, column=0, message=message),)
            )
        finally:
            timer.cancel()


def _launch() -> Launch:
    return Launch(
        module=MODULE,
        confinement=Confinement(
            data_bytes_max=MEMORY_BYTES_MAX,
            cpu_seconds_max=int(SECONDS_MAX),
            file_bytes_max=0,
            read_paths=(str(Path(str(package_files("policies")))),),
        ),
    )
