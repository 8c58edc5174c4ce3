"""Names of training runs: `tenant:name`, and the UUID that other systems know a run by.

A name that a launcher gave begins with its scheduler (`slurm-4711`), so that the outer id can be
read off it. The UUID is a function of tenant, scheduler and outer id (RFC 9562 §5.5): the same
job number of two clusters of two tenants is two runs, and a restarted job is the same one.
"""

from __future__ import annotations

import uuid

SCHEDULERS = ("mlflow", "wandb", "ray", "slurm", "torchrun")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://dataset-gateway/runs")


def run_uuid(run_id: str) -> str:
    """The UUIDv5 of the run `tenant:name`."""
    tenant, _, name = run_id.partition(":")
    scheduler, outer = outer_id(name)
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, f"{tenant}/{scheduler}"), outer))


def outer_id(name: str) -> tuple[str, str]:
    """The scheduler (empty: people chose the name) and the id that it knows the run by."""
    scheduler, cut, outer = name.partition("-")
    return (scheduler, outer) if cut and outer and scheduler in SCHEDULERS else ("", name)
