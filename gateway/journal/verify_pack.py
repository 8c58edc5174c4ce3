"""Verify an EvidencePack offline: `python verify.py pack.zip --log-key log.vkey`.

Standalone: the standard library and `cryptography` alone (docs/formats/evidence-pack-v2.md).
Exit 0: the events are in a log that the given key signed, in one unbroken chain of that tenant,
complete for the time that is told. 2: consistent, but anybody could have signed it. 1: broken.
"""

from __future__ import annotations

import argparse
import hmac
import json
import re
import sys
import zipfile
from base64 import b64decode
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LOG, WITNESS = 1, 4  # kinds of C2SP verifier keys
canonical = partial(json.dumps, sort_keys=True, separators=(",", ":"))
TAIL = re.compile(
    rb',"index":(\d+),"kind":"(\w+)","node":"[^"\\]+","owner":"[^"\\]+","time":(\d+),'
    rb'"v":0,"who":(?:null|"[0-9a-f]+")\}\Z'
)


class Broken(Exception):
    """Something does not hold; the text says what."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


class Pack:
    """One archive, read once from the first event to the last."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        need(sum(i.file_size for i in archive.infolist()) <= 16 << 30, "it is too large")
        self.archive, self.names = archive, set(archive.namelist())
        self.about: dict[str, Any] = json.loads(self.read("pack.json"))
        need(self.about["format"] == "gateway-evidence-v2", "another format")
        self.tag = f'"{self.about["tag"]}":{{"prev":"'.encode()
        self.leaves: list[tuple[int, bytes]] = []
        self.policies, self.manifests = {self.about["policy_at_start"]} - {None}, set[str]()
        self.next, self.prev, self.opened, self.before, self.after = 0, "0" * 64, 0, False, False

    def read(self, name: str) -> bytes:
        need(name in self.names, f"`{name}` is missing")
        return self.archive.read(name)

    def verify(self, log_key: str | None, witnesses: list[str]) -> dict[str, Any]:
        note = self.read("checkpoint.txt").decode()
        signers = [signer(note, log_key or self.read("log.vkey").decode(), LOG)]
        signers += [signer(note, witness, WITNESS) for witness in witnesses]
        origin, size, root = note.rpartition("\n\n")[0].split("\n")[:3]
        need(origin == f"dataset-gateway/{self.about['node']}", "the LogCheckpoint of another log")
        self.walk()
        events = len(self.leaves) - self.before - self.after
        self.check_tenant(self.read("first.jsonl").rstrip(b"\n"))
        times = self.check_newest(self.read("heads.jsonl").rstrip(b"\n"))
        ends = [str(datetime.fromtimestamp(at // 10**6, UTC)) for at in times]
        self.prove(int(size), b64decode(root))
        self.check_files()
        return {
            "tenant": self.about["tenant"],
            "log": f"{origin}, {size} events, signed by {', '.join(signers)}",
            "complete": " to ".join(ends),
            "events": events,
            "details opened": self.opened,
            "expired by retention": ", ".join(self.about.get("expired", ())) or "nothing",
            "manifests and details of": self.about["dataset"] or "every dataset",
            "rules and manifests": len(self.policies) + len(self.manifests),
            "people.json, summary.html, erased": "what the gateway says, not proven",
        }

    def walk(self) -> None:
        """Every event continues the tenant's chain without a gap, from neighbour to neighbour."""
        keys = iter(self.read("keys.jsonl").splitlines())
        key = json.loads(next(keys, b"null"))
        with self.archive.open("events.jsonl") as lines:
            for data in map(bytes.rstrip, lines):
                index, kind, time = index_of(data)
                self.follow(data, index, time)
                if key is not None and key["index"] == index:
                    opens(json.loads(data), bytes.fromhex(key["key"]))
                    self.opened, key = self.opened + 1, json.loads(next(keys, b"null"))
                if kind in (b"PolicyPublished", b"VersionRegistered"):
                    self.list_files(json.loads(data))
        need(self.leaves, "there are no events")
        need(key is None, "a key for an event that is not there")

    def follow(self, data: bytes, index: int, time: int) -> None:
        link, since, until = data.find(self.tag), self.about["since"], self.about["until"]
        need(link >= 0, f"event {index} is not of this tenant's chain")
        at, first = link + len(self.tag), not self.leaves
        prev, seq = data[at : at + 64].decode(), int(data[at + 72 : data.index(b"}", at)])
        self.before = (since is not None and time < since) if first else self.before
        self.after = until is not None and time >= until
        need(seq == 0 or self.before or not first, "the first events are missing")
        need(first or seq == self.next, f"events are missing before event {index}")
        need((first and seq > 0) or prev == self.prev, f"event {index} follows another event")
        leaf = sha256(b"\0" + data)
        self.leaves.append((index, leaf.digest()))
        self.next, self.prev = seq + 1, leaf.hexdigest()

    def list_files(self, event: dict[str, Any]) -> None:
        facts, is_own = event["facts"], event["owner"] == self.about["tenant"]
        if is_own and event["kind"] == "PolicyPublished":
            self.policies.add(facts["bundle"])
        elif is_own and self.about["dataset"] in (None, facts["dataset"]):
            self.manifests.add(facts["manifest_digest"])

    def check_tenant(self, first: bytes) -> None:
        """Whose chain it is, its very first event says."""
        leaf = index_of(first)[0], sha256(b"\0" + first).digest()
        begins = b'%s%s","seq":0}' % (self.tag, b"0" * 64) in first
        owner = json.loads(first)["owner"]
        need(begins and owner == self.about["tenant"], "the chain is another tenant's")
        self.leaves += [] if leaf == self.leaves[0] else [leaf]

    def check_newest(self, heads: bytes) -> tuple[int, int]:
        """The log fixes the tenant's newest event, up to a time: none behind the last is hidden."""
        said, facts = self.about["head"], json.loads(heads)["facts"]
        index, kind, time = index_of(heads)
        need(kind == b"TenantHeads", "there is no TenantHeads event")
        entry = {"leaf": said["leaf"], "seq": said["seq"], "tag": self.about["tag"]}
        leaf = said["place"], sha256(b"\0" + canonical(entry).encode()).digest()
        found = fold([leaf], map(bytes.fromhex, said["path"]), 0, facts["tenants"])
        need(found.hex() == facts["root"], "the log fixes another newest event")
        is_newest = (said["seq"], said["leaf"]) == (self.next - 1, self.prev)
        need(self.after or is_newest, "newer events of the tenant are missing")
        self.leaves.append((index, sha256(b"\0" + heads).digest()))
        return self.about["since"] or 0, min(time, self.about["until"] or time)

    def prove(self, size: int, root: bytes) -> None:
        """All of them are in the signed tree, each in a place of its own."""
        leaves, proof = sorted(self.leaves), self.read("proof.bin")
        need(len(dict(leaves)) == len(leaves) and leaves[-1][0] < size, "an event has no place")
        rest = (proof[at : at + 32] for at in range(0, len(proof), 32))
        need(fold(leaves, rest, 0, size) == root, "an event is not in the signed log")
        need(next(rest, None) is None, "`proof.bin` is too long")

    def check_files(self) -> None:
        """Rules and Manifests that the events name are there, and are those."""
        for digest in self.policies:
            files = json.loads(self.read(f"policies/{digest}.json"))
            about = {"format": "gateway-policy/v0", "tenant": self.about["tenant"], "files": files}
            found = sha256(canonical(about).encode()).hexdigest()
            need(found == digest, f"the rules {digest} were changed")
        for digest in self.manifests - set(self.about["erased"]):
            data = self.read(f"manifests/{digest}.json")
            need(sha256(data).hexdigest() == digest, f"the manifest {digest} was changed")


def index_of(data: bytes) -> tuple[int, bytes, int]:
    """Index, kind and time (microseconds) of an event, from the end of its canonical bytes."""
    found = TAIL.search(data, max(data.rfind(b',"index":'), 0))
    if found is None:
        raise Broken("a line is not an event")
    return int(found[1]), found[2], int(found[3])


def opens(event: dict[str, Any], key: bytes) -> None:
    """The key is the one that the event commits to, and opens its details."""
    sealed, (owner, month) = event["details"], event["details"]["key"].split("/")
    committed = hmac.digest(key, bound("commitment", "commit") + b"\1", "sha256").hex()
    need(committed == sealed["commitment"], f"another key for event {event['index']}")
    data = b64decode(sealed["sealed"])
    place = bound("detail", owner, month, f"{event['node']}/{event['boot']}/{event['index']}")
    try:
        AESGCM(key).decrypt(data[:12], data[12:], place)
    except InvalidTag:
        raise Broken(f"the details of event {event['index']} do not open") from None


def signer(note: str, vkey: str, kind: int) -> str:
    """Whose C2SP verifier key (or file with one) it is; who must have signed the note."""
    vkey = (vkey if "+" in vkey else Path(vkey).read_text("utf-8")).strip()
    need(vkey.count("+") > 1, "a key that was given is no verifier key (NAME+HASH+KEY)")
    name, digest, encoded = vkey.split("+", 2)
    key = b64decode(encoded, validate=True)
    need(key[:1] == bytes([kind]) and len(key) == 33, f"`{name}` is another kind of key")
    known = sha256(name.encode() + b"\n" + key).digest()[:4]
    need(known.hex() == digest, f"the key of `{name}` is damaged")
    text, _, lines = note.rpartition("\n\n")
    signed = [line.split(" ") for line in lines.splitlines()]
    blobs = [b64decode(blob, validate=True) for _, who, blob in signed if who == name]
    blob = next((blob[4:] for blob in blobs if blob[:4] == known), b"")
    need(blob, f"the LogCheckpoint is not signed by `{name}` with this key")
    message = f"{text}\n"
    if kind == WITNESS:  # eight bytes of time, and a signature over it and the text
        time, blob = int.from_bytes(blob[:8], "big"), blob[8:]
        message = f"cosignature/v1\ntime {time}\n{message}"
    try:
        Ed25519PublicKey.from_public_bytes(key[1:]).verify(blob, message.encode())
    except InvalidSignature:
        raise Broken(f"the signature of `{name}` does not hold") from None
    return name


def fold(leaves: list[tuple[int, bytes]], rest: Iterator[bytes], low: int, high: int) -> bytes:
    """Root of a part of a tree (RFC 6962) with these leaves; `rest` proves all of them at once."""
    if not leaves:
        return next(rest, b"")
    if high - low == 1:
        return leaves[0][1]
    middle = low + (1 << ((high - low - 1).bit_length() - 1))
    cut = bisect_left(leaves, (middle,))
    left = fold(leaves[:cut], rest, low, middle)
    return sha256(b"\1" + left + fold(leaves[cut:], rest, middle, high)).digest()


def bound(label: str, *parts: str) -> bytes:
    items = (part.encode() for part in (label, *parts))
    return b"gateway/v0\0" + b"".join(b"s" + len(i).to_bytes(4, "big") + i for i in items)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify an EvidencePack offline.")
    parser.add_argument("pack")
    parser.add_argument("--log-key", help="verifier key (vkey) of the log, or a file with it")
    parser.add_argument("--witness-key", action="append", default=[], help="of a witness")
    given = parser.parse_args(arguments)
    try:
        with zipfile.ZipFile(given.pack) as archive:
            facts = Pack(archive).verify(given.log_key, given.witness_key)
    except Exception as problem:  # noqa: BLE001 - whatever a hostile pack raises, it is broken
        read = "" if isinstance(problem, Broken) else f"unreadable, {type(problem).__name__}: "
        sys.stdout.write(f"BROKEN: {read}{problem}\n")
        return 1
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in facts.items()))
    sys.stdout.write("VERIFIED\n" if given.log_key else "SELF-CONSISTENT ONLY: give --log-key\n")
    return 0 if given.log_key else 2


if __name__ == "__main__":
    sys.exit(main())
