from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.catalog.catalog import Catalog
from gateway.catalog.codec import encode
from gateway.catalog.keeper import SnapshotKeeper
from gateway.catalog.restore import restore
from gateway.catalog.snapshot import FILE_NAME, load, save
from gateway.catalog.state import State
from gateway.crypto.signing import Signer
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import IntegrityError
from gateway.journal.journal import Journal
from gateway.journal.memory import Memory
from tests.catalog import happenings as h
from tests.journal.places import LOG, refused_request, setup

KEY = b"s" * 32
HISTORY = (
    *h.WORLD,
    h.version(2, manifest_key="objects/m2"),
    h.updated(contact="icu@example.org"),
    h.on_dataset(EventKind.DatasetSuspended),
    h.rotated(2, 5, v1=2),
    h.denied(),
    h.requested(),
    h.answered(),
    h.decided("1"),
    h.decided("2", run=None),
    h.opened("1"),
    h.intent(0, 3, 400),
    h.confirmed(0, 2, rows=200),
    h.opened("2"),
    h.intent(0, 1, 200, lease="2"),
    h.closed("2", "lease-revoked"),
    h.revoked("2"),
    EventDraft(
        kind=EventKind.TokenRevoked,
        owner_tenant="startup",
        facts={"jti": "j1", "expires_at": 1_900_000_000},
    ),
    EventDraft(
        kind=EventKind.KeyIntroduced,
        owner_tenant="platform",
        facts={"use": "token", "key_id": "token-1", "public_key": "k"},
    ),
)


def lived(base: Path, *drafts: EventDraft) -> tuple[State, Memory]:
    """A history in a journal; its state, and what the journal remembers."""
    catalog = Catalog()
    with Journal.open(setup(base), catalog.apply, 0) as journal:
        for draft in drafts or HISTORY:
            journal.append(draft)
        memory, state = journal.remember(lambda: catalog.state)
    return state, memory


def test_without_a_snapshot_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path / "none", KEY, LOG.public_key) is None


@pytest.mark.parametrize("place", [0, 35, 200, 500, -65, -1])
def test_a_snapshot_with_a_flipped_bit_is_thrown_away(tmp_path: Path, place: int) -> None:
    state, memory = lived(tmp_path)
    save(state, memory, tmp_path / "snapshots", KEY, LOG)
    path = tmp_path / "snapshots" / FILE_NAME
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert load(tmp_path / "snapshots", KEY, LOG.public_key) is None


def test_a_truncated_snapshot_is_thrown_away_at_every_length(tmp_path: Path) -> None:
    state, memory = lived(tmp_path)
    save(state, memory, tmp_path / "snapshots", KEY, LOG)
    path = tmp_path / "snapshots" / FILE_NAME
    data = path.read_bytes()
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        assert load(tmp_path / "snapshots", KEY, LOG.public_key) is None


def test_a_snapshot_under_another_key_or_signer_is_thrown_away(tmp_path: Path) -> None:
    state, memory = lived(tmp_path)
    save(state, memory, tmp_path / "snapshots", KEY, LOG)
    other = Signer(b"o" * 32, "log")
    assert load(tmp_path / "snapshots", b"x" * 32, LOG.public_key) is None
    assert load(tmp_path / "snapshots", KEY, other.public_key) is None
    save(state, memory, tmp_path / "snapshots", KEY, other)
    assert load(tmp_path / "snapshots", KEY, other.public_key) is None


def test_a_catalogue_and_a_journal_of_two_moments_make_no_snapshot(tmp_path: Path) -> None:
    state, memory = lived(tmp_path)
    state.index += 1
    with pytest.raises(IntegrityError):
        save(state, memory, tmp_path / "snapshots", KEY, LOG)
    assert not (tmp_path / "snapshots").exists()


def test_a_snapshot_shows_nothing_of_what_it_holds(tmp_path: Path) -> None:
    state, memory = lived(tmp_path)
    save(state, memory, tmp_path / "snapshots", KEY, LOG)
    data = (tmp_path / "snapshots" / FILE_NAME).read_bytes()
    for word in (b"clinic", b"startup", b"age", b"ICU"):
        assert word not in data


def test_live_replayed_and_loaded_states_are_the_same(tmp_path: Path) -> None:
    live, memory = lived(tmp_path)
    replayed = Catalog()
    journal = Journal.open(setup(tmp_path), lambda e: _until(replayed, e, live.index), 0)
    journal.close()
    assert replayed.state == live
    save(live, memory, tmp_path / "snapshots", KEY, LOG)
    loaded = load(tmp_path / "snapshots", KEY, LOG.public_key)
    assert loaded is not None
    assert loaded.catalog.state == live
    assert loaded.memory == memory


def _until(catalog: Catalog, event: object, stop: int) -> None:
    if catalog.index < stop:
        catalog.apply(event)  # type: ignore[arg-type]


def test_events_of_a_lease_seal_nothing_because_its_grant_names_the_subject(
    tmp_path: Path,
) -> None:
    catalog = Catalog()
    with Journal.open(setup(tmp_path), catalog.apply, 0) as journal:
        for draft in (*h.WORLD, h.decided(), h.opened(), h.intent(0, 0, 9), h.closed()):
            index = journal.append(draft)
        journal.wait_durable(index)
        *_, intent, closed = (e for e in journal.read(0, index + 1) if e.actor_tag)
        assert (intent.kind, closed.kind) == (EventKind.SegmentIntent, EventKind.LeaseClosed)
        assert intent.sealed is intent.actor is closed.sealed is None
        assert intent.actor_tag == journal.tags.actor("startup", "startup/ml")


