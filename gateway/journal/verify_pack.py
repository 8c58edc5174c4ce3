"""Verify an EvidencePack offline: `python verify.py pack.zip --log-key log.vkey`.

Standalone: the standard library and `cryptography`, nothing of the gateway that made the pack
(docs/formats/evidence-pack-v1.md). Exit 0: the events are in a log that the given key signed,
in one unbroken chain, complete for the range. 2: the pack is consistent, but without
`--log-key` anybody could have signed it. 1: broken, and what.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

UNPACKED_BYTES_MAX = 16 << 30
NO_LEAF = "0" * 64
TAIL = re.compile(
    rb',"index":(\d+),"kind":"(\w+)","node":"[^"\\]+","owner":"[^"\\]+","time":(\d+),'
    rb'"v":0,"who":(?:null|"[0-9a-f]+")\}\Z'
)
LISTED = (b"PolicyPublished", b"VersionRegistered")  # they name files of the pack
TROUBLE = (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, IndexError, RuntimeError)


class Broken(Exception):
    """Something does not hold; the text says what."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


class Pack:
    """One archive, read once from the first event to the last."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        need(sum(i.file_size for i in archive.infolist()) <= UNPACKED_BYTES_MAX, "it is too large")
        self.archive = archive
        self.about: dict[str, Any] = json.loads(self.read("pack.json"))
        need(self.about["format"] == "gateway-evidence-v1", "another format")
        self.tag = f'"{self.about["tag"]}":{{"prev":"'.encode()
        self.leaves: list[tuple[int, bytes]] = []
        self.policies = {self.about["policy_at_start"]} - {None}
        self.manifests: set[str] = set()
        self.next, self.prev, self.opened = 0, NO_LEAF, 0  # what the next event must say

    def read(self, name: str) -> bytes:
        need(name in self.archive.namelist(), f"`{name}` is missing")
        return self.archive.read(name)

    def verify(self, log_key: str | None, witnesses: list[str]) -> dict[str, Any]:
        note = self.read("checkpoint.txt").decode()
        name, key = vkey(log_key or self.read("log.vkey").decode(), 1)
        text = signed_text(note, name, key)
        origin, size, root = text.split("\n")[:3]
        need(origin == f"dataset-gateway/{self.about['node']}", "the LogCheckpoint of another log")
        for witness in witnesses:
            cosigned(note, text, *vkey(witness, 4))
        self.walk()
        heads = self.read("heads.jsonl").rstrip(b"\n")
        self.check_newest(heads)
        self.leaves.append((index_of(heads)[0], leaf(heads)))
        self.prove(int(size), base64.b64decode(root))
        self.check_files()
        return {
            "tenant": self.about["tenant"],
            "log": f"{origin}, {size} events, signed by {name}",
            "witnesses": len(witnesses),
            "events": len(self.leaves) - 1 - self.about["before"] - self.about["after"],
            "details opened": self.opened,
            "expired by retention": ", ".join(self.about.get("expired", ())) or "nothing",
            "rules and manifests": len(self.policies) + len(self.manifests),
        }

    def walk(self) -> None:
        """Every event continues the tenant's chain without a gap, from neighbour to neighbour."""
        need("events.jsonl" in self.archive.namelist(), "`events.jsonl` is missing")
        keys = iter(self.read("keys.jsonl").splitlines())
        key, time = json.loads(next(keys, b"null")), 0
        with self.archive.open("events.jsonl") as lines:
            for line in lines:
                data = line.removesuffix(b"\n")
                index, kind, time = index_of(data)
                self.follow(data, index, time)
                if key is not None and key["index"] == index:
                    opens(json.loads(data), bytes.fromhex(key["key"]))
                    self.opened, key = self.opened + 1, json.loads(next(keys, b"null"))
                if kind in LISTED:
                    self.list_files(json.loads(data))
        need(self.leaves, "there are no events")
        need(key is None, "a key for an event that is not there")
        until = self.about["until"]
        at_end = not self.about["after"] or (until is not None and time >= until)
        need(at_end, "events at the end are missing")

    def follow(self, data: bytes, index: int, time: int) -> None:
        link = data.find(self.tag)
        need(link >= 0, f"event {index} is not of this tenant's chain")
        at = link + len(self.tag)
        prev, seq = data[at : at + 64].decode(), int(data[at + 72 : data.index(b"}", at)])
        if self.leaves:
            need(seq == self.next, f"events are missing before event {index}")
        else:
            since = self.about["since"]
            need(seq == 0 or (since is not None and time < since), "the first events are missing")
        if self.leaves or seq == 0:
            need(prev == self.prev, f"event {index} follows another event")
        found = leaf(data)
        self.leaves.append((index, found))
        self.next, self.prev = seq + 1, found.hex()

    def list_files(self, event: dict[str, Any]) -> None:
        facts = event["facts"]
        if event["owner"] != self.about["tenant"]:
            return
        if event["kind"] == "PolicyPublished":
            self.policies.add(facts["bundle"])
        elif self.about["dataset"] in (None, facts["dataset"]):
            self.manifests.add(facts["manifest_digest"])

    def check_newest(self, heads: bytes) -> None:
        """The log itself fixes the tenant's newest event: none behind the last one is hidden."""
        said, facts = self.about["head"], json.loads(heads)["facts"]
        need(index_of(heads)[1] == b"TenantHeads", "there is no TenantHeads event")
        entry = {"leaf": said["leaf"], "seq": said["seq"], "tag": self.about["tag"]}
        at, last, found = said["place"], facts["tenants"] - 1, leaf(canonical(entry))
        for part in map(bytes.fromhex, said["path"]):
            if at & 1 or at == last:
                found = node(part, found)
                while not at & 1 and at:
                    at, last = at >> 1, last >> 1
            else:
                found = node(found, part)
            at, last = at >> 1, last >> 1
        need(last == 0 and found.hex() == facts["root"], "the log fixes another newest event")
        is_newest = (said["seq"], said["leaf"]) == (self.next - 1, self.prev)
        need(self.about["after"] or is_newest, "newer events of the tenant are missing")

    def prove(self, size: int, root: bytes) -> None:
        """All of them are in the signed tree (RFC 6962), by one proof for many leaves."""
        leaves = sorted(self.leaves)
        indexes = [index for index, _ in leaves]
        need(len(set(indexes)) == len(indexes), "two events have one place")
        need(indexes[-1] < size, "an event is beyond the log")
        proof = self.read("proof.bin")
        rest = iter([proof[at : at + 32] for at in range(0, len(proof), 32)])

        def fold(low: int, high: int, first: int, last: int) -> bytes:
            if first == last:
                return next(rest, b"")
            if last - first == high - low and not (high - low) & (high - low - 1):
                return whole([hashed for _, hashed in leaves[first:last]])
            middle = low + (1 << ((high - low - 1).bit_length() - 1))
            cut = bisect_left(indexes, middle, first, last)
            return node(fold(low, middle, first, cut), fold(middle, high, cut, last))

        need(fold(0, size, 0, len(leaves)) == root, "an event is not in the signed log")
        need(next(rest, None) is None, "`proof.bin` is too long")

    def check_files(self) -> None:
        """Rules and Manifests that the events name are there, and are those."""
        for digest in self.policies:
            files = json.loads(self.read(f"policies/{digest}.json"))
            about = {"format": "gateway-policy/v0", "tenant": self.about["tenant"], "files": files}
            need(sha256(canonical(about)) == digest, f"the rules {digest} were changed")
        for digest in self.manifests - set(self.about["erased"]):
            data = self.read(f"manifests/{digest}.json")
            need(sha256(data) == digest, f"the manifest {digest} was changed")


