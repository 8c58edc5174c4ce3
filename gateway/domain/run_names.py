"""Names of training runs: `tenant:name`, and the UUID that other systems know a run by.

A name that a launcher gave begins with its scheduler (`slurm-4711`), so that the outer id can be
read off it. The UUID is a function of tenant, scheduler and outer id (RFC 9562 §5.5): the same
job number of two clusters of two tenants is two runs, and a restarted job is the same one.
"""

from __future__ import annotations

import re
import uuid

from gateway.errors import InvalidInput

SCHEDULERS = ("mlflow", "wandb", "ray", "slurm", "torchrun")
RUN_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}\Z")
UUID_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://dataset-gateway/runs")


def qualified_run(tenant: str, run: str | None) -> str | None:
    """Runs are named `tenant:name`, so that no tenant can write into another's run."""
    if run is None or run == "":
        return None
    name = run.removeprefix("run:").removeprefix(f"{tenant}:")
    if not RUN_NAME.match(name):
        raise InvalidInput(
            f"`{name[:80]}` cannot name a run of `{tenant}`",
            advice="use 1 to 200 of A-Z, a-z, 0-9, `.`, `_`, `-`",
        )
    return f"{tenant}:{name}"


def run_uuid(run_id: str) -> str:
    """The UUIDv5 of the run `tenant:name`."""
    tenant, _, name = run_id.partition(":")
    scheduler, outer = outer_id(name)
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, f"{tenant}/{scheduler}"), outer))


def outer_id(name: str) -> tuple[str, str]:
    """The scheduler (empty: people chose the name) and the id that it knows the run by."""
    scheduler, cut, outer = name.partition("-")
    return (scheduler, outer) if cut and outer and scheduler in SCHEDULERS else ("", name)
