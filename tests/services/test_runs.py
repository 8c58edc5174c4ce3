"""A run ends once, nothing is delivered to it afterwards, and what it was delivered is signed."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json

import pytest

import gateway.wire as W
from gateway.crypto import attestation, strict_json
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant, OrderSpec
from gateway.domain.run_names import run_uuid
from gateway.errors import (
    Conflict,
    GatewayError,
    IntegrityError,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from gateway.services import request_access, runs, stream
from gateway.services.house import House
from gateway.services.sweep import ATTESTATIONS, Stock, find
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.services.simulator import caller
from tests.services.test_access import ASK, OWNER, STRANGER, TRAINER, kinds, run, shared
from tests.services.test_derivation import erase as erased
from tests.services.test_down_scope import grant_of
from tests.services.test_limits import begun, intended

__all__ = ["shared"]

ASK_17 = dataclasses.replace(ASK, run="seventeen")
FILE = hashlib.sha256(b"weights").hexdigest()
BOUND = W.RunFinish(model="sepsis-v2", artifact_sha256=FILE)


def delivered(house: House, rows: int = 20, **order: int) -> Grant:
    """The run reads a segment: intended, confirmed, acknowledged, handed back."""
    grant = grant_of(house, ASK_17)
    lease = begun(house, grant, OrderSpec(seed=7, shuffle=True, **order))
    intended(house, grant, lease, rows)
    for kind, facts in (
        (EventKind.SegmentsConfirmed, {"segments": [0], "rows": rows, "bytes": 8}),
        (EventKind.SegmentsAcknowledged, {"upto": 0, "rows": rows - 5}),
        (EventKind.LeaseClosed, {"reason_code": "returned"}),
    ):
        house.record(EventDraft(kind=kind, owner_tenant="clinic", facts={"lease": lease, **facts}))
    return grant


def statement_of(house: House, signed: W.Attestation) -> dict[str, object]:
    data = strict_json.encode(signed.envelope)
    assert attestation.digest_of(data) == signed.digest
    return attestation.verify(data, house.signers.attestation.public_key)


def test_only_who_started_a_run_finishes_it(shared: House) -> None:
    delivered(shared)
    for other in (OWNER, STRANGER, caller("startup", "other", "trainer")):
        with pytest.raises(NotFound):
            run(runs.finish(shared, other, "startup:seventeen", BOUND))
    with pytest.raises(NotFound):
        run(runs.finish(shared, TRAINER, "eighteen", BOUND))
    assert EventKind.RunFinished not in kinds(shared, 0)


def test_a_run_is_found_by_its_uuid_by_whom_it_concerns(shared: House) -> None:
    delivered(shared)
    found = run(runs.show(shared, TRAINER, "seventeen"))
    assert run(runs.show(shared, TRAINER, found.uuid)) == found
    assert run(runs.show(shared, OWNER, found.uuid)).uuid == found.uuid
    for who, name in ((STRANGER, found.uuid), (TRAINER, run_uuid("startup:eighteen"))):
        with pytest.raises(NotFound):
            run(runs.show(shared, who, name))


def test_a_run_that_ends_without_its_model_is_listed_as_unbound(shared: House) -> None:
    def state() -> set[str]:
        seen = [run(runs.list_(shared, who)) for who in (TRAINER, OWNER)]
        return {view.state for views in seen for view in views}

    lease = begun(shared, grant_of(shared, ASK_17), OrderSpec(seed=7))
    assert state() == {"streaming"}
    ended = {"lease": lease, "reason_code": "returned"}
    shared.record(EventDraft(kind=EventKind.LeaseClosed, owner_tenant="clinic", facts=ended))
    assert state() == {"unbound"}
    run(runs.finish(shared, TRAINER, "seventeen", W.RunFinish(model="sepsis-v2")))
    assert state() == {"unbound"}
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    assert state() == {"bound"}


def test_a_run_is_found_by_each_name_that_starts_one(shared: House) -> None:
    delivered(shared)
    names = ("seventeen", "run:seventeen", "startup:seventeen", "run:startup:seventeen")
    assert {run(runs.show(shared, TRAINER, name)).run for name in names} == {"startup:seventeen"}
    assert run(runs.finish(shared, TRAINER, "run:seventeen", W.RunFinish())).finished_at


def test_a_file_without_a_models_name_is_refused(shared: House) -> None:
    delivered(shared)
    with pytest.raises(InvalidInput):
        run(runs.finish(shared, TRAINER, "seventeen", W.RunFinish(artifact_sha256=FILE)))


def test_nothing_is_delivered_to_a_finished_run(shared: House) -> None:
    grant = delivered(shared)
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    with pytest.raises(Conflict, match="finished"):
        run(request_access.request_grant(shared, TRAINER, ASK_17))
    holder = dataclasses.replace(TRAINER, grant=grant.id)
    with pytest.raises(Conflict, match="finished"):
        run(stream.open_lease(shared, holder, LeaseRequest(order=OrderRequest(seed=7))))
    run(request_access.request_grant(shared, TRAINER, dataclasses.replace(ASK, run="eighteen")))


def test_a_bound_run_is_not_bound_again(shared: House) -> None:
    delivered(shared)
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    for again in (BOUND, W.RunFinish(model="other", artifact_sha256="0" * 64), W.RunFinish()):
        with pytest.raises(Conflict):
            run(runs.finish(shared, TRAINER, "seventeen", again))
    assert kinds(shared, 0).count(EventKind.RunAttested) == 1


def test_a_run_that_is_not_bound_has_no_attestation_until_it_is(shared: House) -> None:
    delivered(shared)
    with pytest.raises(NotFound, match="not finished"):
        run(runs.attestation(shared, TRAINER, "seventeen"))
    view = run(runs.finish(shared, TRAINER, "seventeen", W.RunFinish(model="sepsis-v2")))
    assert (view.model, view.attestation) == ("sepsis-v2", None)
    with pytest.raises(NotFound, match="bound to no model"):
        run(runs.attestation(shared, TRAINER, "seventeen"))
    with pytest.raises(Conflict):
        run(runs.finish(shared, TRAINER, "seventeen", W.RunFinish()))
    bound = run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    assert bound.model == f"model:sepsis-v2@sha256:{FILE}"
    assert run(runs.attestation(shared, TRAINER, "seventeen")).digest == bound.attestation


def test_the_attestation_is_for_the_runs_own_tenant(shared: House) -> None:
    delivered(shared)
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    for other in (OWNER, STRANGER):
        with pytest.raises(NotFound):
            run(runs.attestation(shared, other, "startup:seventeen"))
    (seen,) = run(runs.list_(shared, OWNER))
    assert (seen.model, seen.attestation) == (None, None)
    assert seen.finished_at is not None
    colleague = caller("startup", "other", "trainer")
    assert run(runs.attestation(shared, colleague, "seventeen")).run == "startup:seventeen"


def test_the_attestation_says_what_was_delivered_under_which_rules(shared: House) -> None:
    grant = delivered(shared)
    delivered(shared, epoch=1)
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    signed = run(runs.attestation(shared, TRAINER, "seventeen"))
    statement = statement_of(shared, signed)
    assert statement["subject"] == [{"name": "sepsis-v2", "digest": {"sha256": FILE}}]
    said = statement["predicate"]
    assert isinstance(said, dict)
    assert (said["states"], said["run"], said["subject"]) == (
        "delivered",
        "startup:seventeen",
        "startup/ml",
    )
    assert (said["rows_delivered"], said["rows_acknowledged"]) == (40, 30)
    (entry,) = said["delivered"]
    assert (entry["grant"], entry["dataset"], entry["purpose"]) == (
        grant.id,
        "clinic/icu@1",
        "health-research",
    )
    assert entry["rules"] == ["clinic.icu.research"]
    assert [(c["name"], c["mask"]) for c in entry["columns"]] == [
        ("age", "x-bucket:10"),
        ("hr", None),
    ]
    assert [(o["epoch"], o["segments"], o["rows_acknowledged"]) for o in entry["orders"]] == [
        (0, [[0, 0]], 15),
        (1, [[0, 0]], 15),
    ]
    size = int(said["log_checkpoint"].splitlines()[1])
    assert size > said["finished_index"]
    event = next(iter(shared.journal.read(said["finished_index"], said["finished_index"] + 1)))
    assert event.kind == EventKind.RunFinished


def test_the_rules_are_named_also_when_the_catalogue_forgot_the_decision(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(shared)
    monkeypatch.setattr("gateway.catalog.streams.DECISIONS_KEPT", 1)
    for _ in range(3):
        run(request_access.check(shared, TRAINER, ASK))
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    signed = run(runs.attestation(shared, TRAINER, "seventeen"))
    predicate = statement_of(shared, signed)["predicate"]
    assert predicate["delivered"][0]["rules"] == ["clinic.icu.research"]  # type: ignore[index]


def test_what_was_erased_since_is_said_to_be(shared: House) -> None:
    grant = delivered(shared)
    run(runs.finish(shared, TRAINER, "seventeen", W.RunFinish()))
    erased(shared, "clinic/icu")
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    signed = run(runs.attestation(shared, TRAINER, "seventeen"))
    (entry,) = statement_of(shared, signed)["predicate"]["delivered"]  # type: ignore[index]
    assert (entry["grant"], entry["erased"]) == (grant.id, True)
    assert set(entry) == {"grant", "erased", "orders"}
    assert entry["orders"][0]["segments"] == [[0, 0]]


def test_a_changed_attestation_does_not_verify(shared: House) -> None:
    delivered(shared)
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    signed = run(runs.attestation(shared, TRAINER, "seventeen"))
    key = shared.signers.attestation.public_key
    statement = statement_of(shared, signed)
    statement["predicate"]["rows_delivered"] = 1  # type: ignore[index]
    payload = base64.b64encode(strict_json.encode(statement)).decode()
    for changed in (
        {**signed.envelope, "payload": payload},
        {**signed.envelope, "payloadType": "text/plain"},
        {**signed.envelope, "signatures": []},
    ):
        with pytest.raises(IntegrityError):
            attestation.verify(strict_json.encode(changed), key)
    with pytest.raises(IntegrityError):
        attestation.verify(strict_json.encode(signed.envelope), shared.signers.erasure.public_key)


def test_a_stored_attestation_that_was_changed_is_not_given_out(shared: House) -> None:
    delivered(shared)
    run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    key = shared.catalog.run("startup:seventeen").attestation_key
    data = json.loads(shared.store.read(key))
    data["signatures"][0]["keyid"] = "other"
    shared.store.delete(key)
    shared.store.put_bytes_new(key, strict_json.encode(data))
    with pytest.raises(GatewayError, match="not the one"):
        run(runs.attestation(shared, TRAINER, "seventeen"))


def test_killed_before_the_attestation_the_next_who_asks_has_it_made(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(shared)

    def dies(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(type(shared.store), "put_bytes_new", dies)
        with pytest.raises(OSError, match="killed"):
            run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    made = run(runs.attestation(shared, TRAINER, "seventeen"))
    assert run(runs.attestation(shared, TRAINER, "seventeen")) == made
    assert kinds(shared, 0).count(EventKind.RunAttested) == 1


def test_killed_between_store_and_record_what_was_stored_stands(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(shared)
    stored = []

    async def dies(_: object, draft: EventDraft) -> None:
        if draft.kind == EventKind.RunAttested:
            raise OSError("killed")
        shared.record(draft)
        await shared.settled()

    with monkeypatch.context() as patched:
        patched.setattr(House, "recorded", dies)
        with pytest.raises(OSError, match="killed"):
            run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    stored = [key for key in shared.store.list() if key.startswith(ATTESTATIONS)]
    run(request_access.check(shared, TRAINER, ASK))  # the log grows meanwhile
    made = run(runs.attestation(shared, TRAINER, "seventeen"))
    assert attestation.digest_of(shared.store.read(stored[0])) == made.digest


def test_an_attestation_is_nobodys_leftover(house: House) -> None:
    house.store.put_bytes_new(f"{ATTESTATIONS}a.json", b"{}")
    house.store.put_bytes_new("stray/b.json", b"{}")
    assert find(Stock.of(house)).objects == ("stray/b.json",)


def test_a_decision_too_far_back_is_not_signed_to_be_erased(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(shared)
    monkeypatch.setattr("gateway.catalog.streams.DECISIONS_KEPT", 1)
    for _ in range(3):
        run(request_access.check(shared, TRAINER, ASK))
    run(runs.finish(shared, TRAINER, "seventeen", W.RunFinish()))
    with monkeypatch.context() as hurried:
        hurried.setattr("gateway.services.recorded.SECONDS_MAX", -1.0)
        hurried.setattr("gateway.services.recorded._EVENTS_AT_ONCE", 1)
        with pytest.raises(LimitExceeded):
            run(runs.finish(shared, TRAINER, "seventeen", BOUND))
    signed = run(runs.attestation(shared, TRAINER, "seventeen"))
    (entry,) = statement_of(shared, signed)["predicate"]["delivered"]  # type: ignore[index]
    assert entry["erased"] is False