def index_of(data: bytes) -> tuple[int, bytes, int]:
    """Index, kind and time (microseconds) of an event, from the end of its canonical bytes."""
    found = TAIL.search(data, max(data.rfind(b',"index":'), 0))
    if found is None:
        raise Broken("a line is not an event")
    return int(found[1]), found[2], int(found[3])


def opens(event: dict[str, Any], key: bytes) -> None:
    """The key is the one that the event commits to, and opens its details."""
    sealed, (owner, month) = event["details"], event["details"]["key"].split("/")
    info = bound("commitment", "commit")
    committed = HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(key).hex()
    need(committed == sealed["commitment"], f"another key for event {event['index']}")
    data = base64.b64decode(sealed["sealed"])
    place = bound("detail", owner, month, f"{event['node']}/{event['boot']}/{event['index']}")
    try:
        AESGCM(key).decrypt(data[:12], data[12:], place)
    except InvalidTag:
        raise Broken(f"the details of event {event['index']} do not open") from None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def whole(level: list[bytes]) -> bytes:
    """Root of a complete subtree of which every leaf is there."""
    while len(level) > 1:
        level = [node(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def bound(label: str, *parts: str) -> bytes:
    items = (part.encode() for part in (label, *parts))
    return b"gateway/v0\0" + b"".join(b"s" + len(i).to_bytes(4, "big") + i for i in items)


def vkey(text: str, kind: int) -> tuple[str, bytes]:
    """Name and public key of a C2SP verifier key, or of a file that holds one."""
    text = text if "+" in text else Path(text).read_text("utf-8")
    name, digest, encoded = text.strip().split("+", 2)
    key = base64.b64decode(encoded, validate=True)
    need(key[:1] == bytes([kind]) and len(key) == 33, f"`{name}` is another kind of key")
    need(key_hash(name, key).hex() == digest, f"the key of `{name}` is damaged")
    return name, key[1:]


def key_hash(name: str, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]


def signature_of(note: str, name: str, key: bytes) -> bytes:
    for line in note.rpartition("\n\n")[2].splitlines():
        _, who, encoded = line.split(" ")
        blob = base64.b64decode(encoded, validate=True)
        if who == name and blob[:4] == key_hash(name, key):
            return blob[4:]
    raise Broken(f"the LogCheckpoint is not signed by `{name}` with this key")


def check(key: bytes, signature: bytes, message: bytes, name: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Broken(f"the signature of `{name}` does not hold") from None


def signed_text(note: str, name: str, key: bytes) -> str:
    text = note.rpartition("\n\n")[0] + "\n"
    check(key, signature_of(note, name, b"\1" + key), text.encode(), name)
    return text


def cosigned(note: str, text: str, name: str, key: bytes) -> None:
    """C2SP tlog-cosignature v1: eight bytes of time, then a signature over it and the text."""
    blob = signature_of(note, name, b"\4" + key)
    moment = int.from_bytes(blob[:8], "big")
    check(key, blob[8:], f"cosignature/v1\ntime {moment}\n{text}".encode(), name)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify an EvidencePack offline.")
    parser.add_argument("pack")
    parser.add_argument("--log-key", help="verifier key (vkey) of the log, or a file with it")
    parser.add_argument("--witness-key", action="append", default=[], help="of a witness")
    given = parser.parse_args(arguments)
    try:
        with zipfile.ZipFile(given.pack) as archive:
            facts = Pack(archive).verify(given.log_key, given.witness_key)
    except (Broken, *TROUBLE) as problem:
        read = "" if isinstance(problem, Broken) else f"unreadable, {type(problem).__name__}: "
        sys.stdout.write(f"BROKEN: {read}{problem}\n")
        return 1
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in facts.items()))
    sys.stdout.write("people.json and summary.html are what the gateway says, not proven\n")
    if given.log_key is None:
        sys.stdout.write("SELF-CONSISTENT ONLY: who signed it is not known; give --log-key\n")
        return 2
    sys.stdout.write("VERIFIED\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
