"""What the training launcher says: rank, world and run (torchrun, Slurm, MLflow, W&B, Ray)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config import training_environment


def environment_of_training() -> dict[str, Any]:
    """Rank, world and run as the launcher set them; only those that are known."""
    found = training_environment()
    wanted: dict[str, Any] = {}
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in found and world in found:
            wanted |= {"rank": int(found[rank]), "world": int(found[world])}
            break
    run = _run_of(found)
    return wanted | ({"run": run} if run else {})


_RUNS = {
    "GATEWAY_RUN_ID": "",
    "MLFLOW_RUN_ID": "mlflow-",
    "WANDB_RUN_ID": "wandb-",
    "RAY_JOB_ID": "ray-",
    "SLURM_JOB_ID": "slurm-",
    "TORCHELASTIC_RUN_ID": "torchrun-",
}


def _run_of(found: Mapping[str, str]) -> str | None:
    for variable, prefix in _RUNS.items():
        value = found.get(variable)
        if value and value != "none":  # torchrun's default when no --rdzv-id was given
            return value if value.startswith("run:") else f"run:{prefix}{value}"
    return None
