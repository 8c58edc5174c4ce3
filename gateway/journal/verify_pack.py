"""Verify an EvidencePack offline: `python verify.py pack.zip --log-key log.vkey`.

Standalone: the standard library and `cryptography` alone (docs/formats/evidence-pack-v1.md).
Exit 0: the events are in a log that the given key signed, in one unbroken chain, complete for
the range. 2: consistent, but without `--log-key` anybody could have signed it. 1: broken.
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
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LOG, WITNESS = 1, 4  # kinds of C2SP verifier keys
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
        need(self.about["format"] == "gateway-evidence-v1", "another format")
        self.tag = f'"{self.about["tag"]}":{{"prev":"'.encode()
        self.leaves: list[tuple[int, bytes]] = []
        self.policies, self.manifests = {self.about["policy_at_start"]} - {None}, set[str]()
        self.next, self.prev, self.opened = 0, "0" * 64, 0  # what the next event must say

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
        self.check_newest(self.read("heads.jsonl").rstrip(b"\n"))
        self.prove(int(size), b64decode(root))
        self.check_files()
        return {
            "tenant": self.about["tenant"],
            "log": f"{origin}, {size} events, signed by {', '.join(signers)}",
            "events": len(self.leaves) - 1 - self.about["before"] - self.about["after"],
            "details opened": self.opened,
            "expired by retention": ", ".join(self.about.get("expired", ())) or "nothing",
            "rules and manifests": len(self.policies) + len(self.manifests),
            "people.json and summary.html": "what the gateway says, not proven",
        }

    def walk(self) -> None:
        """Every event continues the tenant's chain without a gap, from neighbour to neighbour."""
        keys, time = iter(self.read("keys.jsonl").splitlines()), 0
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
        end = self.about["until"] if self.about["after"] else 0
        need(end is not None and time >= end, "events at the end are missing")

    def follow(self, data: bytes, index: int, time: int) -> None:
        link = data.find(self.tag)
        need(link >= 0, f"event {index} is not of this tenant's chain")
        at, since = link + len(self.tag), self.about["since"]
        prev, seq = data[at : at + 64].decode(), int(data[at + 72 : data.index(b"}", at)])
        first, begins = not self.leaves, seq == 0 or (since is not None and time < since)
        need(begins or not first, "the first events are missing")
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

    def check_newest(self, heads: bytes) -> None:
        """The log itself fixes the tenant's newest event: none behind the last one is hidden."""
        said, facts = self.about["head"], json.loads(heads)["facts"]
        index, kind, _ = index_of(heads)
        need(kind == b"TenantHeads", "there is no TenantHeads event")
        entry = {"leaf": said["leaf"], "seq": said["seq"], "tag": self.about["tag"]}
        at, last = said["place"], facts["tenants"] - 1
        found = sha256(b"\0" + canonical(entry)).digest()
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
        self.leaves.append((index, sha256(b"\0" + heads).digest()))

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
            if high - low == 1:
                return leaves[first][1]
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
            need(sha256(canonical(about)).hexdigest() == digest, f"the rules {digest} were changed")
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
    # One block of HKDF-Expand with SHA-256 (RFC 5869 section 2.3).
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


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


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
