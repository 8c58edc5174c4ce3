"""What an import of the client costs, beside the libraries that a training image has anyway."""

from __future__ import annotations

import resource
import subprocess
import sys

RATIO_MAX = 1.2
ROUNDS, RUNS = 4, 4


def seconds(code: str) -> float:
    """CPU seconds, which other work on the machine disturbs least."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_client_imports_in_little_more_than_its_libraries() -> None:
    libraries = "import pyarrow, numpy, cryptography"
    whole = f"{libraries}\nfrom gateway.client import GatewayClient"
    alone, both, ratio = [], [], RATIO_MAX + 1
    for _ in range(ROUNDS):  # minima only fall: noise passes, a regression does not
        for _ in range(RUNS):  # interleaved
            alone.append(seconds(libraries))
            both.append(seconds(whole))
        ratio = min(both) / min(alone)
        if ratio <= RATIO_MAX:
            return
    raise AssertionError(f"{ratio:.2f} × the libraries")


def test_naming_the_package_loads_nothing() -> None:
    code = "import sys, gateway.client; print([m for m in sys.modules if m.startswith('gateway.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gateway.client']"
