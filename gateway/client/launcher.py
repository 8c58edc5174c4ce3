"""What the training launcher says: rank, world and run (torchrun, Slurm, MLflow, W&B, Ray)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config import training_environment
from gateway.errors import InvalidInput

# The first that is set names the run; what a launcher chose is marked with its name.
RUNS = {
    "GATEWAY_RUN_ID": "",
    "MLFLOW_RUN_ID": "mlflow-",
    "WANDB_RUN_ID": "wandb-",
    "RAY_JOB_ID": "ray-",
    "SLURM_JOB_ID": "slurm-",
    "TORCHELASTIC_RUN_ID": "torchrun-",
}


def environment_of_training() -> dict[str, Any]:
    """Rank, world and run as the launcher set them; only those that are known.

    Raises:
        InvalidInput: a rank or world is no number.
    """
    found = training_environment()
    wanted: dict[str, Any] = {}
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in found and world in found:
            wanted |= {"rank": _number(rank, found[rank]), "world": _number(world, found[world])}
            break
    run = _run_of(found)
    return wanted | ({"run": run} if run else {})


def require_run(wanted: Mapping[str, Any]) -> None:
    """Raise InvalidInput when there are several ranks and nothing says that they are one run.

    Each would be given a Grant of its own: limits, approvals and epochs would count for each,
    and nobody could say what the run as a whole received.
    """
    if wanted.get("world", 1) > 1 and not (wanted.get("run") or wanted.get("grant")):
        raise InvalidInput(
            f"there are {wanted['world']} ranks, and no name for the run they share",
            advice="set GATEWAY_RUN_ID to one text on every rank, or pass run=; "
            "torchrun: --rdzv-id NAME",
        )


def _number(variable: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as cause:
        raise InvalidInput(f"`{variable}` is `{text[:40]}` and no number") from cause


def _run_of(found: Mapping[str, str]) -> str | None:
    for variable, prefix in RUNS.items():
        value = found.get(variable)
        if value and (variable, value) != ("TORCHELASTIC_RUN_ID", "none"):  # torchrun's default
            return value if value.startswith("run:") else f"run:{prefix}{value}"
    return None
