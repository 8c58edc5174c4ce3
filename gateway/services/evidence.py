"""An EvidencePack: a tenant's history in a range, proven to be in the log and to be all of it.

(1) the request is durable, hence in the pack itself when the range is open; (2) the tenant's
chain is read up to the newest TenantHeads event, which the log fixes; (3) events, one proof for
all of them, rules, Manifests and the keys of what the tenant may read go into one zip with the
program that verifies it. The pack is kept in memory, by who asked for it, for KEPT_SECONDS: what
it shows in clear never lies on this disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import zipfile
from array import array
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from typing import Any

import orjson

import gateway.wire as W
from gateway.crypto.details import DetailSealer, Expired
from gateway.crypto.notes import verifier_key
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import MICROSECONDS
from gateway.errors import GatewayError, InvalidInput, LimitExceeded, NotFound, Unavailable
from gateway.journal.chains import Head
from gateway.journal.checkpoint import origin_of
from gateway.journal.composer import month_of
from gateway.services import audit, publish, storage
from gateway.services.evidence_summary import Summary
from gateway.services.house import House
from gateway.services.operations import Operation, Report
from gateway.services.request_access import Caller
from gateway.wire.times import moment

FORMAT = "gateway-evidence-v2"
_log = logging.getLogger("gateway.evidence")
EVENTS_MAX = 1_000_000
PACK_BYTES_MAX = 512 << 20  # of one, and of all that wait to be fetched
KEPT_SECONDS = 900
PART_BYTES = 8 << 20
README = """What happened to one tenant's data, as the log of a Dataset Gateway recorded it.

    pip install cryptography
    python verify.py PACK.zip --log-key LOG.vkey [--witness-key WITNESS.vkey]

LOG.vkey is the log's verifier key, from somewhere you trust (not out of this pack), and so is
the key of a witness: without one, the holder of the log key may have two histories. Exit 0:
verified; 2: consistent, but the signer is not known; 1: broken. summary.html is for reading;
events.jsonl is what is proven.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A pack that waits to be fetched."""

    subject: str
    data: bytes
    until: float  # Unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a pack is about."""

    tenant: str
    since: int | None  # Unix microseconds; None = from the first event on
    until: int | None  # None = to the newest
    dataset: str | None  # whose Manifests and details are wanted; None = every one


async def export(house: House, caller: Caller, wanted: W.EvidenceRequest) -> Operation:
    """Make a pack of the caller's side of history; answers with an Operation.

    Raises:
        NotFound: no tenant or dataset that the caller may audit.
        InvalidInput: the range ends before it begins.
        UnknownName: the tenant's history has no such dataset.
    """
    scope = _scope(house, caller, wanted)
    asked = {"since": wanted.since, "until": wanted.until, "dataset": wanted.dataset}
    await audit.recorded(house, caller, scope.tenant, ("evidence", asked))
    if wanted.dataset is not None:
        await audit.require_dataset(house, scope.tenant, wanted.dataset)
    operation = Operation(
        id=house.id("op_"),
        kind="evidence",
        tenant=caller.subject.tenant,
        started_at=house.now(),
        detail="waiting",
    )

    async def act(report: Report) -> dict[str, Any]:
        async with house.turns.setdefault("evidence", asyncio.Lock()):  # one in memory at a time
            head = house.journal.head(scope.tenant)
            await house.journal.durable(head.index)
            report(0.01, "asking the witnesses")
            await house.witnesses.within(house.journal)
            data, facts = await asyncio.to_thread(_build, house, scope, head, report)
        _keep(house, operation.id, Packed(subject=caller.subject.id, data=data,
                                          until=house.now() + KEPT_SECONDS))  # fmt: skip
        return {
            "pack": operation.id,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            **facts,
        }

    return house.operations.start(operation, act)


async def part(house: House, caller: Caller, pack: str, start: int) -> bytes:
    """Bytes of a finished pack from `start` on, at most PART_BYTES; for who asked for it."""
    found = house.packs.get(pack)
    if found is None or found.subject != caller.subject.id or found.until < house.now():
        raise NotFound(f"no pack `{pack[:80]}` of yours", advice="`gateway lineage export`")
    if not 0 <= start <= len(found.data):
        raise InvalidInput(f"the pack has {len(found.data)} bytes")
    return found.data[start : start + PART_BYTES]


