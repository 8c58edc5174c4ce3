"""How long `import gateway.client` takes, against the libraries it cannot do without.

Interleaved medians of fresh interpreters; the interpreter's own start is not subtracted,
so that the ratio is what a user waits for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

PEER = "import pyarrow, numpy, cryptography.hazmat.primitives.ciphers.aead"
GOAL = 1.2


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    runs = 2 if args.quick else 15
    seconds(PEER)
    seconds("import gateway.client")
    pairs = [(seconds("import gateway.client"), seconds(PEER)) for _ in range(runs)]
    ours, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = round(ours / peer, 2)
    fact = {
        "bench": "client_import",
        "metric": "import gateway.client / import pyarrow, numpy, cryptography",
        "value": ratio,
        "unit": "x",
        "goal": f"<= {GOAL}",
        "ok": ratio <= GOAL,
        "runs": runs,
    }
    print(json.dumps(fact, ensure_ascii=False) if args.json else fact)
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
