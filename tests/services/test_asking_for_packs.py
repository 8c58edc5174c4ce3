"""Who gets an EvidencePack, what it does not tell him, and for how long it waits."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from gateway.errors import InvalidInput, NotFound
from gateway.services import evidence
from gateway.services.house import House
from tests.services.simulator import caller
from tests.services.test_access import STRANGER, TRAINER, run
from tests.services.test_evidence import AUDITOR, pack, packed, shared

__all__ = ["pack", "shared"]


def test_asking_for_a_pack_is_an_event_of_the_pack(pack: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        kinds = [json.loads(e)["kind"] for e in archive.read("events.jsonl").splitlines()]
        page = archive.read("summary.html").decode()
    assert kinds[-1] == "QuestionAsked"
    assert "clinic.icu.research" in page
    assert "<script" not in page


def test_only_an_auditor_of_the_tenant_gets_its_pack(shared: House) -> None:
    for who in (STRANGER, TRAINER):
        with pytest.raises(NotFound):
            packed(shared, who, tenant="clinic")
    with pytest.raises(InvalidInput):
        packed(shared, since="1d", until="2d")


def test_a_pack_is_for_who_asked_for_it_and_not_for_ever(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(shared)
    (name,) = shared.packs
    with pytest.raises(NotFound):
        run(evidence.part(shared, caller("clinic", "other", "auditor"), name, 0))
    assert run(evidence.part(shared, AUDITOR, name, 0))
    with pytest.raises(InvalidInput):
        run(evidence.part(shared, AUDITOR, name, 1 << 40))
    later = shared.now() + evidence.KEPT_SECONDS + 1
    monkeypatch.setattr(shared, "now", lambda: later)
    with pytest.raises(NotFound):
        run(evidence.part(shared, AUDITOR, name, 0))


def test_packs_that_wait_have_a_bound_together(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(packed(shared))
    monkeypatch.setattr(evidence, "PACK_BYTES_MAX", int(size * 2.5))
    for _ in range(4):
        packed(shared)
    assert 1 <= len(shared.packs) <= 2


def test_what_others_people_said_of_themselves_stays_sealed(pack: bytes, shared: House) -> None:
    """A key in the pack opens what the clinic's own people did; never a recipient's attributes."""
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        events = {e["index"]: e for e in map(json.loads, archive.read("events.jsonl").splitlines())}
        given = [json.loads(line)["index"] for line in archive.read("keys.jsonl").splitlines()]
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert given
    assert {events[index]["actor"] for index in given} <= {"clinic", None}
    assert any(e["actor"] == "startup" and e["details"] for e in events.values())
    assert shared.signers.log._private.private_bytes_raw() not in text
    assert b"rival" not in text  # a tenant that nothing of this concerns
