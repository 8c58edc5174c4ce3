"""The model of two tenants (model.py), for at least 10,000 steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.tenancy.model import GROUND, Tenants

STEPS = 10_000


@pytest.fixture
def ground() -> Iterator[None]:
    yield
    GROUND.end()
    GROUND.loop.close()


@pytest.mark.usefixtures("ground")
def test_two_tenants_never_see_or_touch_each_other(request: pytest.FixtureRequest) -> None:
    # Of the examples some are given up early: 110 of 100 steps were once 9,000 steps.
    examples = 2000 if request.config.getoption("--long") else 150
    run_state_machine_as_test(
        Tenants,
        settings=settings(
            max_examples=examples,
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert GROUND.steps >= STEPS