def test_a_start_replays_only_what_came_after_the_snapshot(tmp_path: Path) -> None:
    live, memory = lived(tmp_path)
    save(live, memory, tmp_path / "snapshots", KEY, LOG)
    catalog, journal = restore(setup(tmp_path), tmp_path / "snapshots", KEY)
    with journal:
        journal.wait_durable(journal.append(h.version(3)))
    again, journal = restore(setup(tmp_path), tmp_path / "snapshots", KEY)
    journal.close()
    assert again.dataset("clinic", "icu") == catalog.dataset("clinic", "icu")
    assert again.dataset("clinic", "icu").newest.ref.version == 3


def test_a_snapshot_of_another_history_is_not_obeyed(tmp_path: Path) -> None:
    lived(tmp_path, h.tenant("platform"), h.tenant("clinic"))
    shutil.copytree(tmp_path, tmp_path / "fork")
    catalog, journal = restore(setup(tmp_path), tmp_path / "none", KEY)
    with journal:
        journal.append(h.tenant("evil"))
        memory, state = journal.remember(lambda: catalog.state)
    save(state, memory, tmp_path / "snapshots", KEY, LOG)
    for more in (0, 40):  # the other history: shorter, then longer than the snapshot
        shutil.copytree(tmp_path / "snapshots", tmp_path / "stolen", dirs_exist_ok=True)
        found, journal = restore(setup(tmp_path / "fork"), tmp_path / "stolen", KEY)
        with journal:
            assert [t.name for t in found.tenants()] == ["clinic", "platform"]
            for number in range(more or 40):
                journal.append(refused_request(number))
        assert not (tmp_path / "stolen" / FILE_NAME).exists()


def test_a_changed_journal_is_refused_with_or_without_a_snapshot(tmp_path: Path) -> None:
    live, memory = lived(tmp_path)
    save(live, memory, tmp_path / "snapshots", KEY, LOG)
    path = next((tmp_path / "journal").glob("*.log"))
    path.write_bytes(path.read_bytes().replace(b"thumb-k1", b"thumb-k2"))
    for snapshots in ("snapshots", "none"):
        with pytest.raises(IntegrityError):
            restore(setup(tmp_path), tmp_path / snapshots, KEY)


class Keeping:
    """A journal and catalogue with a keeper that looks all the time."""

    def __init__(self, base: Path, *, events: int) -> None:
        self.base, self.directory = base, base / "snapshots"
        self.catalog, self.journal = restore(setup(base), self.directory, KEY)
        self.keeper = SnapshotKeeper(
            self.catalog, self.journal, self.save, events=events, seconds=0.01
        )
        self.keeper.start()

    def save(self, state: State, memory: Memory) -> None:
        save(state, memory, self.directory, KEY, LOG)

    def saved(self) -> int:
        found = load(self.directory, KEY, LOG.public_key)
        return found.memory.size if found else 0

    def wait_for(self, size: int) -> None:
        deadline = time.monotonic() + 60
        while self.saved() < size and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.saved() >= size


def test_a_snapshot_is_taken_while_the_gateway_runs(tmp_path: Path) -> None:
    kept = Keeping(tmp_path, events=30)
    for draft in (*HISTORY, *(refused_request(number) for number in range(300))):
        kept.journal.append(draft)
    kept.wait_for(300)
    copy = tmp_path / "killed"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("killed"))  # as after a kill
    kept.keeper.finish()
    kept.journal.close()
    replayed = Catalog()
    Journal.open(setup(copy), replayed.apply, 0).close()
    again, journal = restore(setup(copy), copy / "snapshots", KEY)
    journal.close()
    assert replace(again.state, index=0, newest_us=0) == replace(
        replayed.state, index=0, newest_us=0
    )


def test_a_keeper_ends_with_its_journal_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Keeping(tmp_path, events=1)
    kept.journal.close()
    kept.keeper.join(10)
    assert not kept.keeper.is_alive()
    caplog.clear()  # it may have looked while the journal was closing
    time.sleep(0.05)
    assert not caplog.records


def test_an_erasure_leaves_no_older_snapshot(tmp_path: Path) -> None:
    kept = Keeping(tmp_path, events=10**9)
    for draft in (*h.WORLD, h.erased()):
        kept.journal.append(draft)
    kept.wait_for(kept.journal.size - 1)
    found = load(kept.directory, KEY, LOG.public_key)
    assert found is not None
    assert found.catalog.state.erasures
    kept.keeper.finish()
    kept.journal.close()


def test_a_copied_state_is_not_changed_by_later_events(tmp_path: Path) -> None:
    catalog = Catalog()
    with Journal.open(setup(tmp_path), catalog.apply, 0) as journal:
        for number, draft in enumerate(HISTORY):
            copy, before = catalog.state.copy(), encode(State, catalog.state)
            journal.wait_durable(journal.append(draft))  # the TenantHeads behind it is in, too
            assert encode(State, copy) == before, number


def test_a_disk_that_takes_no_snapshot_stops_nothing(tmp_path: Path) -> None:
    kept = Keeping(tmp_path, events=1)
    kept.directory.write_text("a file is in the way")
    for number in range(50):
        kept.journal.wait_durable(kept.journal.append(refused_request(number)))
    kept.keeper.finish()
    kept.journal.close()
    assert not kept.keeper.is_alive()
