"""What an import of the client loads, beside the libraries that a training image has anyway.

What it costs in time is measured by `make bench`, where nothing else runs beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys

LATE = {"asyncio", "email", "http", "joserfc", "pyarrow", "ssl", "urllib3", "yaml"}
MODULES_MAX = 40  # of ours and of the standard library; today 26


def loaded(code: str) -> set[str]:
    code = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_client_loads_little_more_than_its_libraries() -> None:
    libraries = "import numpy, cryptography"
    more = loaded(f"{libraries}\nfrom gateway.client import GatewayClient") - loaded(libraries)
    assert not {name for name in more if name.split(".")[0] in LATE}
    assert len(more) <= MODULES_MAX, sorted(more)


def test_naming_the_package_loads_nothing() -> None:
    code = "import sys, gateway.client; print([m for m in sys.modules if m.startswith('gateway.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gateway.client']"
