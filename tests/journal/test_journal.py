from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.events import Event, EventDraft, EventKind, canonical, parse
from gateway.domain.ids import new_id
from gateway.domain.merkle import leaf_hash, verify_consistency, verify_inclusion
from gateway.errors import (
    ConfigError,
    Conflict,
    IntegrityError,
    InvalidInput,
    Unavailable,
)
from gateway.journal.checkpoint import open_checkpoint, origin_of
from tests.journal.places import LOG, NODE, fill, opened, refused_request, setup


def test_two_processes_on_one_directory_are_refused_clearly(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Unavailable, match="another process writes"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_a_journal_whose_anchor_lies_beside_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        setup(tmp_path, anchor_directory=tmp_path / "journal" / ".")


def test_a_directory_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file is in the way")
    with pytest.raises(Unavailable, match="cannot be opened"):
        opened(tmp_path)
    (tmp_path / "journal").unlink()
    (tmp_path / "anchor").write_text("a file is in the way")
    with pytest.raises(Unavailable, match="cannot be opened"):
        opened(tmp_path)
    (tmp_path / "anchor").unlink()
    opened(tmp_path).close()


def test_an_opening_that_cannot_record_its_boot_gives_the_directory_free(tmp_path: Path) -> None:
    def refuse(event: Event) -> None:
        raise Conflict("nothing goes")

    with pytest.raises(Conflict):
        opened(tmp_path, refuse)
    opened(tmp_path).close()


def test_what_the_catalogue_refuses_is_never_recorded(tmp_path: Path) -> None:
    def picky(event: Event) -> None:
        if event.facts.get("route") == "/v1/grants/13":
            raise Conflict("not that one")

    with opened(tmp_path, picky) as journal:
        size = journal.size
        with pytest.raises(Conflict):
            journal.append(refused_request(13))
        assert journal.size == size
        index = journal.append(refused_request(14))
        journal.wait_durable(index)
        assert [e.facts["route"] for e in journal.read(index, index + 1)] == ["/v1/grants/14"]


def test_only_the_kinds_that_are_asked_for_are_read(tmp_path: Path) -> None:
    """A text that looks like a kind makes none."""
    with opened(tmp_path) as journal:
        journal.append(refused_request(1))
        index = journal.append(refused_request('"kind":"Boot"'))
        journal.wait_durable(index)
        found = [e.kind for e in journal.read(0, kinds=frozenset({EventKind.Boot}))]
        assert found == [EventKind.Boot]
        refused = journal.read(0, kinds=frozenset({EventKind.RequestRefused}))
        assert [e.index for e in refused] == [index - 1, index]


def test_a_catalogue_that_breaks_ends_the_journal(tmp_path: Path) -> None:
    seen: list[BaseException] = []

    def broken(event: Event) -> None:
        if event.kind is EventKind.RequestRefused:
            raise KeyError("bug")

    with opened(tmp_path, broken, on_failure=seen.append) as journal:
        with pytest.raises(Unavailable):
            journal.append(refused_request())
        with pytest.raises(Unavailable):
            journal.append(refused_request())
        with pytest.raises(Unavailable):
            journal.checkpoint()
    assert [type(error) for error in seen] == [KeyError]


def test_wrong_facts_leave_no_trace(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        size = journal.size
        with pytest.raises(InvalidInput):
            journal.append(refused_request(facts={"route": "free text", "error": "x"}))
        with pytest.raises(InvalidInput):
            journal.append(refused_request(details={"when": object()}))
        assert journal.size == size


def test_a_closed_journal_takes_nothing_more_and_still_answers(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(refused_request())
    journal.close()
    journal.close()
    with pytest.raises(Unavailable, match="closed"):
        journal.append(refused_request())
    note = open_checkpoint(journal.checkpoint(), LOG.public_key, origin_of(NODE))
    assert note.size == journal.durable_size == journal.size


def test_nobody_waits_for_an_event_that_was_never_appended(tmp_path: Path) -> None:
    with opened(tmp_path) as journal, pytest.raises(InvalidInput):
        journal.wait_durable(journal.size + 1)


def test_events_that_are_not_durable_are_not_read(tmp_path: Path) -> None:
    with opened(tmp_path) as journal, pytest.raises(InvalidInput):
        list(journal.read(0, journal.durable_size + 1))


def test_an_event_changed_on_disk_while_open_is_not_read(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 3)
        path = next((tmp_path / "journal").glob("*.log"))
        path.write_bytes(path.read_bytes().replace(b"grants/1", b"grants/9"))
        with pytest.raises(IntegrityError):
            list(journal.read(0))


def test_what_was_recorded_is_read_back_in_order_with_its_details(tmp_path: Path) -> None:
    seen: list[Event] = []
    with opened(tmp_path, seen.append) as journal:
        for number in range(20):
            journal.append(
                refused_request(
                    number,
                    actor_tenant="startup",
                    actor="startup/ml",
                    details={"note": "für später", "n": (1, 2)},
                )
            )
        journal.wait_durable(journal.size - 1)
        assert list(journal.read(0)) == seen[: journal.durable_size]
        person = next(e for e in seen if e.actor is not None)
        assert person.actor == "startup/ml"
        assert person.details == {"note": "für später", "n": [1, 2]}
    again: list[Event] = []
    opened(tmp_path, again.append).close()
    assert again[: len(seen)] == seen


def test_people_and_free_text_stand_only_sealed_in_the_files(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        draft = refused_request(
            actor_tenant="startup", actor="startup/alice", details={"reason": "contract ended"}
        )
        journal.wait_durable(journal.append(draft))
    data = b"".join(p.read_bytes() for p in (tmp_path / "journal").iterdir())
    assert b"alice" not in data
    assert b"contract" not in data


def test_details_moved_to_another_event_do_not_open(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.append(refused_request(details={"secret": 1}))
        journal.append(refused_request(details={"secret": 2}))
        journal.wait_durable(journal.size - 1)
        one, two = (e for e in journal.read(0) if e.sealed)
        moved = canonical({**two.envelope(), "details": one.sealed})
        with pytest.raises(IntegrityError):
            journal._composer.read(moved, two.index)


def test_the_same_person_has_one_tag_per_tenant_and_no_other(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        tag = journal.tags.actor("startup", "startup/ml")
        assert tag == journal.tags.actor("startup", "startup/ml")
        assert tag != journal.tags.actor("clinic", "startup/ml")
        assert tag != journal.tags.actor("startup", "startup/mk")


def test_only_the_events_after_a_snapshot_are_replayed(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 10)
        size = journal.size
    seen: list[Event] = []
    with opened(tmp_path, seen.append, start=7):
        assert [e.index for e in seen[: size - 6]] == list(range(7, size + 1))
    with pytest.raises(IntegrityError, match="has seen"):
        opened(tmp_path, start=10_000)


def test_each_opening_leaves_a_boot_event_with_its_own_id(tmp_path: Path) -> None:
    for _ in range(3):
        opened(tmp_path).close()
    with opened(tmp_path) as journal:
        boots = [e.boot for e in journal.read(0) if e.kind is EventKind.Boot]
    assert len(set(boots)) == len(boots) == 4


def test_proofs_of_the_journal_verify_against_its_checkpoint(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 30, commits=4)
        note = open_checkpoint(journal.checkpoint(), LOG.public_key, origin_of(NODE))
        for index in range(note.size):
            proof = journal.inclusion(index, note.size)
            verify_inclusion(journal.leaf(index), index, note.size, proof, note.root)
        for first in range(1, note.size + 1):
            proof = journal.consistency(first, note.size)
            verify_consistency(first, note.size, proof, (journal.root(first), note.root))
        with pytest.raises(InvalidInput):
            journal.inclusion(0, journal.durable_size + 1)


def test_a_tenants_chain_has_no_gap_and_ends_in_the_signed_heads(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(12):
            tenant = "clinic" if number % 3 else "bank"
            journal.append(refused_request(number, tenant=tenant, concerns=("auditors",)))
        journal.wait_durable(journal.size - 1)
        tag = journal.tags.chain("clinic")
        mine = [e for e in journal.read(0) if tag in e.chains]
        assert [e.chains[tag]["seq"] for e in mine] == list(range(8))
        previous = ["0" * 64, *(journal.leaf(e.index).hex() for e in mine)]
        assert [e.chains[tag]["prev"] for e in mine] == previous[:-1]
        *_, last = journal.read(0)
        assert last.kind is EventKind.TenantHeads
        assert last.facts["tenants"] == 4
        assert last.facts["root"] == journal._chains.root().hex()


def test_waiters_in_asyncio_and_in_threads_are_released_by_the_same_commit(tmp_path: Path) -> None:
    sizes: list[int] = []

    async def many() -> None:
        async def one(number: int) -> None:
            index = journal.append(refused_request(number))
            await journal.durable(index)
            assert journal.durable_size > index

        await asyncio.gather(*(one(n) for n in range(200)))

    with opened(tmp_path) as journal:
        journal.on_durable(sizes.append)
        threads = [threading.Thread(target=fill, args=(journal, 50)) for _ in range(3)]
        for thread in threads:
            thread.start()
        asyncio.run(many())
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 5
        while sizes[-1] != journal.size and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == journal.size == journal.durable_size
        routes = [e for e in journal.read(0) if e.kind is EventKind.RequestRefused]
        assert len(routes) == 350


def test_files_are_rotated_after_a_whole_commit_and_read_across(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 120, commits=60)
        assert len(list((tmp_path / "journal").glob("*.log"))) > 5
        assert [e.index for e in journal.read(0)] == list(range(journal.durable_size))
        begin = journal.durable_size // 2
        assert [e.index for e in journal.read(begin, begin + 3)] == [begin, begin + 1, begin + 2]
    with opened(tmp_path, segment_bytes=4096) as journal:
        assert [e.index for e in journal.read(0)] == list(range(journal.durable_size))


def test_a_leaf_is_the_canonical_bytes_that_the_domain_gives(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 3)
        for event in journal.read(0):
            data = canonical(event.envelope())
            assert leaf_hash(data) == journal.leaf(event.index)
            assert parse(data).facts == event.facts


@pytest.mark.parametrize(
    "wrong",
    [
        {"facts": {"lease": "l1", "grant": "g", "first": 0, "last": 0, "rows": 1, "bytes": 1}},
        {"facts": {}},
        {"owner_tenant": "Clinic!"},
        {"actor_tenant": "a b"},
    ],
)
def test_what_comes_by_the_million_is_checked_as_well(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    good: dict[str, Any] = {
        "kind": EventKind.SegmentIntent,
        "owner_tenant": "clinic",
        "actor_tenant": "startup",
        "facts": {
            "lease": new_id("lease_", bytes(16)),
            "grant": new_id("grant_", bytes(16)),
            "first": 0,
            "last": 3,
            "rows": 1,
            "bytes": 1,
        },
    }
    with opened(tmp_path) as journal:
        size = journal.size
        with pytest.raises(InvalidInput):
            journal.append(EventDraft(**{**good, **wrong}))
        with pytest.raises(InvalidInput):
            journal.append(EventDraft(**{**good, "actor_tenant": None, "actor": "x/y"}))
        assert journal.size == size
        journal.wait_durable(journal.append(EventDraft(**good)))