def _scope(house: House, caller: Caller, wanted: W.EvidenceRequest) -> Scope:
    tenant = audit.side_of(house, caller, wanted.tenant, wanted.dataset)
    now = house.now()
    since, until = (
        None if text is None else int(moment(text, now=now) * MICROSECONDS)
        for text in (wanted.since, wanted.until)
    )
    if since is not None and until is not None and until <= since:
        raise InvalidInput("the range ends before it begins", field="until")
    dataset = None
    if wanted.dataset is not None:
        dataset = str(DatasetRef.parse(wanted.dataset).unversioned)
    return Scope(tenant=tenant, since=since, until=until, dataset=dataset)


def _keep(house: House, name: str, packed: Packed) -> None:
    for old in [name for name, pack in house.packs.items() if pack.until < house.now()]:
        del house.packs[old]
    while house.packs and _bytes_kept(house) + len(packed.data) > PACK_BYTES_MAX:
        del house.packs[next(iter(house.packs))]
    house.packs[name] = packed


def _bytes_kept(house: House) -> int:
    return sum(len(pack.data) for pack in house.packs.values())


@dataclass(slots=True, kw_only=True)
class _Range:
    """Which events of the chain: counted by `seq`."""

    first: int
    last: int  # before `first` when there is none
    at_start: str | None  # digest of the bundle in force before it
    length: int  # of the chain

    @property
    def before(self) -> bool:
        return self.first > 0

    @property
    def after(self) -> bool:
        return self.last + 1 < self.length


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the events of the range name."""

    indexes: list[int] = field(default_factory=list)  # of all that is proven, ascending
    first: bytes = b""  # event of the chain, also when it is before the range
    policies: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)  # manifest digest -> `tenant/name@1`
    keys: io.BytesIO = field(default_factory=io.BytesIO)
    opened: int = 0
    unreadable: int = 0  # details whose key was destroyed
    expired: set[str] = field(default_factory=set)  # months of these, by retention


def _build(house: House, scope: Scope, head: Head, report: Report) -> tuple[bytes, dict[str, Any]]:
    report(0.05, "reading the log")
    chosen = _range(house, scope, head)
    count = chosen.last - chosen.first + 1
    if count > EVENTS_MAX:
        raise LimitExceeded(
            f"{count} events are more than {EVENTS_MAX} of one pack",
            advice="name a shorter range with --since and --until",
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        summary = Summary(scope.tenant, audit.names(house, scope.tenant))
        found = _write_events(house, scope, (head, chosen), archive, summary)
        report(0.7, "proving them")
        note = _write_proof(house, head, found, archive)
        report(0.9, "adding rules and manifests")
        erased = _write_files(house, scope, chosen, found, archive)
        about = _about(house, scope, head, chosen)
        about |= {"events": count, "erased": erased, "expired": sorted(found.expired)}
        archive.writestr("pack.json", orjson.dumps(about, option=orjson.OPT_INDENT_2))
        archive.writestr("people.json", orjson.dumps(summary.people, option=orjson.OPT_INDENT_2))
        archive.writestr("summary.html", summary.html(note, about, house.witnesses.told))
    if buffer.tell() > PACK_BYTES_MAX:
        raise LimitExceeded("the pack is too large", advice="name a shorter range")
    return buffer.getvalue(), {
        "events": count,
        "witnessed": house.witnesses.told,
        "opened": found.opened,
        "unreadable": found.unreadable,
        "expired": sorted(found.expired),
        "policies": len(found.policies),
        "manifests": len(found.versions) - len(erased),
    }


def _range(house: House, scope: Scope, head: Head) -> _Range:
    """The first and last event within the times; all between them belong to it, too."""
    times, policies = array("Q"), dict[int, str]()
    for _, data in house.journal.chain(scope.tenant, head.index):
        event = orjson.loads(data)
        if event["kind"] == "PolicyPublished" and event["facts"]["tenant"] == scope.tenant:
            policies[len(times)] = event["facts"]["bundle"]
        times.append(event["time"])
    since, until = scope.since or 0, scope.until
    first = next((n for n, time in enumerate(times) if time >= since), len(times))
    last = len(times) - 1
    while until is not None and last >= first and times[last] >= until:
        last -= 1
    earlier = [digest for n, digest in policies.items() if n < first]
    at_start = earlier[-1] if earlier else None
    return _Range(first=first, last=last, at_start=at_start, length=len(times))


def _write_events(
    house: House,
    scope: Scope,
    place: tuple[Head, _Range],
    archive: zipfile.ZipFile,
    summary: Summary,
) -> _Found:
    """The events and, on either side, the neighbour that shows that none is missing there."""
    (head, chosen), found, sealer = place, _Found(), DetailSealer(house.vault)
    events = enumerate(house.journal.chain(scope.tenant, head.index))
    with archive.open("events.jsonl", "w", force_zip64=True) as file:
        for seq, (index, data) in events:
            if seq == 0:  # it says whose chain this is
                found.first, found.indexes = data, [index]
            if not chosen.first - 1 <= seq <= chosen.last + 1:
                continue
            file.write(data + b"\n")
            if seq > 0:
                found.indexes.append(index)
            event = orjson.loads(data)
            _list_files(scope, event, found)
            if chosen.first <= seq <= chosen.last:
                summary.take(event)
                _give_key(scope, sealer, event, found)
    archive.writestr("keys.jsonl", found.keys.getvalue())
    archive.writestr("first.jsonl", found.first + b"\n")
    return found


def _list_files(scope: Scope, event: dict[str, Any], found: _Found) -> None:
    facts = event["facts"]
    if event["owner"] != scope.tenant:
        return
    if event["kind"] == "PolicyPublished":
        found.policies.add(facts["bundle"])
    elif event["kind"] == "VersionRegistered" and scope.dataset in (None, facts["dataset"]):
        found.versions[facts["manifest_digest"]] = f"{facts['dataset']}@{facts['version']}"


def _give_key(scope: Scope, sealer: DetailSealer, event: dict[str, Any], found: _Found) -> None:
    """The key of the details of the tenant's own acts on its own things.

    What somebody else's people said and are stays with their own tenant.
    """
    concerned = scope.dataset in (None, event["facts"].get("dataset"))
    own = event["owner"] == scope.tenant and event["actor"] in (None, scope.tenant)
    if event["details"] is None or not (own and concerned):
        return
    place = f"{event['node']}/{event['boot']}/{event['index']}"
    try:
        key = sealer.key_of(scope.tenant, month_of(event["time"]), place)
    except NotFound as gone:
        found.unreadable += 1
        if isinstance(gone, Expired):
            found.expired.add(month_of(event["time"]))
        return
    found.opened += 1
    found.keys.write(orjson.dumps({"index": event["index"], "key": key.hex()}) + b"\n")


def _write_proof(house: House, head: Head, found: _Found, archive: zipfile.ZipFile) -> str:
    cosigned = house.witnesses.newest
    note = house.journal.checkpoint()
    if cosigned is not None and cosigned.size > head.index:
        note = cosigned.note
    size = int(note.split("\n")[1])
    proof = house.journal.multiproof([*found.indexes, head.index], size)
    archive.writestr("proof.bin", b"".join(proof))
    archive.writestr("heads.jsonl", house.journal.event_bytes(head.index) + b"\n")
    archive.writestr("checkpoint.txt", note)
    origin = origin_of(house.node)
    archive.writestr("log.vkey", verifier_key(origin, house.signers.log.public_key) + "\n")
    return note


def _write_files(
    house: House, scope: Scope, chosen: _Range, found: _Found, archive: zipfile.ZipFile
) -> list[str]:
    """Rules, Manifests, the program; the digests of Manifests that were erased.

    One that cannot be read although nobody erased it is left out, and the pack says so when it
    is verified.
    """
    if chosen.at_start is not None:
        found.policies.add(chosen.at_start)
    for digest in sorted(found.policies):
        files = publish.stored_files(house, scope.tenant, digest)
        archive.writestr(f"policies/{digest}.json", orjson.dumps(files))
    erased = []
    for digest, name in sorted(found.versions.items()):
        if not _is_there(house, name, digest):
            erased.append(digest)
            continue
        try:
            manifest = storage.load_manifest(house, DatasetRef.parse(name))
        except Unavailable:
            raise
        except GatewayError:
            _log.exception("a manifest cannot be read", extra={"version": name})
            continue
        archive.writestr(f"manifests/{digest}.json", manifest.to_bytes())
    program = package_files("gateway.journal").joinpath("verify_pack.py").read_bytes()
    archive.writestr("verify.py", program)
    archive.writestr("README.txt", README)
    return erased


def _is_there(house: House, name: str, digest: str) -> bool:
    """Whether this version still is in the catalogue, and not another one under its name."""
    try:
        return house.catalog.version(DatasetRef.parse(name)).manifest_digest == digest
    except NotFound:
        return False


def _about(house: House, scope: Scope, head: Head, chosen: _Range) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "node": house.node,
        "tenant": scope.tenant,
        "tag": house.journal.tags.chain(scope.tenant),
        "since": scope.since,
        "until": scope.until,
        "dataset": scope.dataset,
        "before": chosen.before,
        "after": chosen.after,
        "policy_at_start": chosen.at_start,
        "head": {
            "index": head.index,
            "seq": head.seq,
            "leaf": head.leaf,
            "place": head.place,
            "path": [part.hex() for part in head.walk],
        },
    }
