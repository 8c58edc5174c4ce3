"""10,000 keys rotated on the local keyring: KEKs under a new root, DEKs under new KEKs.

Prints one JSON line per metric (see report.py); exits 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import rewrap
from gateway.crypto.key_sheet import Dek
from gateway.crypto.vault import KeyVault

KEYS, VERSIONS, SECONDS_GOAL = 10_000, 20, 1.0
DATASET = "0" * 32


def vault_in(directory: Path) -> KeyVault:
    vault = KeyVault(directory / "vault", LocalFileKms(directory / "roots"))
    for tenant in ("clinic", "startup"):  # one with many KEKs, one with many DEKs
        vault.add_tenant(tenant)
    ring = vault.ring("clinic")
    add = {f"kek/{n:032x}/data/1": os.urandom(32) for n in range(1, KEYS)}
    vault.put_ring(ring.next(add=add))
    each = KEYS // VERSIONS
    for version in range(1, VERSIONS + 1):
        shard = f"{version:032x}"
        deks = [
            Dek(id=f"{DATASET}/{shard}/{leaf}", key=os.urandom(32), shard=shard, leaf=str(leaf),
                origin_version=version)
            for leaf in range(each)
        ]  # fmt: skip
        vault.new_sheet("startup", DATASET, version, {dek.id: dek for dek in deks})
    return vault


def root(vault: KeyVault) -> None:
    rewrap.move_ring(vault, "clinic", root=rewrap.renew_root(vault, "clinic"))
    rewrap.destroy_older_roots(vault, "clinic")


def keks(vault: KeyVault) -> None:
    rewrap.renew_keks(vault, "startup", [DATASET])
    rewrap.rewrap_sheets(vault, "startup", DATASET)
    rewrap.move_ring(vault, "startup")


def seconds(act: Callable[[KeyVault], None], vault: KeyVault) -> float:
    start = time.perf_counter()
    act(vault)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON line per metric (always)")
    parser.add_argument("--quick", action="store_true")
    runs = 3 if parser.parse_args().quick else 7
    with tempfile.TemporaryDirectory() as directory:
        vault = vault_in(Path(directory))
        taken: dict[str, list[float]] = {"10,000 KEKs, new root": [], "10,000 DEKs, new KEKs": []}
        for _ in range(runs):
            for metric, act in zip(taken, (root, keks), strict=True):
                taken[metric].append(seconds(act, vault))
    is_met = True
    for metric, found in taken.items():
        value = statistics.median(found)
        is_met &= value <= SECONDS_GOAL
        print(
            json.dumps(
                {
                    "bench": "keys",
                    "metric": metric,
                    "value": round(value, 3),
                    "unit": "s",
                    "goal": f"<= {SECONDS_GOAL:g} s",
                    "ok": value <= SECONDS_GOAL,
                    "runs": runs,
                }
            )
        )
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
