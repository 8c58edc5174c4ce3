"""What an import of the client costs, beside the libraries that a training image has anyway."""

from __future__ import annotations

import subprocess
import sys
import time

RATIO_MAX = 1.2
RUNS = 5


def seconds(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def test_the_client_imports_in_little_more_than_its_libraries() -> None:
    libraries = "import pyarrow, numpy, cryptography"
    whole = f"{libraries}\nfrom gateway.client import GatewayClient"
    pairs = [(seconds(libraries), seconds(whole)) for _ in range(RUNS)]  # interleaved
    best = min(b for _, b in pairs) / min(a for a, _ in pairs)
    assert best <= RATIO_MAX, f"{best:.2f} × the libraries"


def test_naming_the_package_loads_nothing() -> None:
    code = "import sys, gateway.client; print([m for m in sys.modules if m.startswith('gateway.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gateway.client']"
