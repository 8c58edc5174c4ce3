"""What must hold after every kill: nothing acknowledged is lost, nothing released is unrecorded."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter, defaultdict
from typing import Any

import duckdb

from gateway.config import Settings
from gateway.crypto.signing import load_or_create, open_document
from gateway.domain.events import Event, EventKind
from gateway.domain.manifest import Manifest
from gateway.errors import Unavailable
from gateway.journal import reader, verification
from tests.journeys.home import Home, wait
from tests.journeys.story import DIRECT, Ledger, Story

LINEAGE_SECONDS_MAX = 30.0


def check_served(story: Story) -> None:
    """Through the door: every acknowledged effect is there, every listed dataset is whole."""
    gateway, ledger = story.gateway, story.ledger
    granted = {grant.id: grant for grant in gateway.grants.list()}
    for grant, dataset in ledger.grants.items():
        assert grant in granted, f"the grant {grant} is lost"
        if dataset in ledger.revoked:
            assert granted[grant].revoked, f"the revocation of {grant} is lost"
            assert story.refuses(grant), f"the revoked {grant} gives a token"
    files = gateway.policies.show("home").files
    assert set(ledger.rules) <= set(files), "a published rule is lost"
    for dataset, tags in ledger.tags.items():
        columns = {c["name"]: c for c in gateway.datasets.show(dataset).columns}
        assert columns["s"]["tags"] == tags, f"tags of {dataset} are lost"
    for version, name in ledger.versions:
        assert gateway.datasets.show(version).rows == story.source(name).num_rows
    check_whole(story)


def check_whole(story: Story) -> None:
    """Every dataset that is listed can be streamed and equals its source."""
    for listed in story.gateway.datasets.list():
        name = listed.dataset.partition("/")[2].partition("@")[0]
        story.publish(name)
        story.read(f"home/{name}", name, DIRECT)


def check_lineage(story: Story) -> None:
    """The projection catches up with the journal and has nothing twice."""
    listed = "SELECT count(*) AS n, count(DISTINCT decision) AS different FROM decision"
    counted: dict[str, Any] = {}

    def caught_up() -> bool:
        recorded = sum(event.kind is EventKind.AccessDecided for event in events(_of(story)))
        try:
            counted.update(story.gateway.lineage.query(listed)[0].to_dict())
        except Unavailable:  # it was killed and is starting
            return False
        return bool(counted["n"] >= recorded)

    wait(caught_up, LINEAGE_SECONDS_MAX, f"lineage does not catch up: {counted}")
    assert counted["n"] == counted["different"], f"lineage has decisions twice: {counted}"


def check_projection(home: Home) -> None:
    """The file itself, offline: every event once, without a gap."""
    copy = home.root / "copy.duckdb"
    shutil.copyfile(home.settings.state_dir / "lineage" / "lineage.duckdb", copy)
    with duckdb.connect(str(copy), read_only=True) as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT idx), coalesce(max(idx) + 1, 0) FROM event"
        ).fetchone()
    assert found is not None
    assert len(set(found)) == 1, f"events, different ones, highest + 1: {found}"
    assert found[0] <= len(events(home.settings))


def _of(story: Story) -> Settings:
    return story.home.settings


def events(settings: Settings) -> list[Event]:
    """The verified events of the journal."""
    return [event for event, _ in reader.tail(_journal(settings), _log_key(settings), 0)]


def _journal(settings: Settings) -> Any:
    return settings.state_dir / "journal"


def _log_key(settings: Settings) -> bytes:
    return load_or_create(settings.config_dir / "keys" / "log.json", "log").public_key


def check_journal(home: Home, ledger: Ledger) -> int:
    """The log verifies against its anchor, and every received byte lies within an intent.

    Returns the number of events.
    """
    settings = home.settings
    anchor = settings.config_dir / "anchor"
    verified = verification.verify(_journal(settings), _log_key(settings), anchor=anchor)
    story = events(settings)
    assert len(story) == verified.size
    intents: dict[str, list[dict[str, Any]]] = defaultdict(list)
    at_index = {}
    for event in story:
        if event.kind is EventKind.SegmentIntent:
            intents[event.facts["lease"]].append(event.facts)
            at_index[event.index] = event.facts
    _check_received(ledger, intents, at_index)
    _check_confirmed(story, intents)
    return verified.size


def _check_received(
    ledger: Ledger, intents: dict[str, list[dict[str, Any]]], at_index: dict[int, dict[str, Any]]
) -> None:
    rows: Counter[str] = Counter()
    whole = set()
    for got in ledger.received:
        covering = [i for i in intents[got.lease] if i["first"] <= got.segment <= i["last"]]
        assert covering, f"segment {got.segment} of {got.lease} was released without a record"
        if got.receipt:
            named = at_index[int(got.receipt.rpartition(":")[2])]
            assert named in covering, f"the receipt {got.receipt} names another intent"
            if (got.lease, got.segment) not in whole:
                rows[got.lease] += got.rows
            whole.add((got.lease, got.segment))
    for lease, count in rows.items():
        recorded = sum(i["rows"] for i in intents[lease])
        assert count <= recorded, f"{lease}: {count} rows received, {recorded} recorded"


def _check_confirmed(story: list[Event], intents: dict[str, list[dict[str, Any]]]) -> None:
    for event in story:
        if event.kind is EventKind.SegmentsConfirmed:
            for number in event.facts["segments"]:
                assert any(
                    i["first"] <= number <= i["last"] for i in intents[event.facts["lease"]]
                ), f"segment {number} was confirmed without an intent"


def check_objects(home: Home) -> None:
    """After `doctor --repair`, what is stored belongs to a version or an open registration."""
    home.run("doctor", "--repair", "--json", expect=doctor_code())
    settings = home.settings
    known, committed = set(), set()
    for event in events(settings):
        if event.kind is EventKind.VersionRegistered:
            committed.add(event.facts["registration"])
            known.add(event.facts["manifest_key"])
            for shard in _manifest(settings, event.facts).shards:
                known |= {shard.object_key, shard.table_key}
    root = settings.state_dir / "objects"
    stored = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert stored == known, f"left: {stored - known}, lost: {known - stored}"
    uploads = {path.name for path in (settings.state_dir / "parts").iterdir()}
    assert not uploads & committed, "parts of a version are left"
    for leftovers in ("staging", "views"):
        assert not list((settings.state_dir / leftovers).iterdir()), f"something in {leftovers}"


def _manifest(settings: Settings, facts: dict[str, Any]) -> Manifest:
    signed = json.loads((settings.state_dir / "objects" / facts["manifest_key"]).read_bytes())
    key = load_or_create(settings.config_dir / "keys" / "manifest.json", "manifest").public_key
    canonical = base64.b64decode(open_document(signed, key, "manifest")["manifest"])
    return Manifest.from_bytes(canonical, digest=facts["manifest_digest"])


def doctor_code() -> int:
    """`doctor` says 1 on a machine without Landlock; the repair is done all the same."""
    from gateway.process import confine

    return 1 if confine.missing() else 0
