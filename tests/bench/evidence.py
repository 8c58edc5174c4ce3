"""An EvidencePack of 1 M events, verified by its own program: every second leaf of a log.

Prints one JSON line per metric (see report.py); exits 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from base64 import b64encode
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.crypto.notes import sign_note, verifier_key
from gateway.crypto.signing import Signer
from gateway.domain.events import canonical

PROGRAM = Path(__file__).resolve().parents[2] / "gateway" / "journal" / "verify_pack.py"
LOG, TAG, SIGNER = "dataset-gateway/bench", "7" * 32, Signer(b"\x05" * 32, "log")
EVENTS, SECONDS_GOAL = 1_000_000, 10.0


def event(index: int, seq: int, prev: str) -> bytes:
    """What a stream records most: segments confirmed, in the canonical form of event-v0."""
    return (
        f'{{"actor":"startup","boot":"{"0" * 32}","chains":{{"{TAG}":{{"prev":"{prev}",'
        f'"seq":{seq}}}}},"details":null,"facts":{{"bytes":1048576,"lease":"lease_{"a" * 26}",'
        f'"rows":4096,"segments":[{seq}]}},"index":{index},"kind":"SegmentsConfirmed",'
        f'"node":"bench","owner":"clinic","time":{1_780_000_000_000_000 + index},"v":0,'
        f'"who":"{"b" * 32}"}}'
    ).encode()


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def folded(leaves: list[bytes], is_ours: list[bool]) -> tuple[bytes, list[bytes]]:
    """Root of the log, and the proof of our leaves (docs/formats/evidence-pack-v2.md)."""

    def walk(low: int, high: int) -> tuple[bytes, bool, list[bytes]]:
        if high - low == 1:
            return leaves[low], is_ours[low], [] if is_ours[low] else [leaves[low]]
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        left, has_left, first = walk(low, middle)
        right, has_right, second = walk(middle, high)
        root = digest(b"\1" + left + right)
        if not (has_left or has_right):
            return root, False, [root]
        first.extend(second)
        return root, True, first

    root, _, proof = walk(0, len(leaves))
    return root, proof


def packed(path: Path, events: int) -> None:
    """One event of the tenant, one of somebody else, and so on; the TenantHeads event last."""
    leaves: list[bytes] = []
    prev, lines = "0" * 64, []
    for seq in range(events):
        data = event(2 * seq, seq, prev)
        leaf = digest(b"\0" + data)
        leaves += [leaf, digest(b"\0" + seq.to_bytes(8, "big"))]
        prev = leaf.hex()
        lines.append(data)
    entry = {"leaf": prev, "seq": events - 1, "tag": TAG}
    facts = {"root": digest(b"\0" + canonical(entry)).hex(), "tenants": 1}
    heads = canonical({
        "actor": None, "boot": "0" * 32, "chains": {}, "details": None, "facts": facts,
        "index": 2 * events, "kind": "TenantHeads", "node": "bench", "owner": "platform",
        "time": 1, "v": 0, "who": None,
    })  # fmt: skip
    leaves.append(digest(b"\0" + heads))
    root, proof = folded(leaves, [place % 2 == 0 for place in range(len(leaves))])
    about = {
        "format": "gateway-evidence-v2", "node": "bench", "tenant": "clinic", "tag": TAG,
        "since": None, "until": None, "dataset": None, "events": events, "before": False,
        "after": False, "policy_at_start": None, "erased": [], "expired": [],
        "head": {"index": 2 * events, "seq": events - 1, "leaf": prev, "place": 0, "path": []},
    }  # fmt: skip
    note = sign_note(SIGNER, LOG, f"{LOG}\n{2 * events + 1}\n{b64encode(root).decode()}\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("pack.json", json.dumps(about))
        archive.writestr("events.jsonl", b"\n".join((*lines, b"")))
        archive.writestr("first.jsonl", lines[0] + b"\n")
        archive.writestr("heads.jsonl", heads + b"\n")
        archive.writestr("keys.jsonl", b"")
        archive.writestr("proof.bin", b"".join(proof))
        archive.writestr("checkpoint.txt", note)


def seconds(path: Path) -> float:
    key = verifier_key(LOG, SIGNER.public_key)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-I", str(PROGRAM), str(path), "--log-key", key],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON line per metric (always)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events")
    is_quick = parser.parse_args().quick
    events, runs = (EVENTS // 10, 1) if is_quick else (EVENTS, 3)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pack.zip"
        packed(path, events)
        value = statistics.median(seconds(path) for _ in range(runs))
    goal = SECONDS_GOAL * events / EVENTS
    fact = {
        "bench": "evidence", "metric": f"a pack of {events:,} events verified offline",
        "value": round(value, 2), "unit": "s", "goal": f"<= {goal:g} s", "ok": value <= goal,
        "runs": runs,
    }  # fmt: skip
    print(json.dumps(fact))
    return 0 if value <= goal else 1


if __name__ == "__main__":
    sys.exit(main())
