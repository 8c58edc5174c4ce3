"""Settings of all tests: how long they look for what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture(scope="module", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pins are kept by URL: a gateway of another module may have had the same port."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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
