"""Settings of all tests: how long they look for what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Machines that run the tests may be busy: time says nothing about whether a property holds.
for name, examples in {"house": 100, "long": 2000}.items():
    settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )

# Whole files go to one worker each: were one of these the last, the others would wait for it.
LONGEST = (
    "tests/journeys/test_kills.py", "tests/journeys/test_stops.py", "tests/crashes/test_keys.py",
    "tests/crashes/test_registration.py", "tests/tenancy/test_model.py", "tests/journeys/",
    "tests/crashes/", "tests/cli/test_real_", "tests/contracts/", "tests/policy/", "docs/",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` looks longer; CI does without."""
    parser.addoption("--long", action="store_true", help="long campaigns, many more examples")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile before any property is collected."""
    settings.load_profile("long" if config.getoption("--long") else "house")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; leave out what is `slow`, unless `--long`."""
    items.sort(key=lambda item: _place_in_line(item.nodeid))
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="only with --long"))


def _place_in_line(test: str) -> int:
    """The earlier, the longer its file takes."""
    return next((n for n, start in enumerate(LONGEST) if test.startswith(start)), len(LONGEST))
