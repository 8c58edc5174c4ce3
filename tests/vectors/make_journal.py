"""Write the vectors of event-v0, journal-v0 and catalog-snapshot-v0.

Run `python -m tests.vectors.make_journal` after a change of one of these formats. A journal is
one JSON file: file name to base64. All keys here are published and good for nothing else.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gateway.catalog.catalog import Catalog
from gateway.catalog.snapshot import FILE_NAME, save
from gateway.crypto.signing import Signer
from gateway.domain.events import canonical
from gateway.journal import frames
from gateway.journal.journal import Journal
from tests.catalog import happenings as h
from tests.journal.places import LOG, fill, opened, setup
from tests.vectors.every_kind import DRAFTS

HERE = Path(__file__).resolve().parent
SNAPSHOT_KEY = b"s" * 32


def fresh(name: str) -> Path:
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def events() -> None:
    directory = fresh("event-v0")
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        with opened(base) as journal:
            for draft in DRAFTS:
                journal.append(draft)
            journal.wait_durable(journal.size - 1)
            found = [event.envelope() for event in journal.read(0)]
    by_kind = {value["kind"]: value for value in found}
    for kind, value in by_kind.items():
        name = re.sub(r"(?<!^)([A-Z])", r"-\1", kind).lower()
        (directory / f"ok-{name}.json").write_bytes(canonical(value))
    good = by_kind["RequestRefused"]
    bad: dict[str, Any] = {
        "version": {**good, "v": 1},
        "unknown-kind": {**good, "kind": "Unheard"},
        "unknown-member": {**good, "note": "x"},
        "missing-member": {k: v for k, v in good.items() if k != "chains"},
        "person-in-clear": {**good, "who": "startup/ml"},
        "free-text": {**good, "facts": {**good["facts"], "error": "it did not work"}},
        "unknown-fact": {**good, "facts": {**good["facts"], "ip": "10.0.0.1"}},
        "float": {**good, "time": 1.5},
        "too-large-integer": {**good, "index": 2**53},
        "foreign-dataset": {**by_kind["VersionRegistered"], "owner": "bank"},
    }
    for name, value in bad.items():
        data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        (directory / f"bad-invalid-input-{name}.json").write_bytes(data.encode())
    text = canonical(good)
    spellings = {
        "space": text.replace(b":", b": ", 1),
        "newline": text + b"\n",
        "escaped": text.replace(b"clinic", b"\\u0063linic", 1),
        "repeated-member": text.replace(b'"v":0', b'"v":0,"v":0'),
        "unsorted": text.replace(b'{"actor":"startup",', b"{")[:-1] + b',"actor":"startup"}',
    }
    for name, data in spellings.items():
        (directory / f"bad-invalid-input-{name}.json").write_bytes(data)


def packed(base: Path) -> dict[str, Any]:
    def files(of: Path) -> dict[str, str]:
        paths = sorted(p for p in of.iterdir() if p.name != "lock")
        return {p.name: base64.b64encode(p.read_bytes()).decode() for p in paths}

    return {
        "log_key": LOG.public_key.hex(),
        "node": "n1",
        "journal": files(base / "journal"),
        "anchor": files(base / "anchor"),
    }


def put(directory: Path, name: str, base: Path, **facts: Any) -> None:
    text = json.dumps({**packed(base), **facts}, indent=1, sort_keys=True)
    (directory / f"{name}.json").write_text(text + "\n")


def journals() -> None:
    directory = fresh("journal-v0")
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "j"
        with opened(base, segment_bytes=3000) as journal:
            size = journal.durable_size
            put(directory, "ok-booted", base, size=size)
            booted = (base / "journal" / f"{0:020d}.log").read_bytes()
            fill(journal, 3, commits=3)
        put(directory, "ok-two-files", base, size=journal.durable_size)
        first, *_ = sorted((base / "journal").glob("*.log"))
        last = max((base / "journal").glob("*.log"))
        whole = last.read_bytes()
        torn = frames.frame(frames.EVENT, b'{"torn":true}')[:-4]
        variants = {
            "ok-torn-tail": (last, whole + torn),
            "ok-zeros-behind": (last, whole + b"\0" * 64),
            "bad-integrity-flipped-bit": (first, flipped(first.read_bytes(), 700)),
            "bad-integrity-changed-event": (first, changed(first.read_bytes())),
            "bad-integrity-forged-frame": (first, forged(first.read_bytes())),
            "bad-integrity-empty-file": (first, b""),
            "bad-config-other-format": (
                first,
                first.read_bytes().replace(b"/v0.1\n", b"/v9.9\n", 1),
            ),
        }
        for name, (path, data) in variants.items():
            kept = path.read_bytes()
            path.write_bytes(data)
            put(directory, name, base, size=journal.durable_size)
            path.write_bytes(kept)
        others = {p: p.read_bytes() for p in (base / "journal").glob("*.log")}
        for path in others:
            path.unlink()
        first.write_bytes(booted)
        put(directory, "bad-integrity-rolled-back", base, size=journal.durable_size)
        for path, data in others.items():
            path.write_bytes(data)
        kept = first.read_bytes()
        first.unlink()
        put(directory, "bad-integrity-first-file-missing", base, size=journal.durable_size)
        first.write_bytes(kept)
        (base / "anchor" / "anchor").unlink()
        put(directory, "bad-integrity-no-anchor", base, size=journal.durable_size)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def changed(data: bytes) -> bytes:
    """An event edited, its CRC made right again."""
    rebuilt = bytearray(frames.MAGIC)
    for kind, payload, _ in frames.scan(data, len(frames.MAGIC)):
        rebuilt += frames.frame(kind, payload.replace(b"grants/0", b"grants/7"))
    return bytes(rebuilt)


def forged(data: bytes) -> bytes:
    """A frame with a right CRC put in front of a signature."""
    *_, (_, _, end), _ = frames.scan(data, len(frames.MAGIC))
    return data[:end] + frames.frame(frames.EVENT, b"{}") + data[end:]


def snapshots() -> None:
    directory = fresh("catalog-snapshot-v0")
    with tempfile.TemporaryDirectory() as place:
        histories = {
            "empty": (),
            "world": h.WORLD,
            "streams": (*h.WORLD, h.denied(), h.decided(), h.opened(), h.intent(0, 1, 20)),
        }
        for name, drafts in histories.items():
            base, catalog = Path(place) / name, Catalog()
            with Journal.open(setup(base), catalog.apply, 0) as journal:
                for draft in drafts:
                    journal.append(draft)
                memory, state = journal.remember(lambda of=catalog: of.state)
            save(state, memory, base, SNAPSHOT_KEY, LOG)
            data = (base / FILE_NAME).read_bytes()
            (directory / f"ok-{name}.bin").write_bytes(data)
        save(state, memory, base, SNAPSHOT_KEY, Signer(b"o" * 32, "log"))
        other = (base / FILE_NAME).read_bytes()
        save(state, memory, base, b"o" * 32, LOG)
        rekeyed = (base / FILE_NAME).read_bytes()
    bad = {
        "flipped-magic": flipped(data, 3),
        "flipped-note": flipped(data, 60),
        "flipped-body": flipped(data, len(data) // 2),
        "flipped-signature": flipped(data, len(data) - 1),
        "cut-off": data[:-100],
        "empty": b"",
        "other-signer": other,
        "other-key": rekeyed,
    }
    for name, data in bad.items():
        (directory / f"bad-discarded-{name}.bin").write_bytes(data)


if __name__ == "__main__":
    events()
    journals()
    snapshots()
