"""The bench's process (policy/bench.py), given what rows look like through a Plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain.access import Plan
from gateway.domain.dataset import Column
from gateway.policy import bench
from gateway.process.channel import Channel


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Take one job, answer with one Trial."""
    bench.main(channel, {**options, "show": _show})


def _show(
    columns: Sequence[Column], rows: Sequence[Mapping[str, str]], plan: Plan
) -> tuple[dict[str, str | None], ...]:
    # Arrow costs a third of a second and most suites have no rows.
    from gateway.shards.fixture_rows import visible

    return visible(columns, rows, plan)
