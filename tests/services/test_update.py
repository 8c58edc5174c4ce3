"""Card, owners, contact and suspension: who may change them, what is recorded, what follows."""

from __future__ import annotations

import json

import pytest

import gateway.wire as W
from gateway.domain.card import CARD_BYTES_MAX
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventKind
from gateway.errors import (
    AccessDenied,
    DatasetSuspended,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    TooLarge,
)
from gateway.services import describe, request_access, shapes, stream, update
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.wire import DatasetChanges
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.services.test_access import ASK, OWNER, STRANGER, TRAINER, kinds, run, shared

__all__ = ["shared"]
ICU = DatasetRef("clinic", "icu")
SUSPEND = DatasetChanges(suspended=True, reason="an audit of Mrs. Smith's file")


def change(house: House, wanted: DatasetChanges, *, if_match: str | None = None) -> None:
    run(update.update(house, OWNER, ICU, wanted, if_match))


def etag(house: House) -> str:
    return W.etag_of(shapes.dataset_detail(*run(describe.dataset(house, OWNER, ICU))))


@pytest.mark.parametrize(("who", "error"), [(STRANGER, NotFound), (TRAINER, AccessDenied)])
def test_nobody_but_the_owner_changes_or_suspends_a_dataset(
    shared: House, who: request_access.Caller, error: type[Exception]
) -> None:
    for wanted in (SUSPEND, DatasetChanges(card={"title": "mine"})):
        with pytest.raises(error):
            run(update.update(shared, who, ICU, wanted, None))
    dataset = shared.catalog.dataset("clinic", "icu")
    assert (dataset.suspended, dataset.card) == (False, {})


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (DatasetChanges(), InvalidInput),
        (DatasetChanges(reason="only why"), InvalidInput),
        (DatasetChanges(card={"title": 7}), InvalidInput),
        (DatasetChanges(card={"known_biases": [1]}), InvalidInput),
        (DatasetChanges(card={"a\nb": "x"}), InvalidInput),
        (DatasetChanges(card={"x": [[[[["deep"]]]]]}), InvalidInput),
        (DatasetChanges(card={"x": float("nan")}), InvalidInput),
        (DatasetChanges(card={"x": "\ud800"}), InvalidInput),
        (DatasetChanges(card={"x": "a" * CARD_BYTES_MAX}), TooLarge),
        (DatasetChanges(owners=("startup/ml",)), InvalidInput),
        (DatasetChanges(owners=("clinic/nobody",)), InvalidInput),
        (DatasetChanges(owners=("startup/role:trainer",)), InvalidInput),
        (DatasetChanges(contact="two\nlines"), InvalidInput),
        (DatasetChanges(card={"title": "ICU"}, suspended=True, reason="a\0b"), InvalidInput),
    ],
)
def test_what_is_no_change_is_refused_whole(
    shared: House, wanted: DatasetChanges, error: type[Exception]
) -> None:
    start = shared.journal.durable_size
    with pytest.raises(error):
        change(shared, wanted)
    assert kinds(shared, start) == []


def test_a_card_is_sealed_searched_and_replaced_as_a_whole(shared: House) -> None:
    start = shared.journal.durable_size
    change(shared, DatasetChanges(card={"title": "Sepsis at night", "beds": 12.5}))
    (event,) = [e for e in shared.journal.read(start) if e.kind == EventKind.DatasetUpdated]
    assert "Sepsis" not in json.dumps(event.envelope())
    assert event.facts["changed"] == ["card"]
    found = run(describe.datasets(shared, TRAINER, text="sepsis AT"))
    assert [one.dataset.name for one in found] == ["icu"]
    assert run(describe.datasets(shared, STRANGER, text="sepsis")) == []
    change(shared, DatasetChanges(card={"licence": "CC0-1.0", "title": "", "source": None}))
    assert shared.catalog.dataset("clinic", "icu").card == {"licence": "CC0-1.0"}
    assert run(describe.datasets(shared, TRAINER, text="sepsis")) == []


def test_what_is_not_given_stays_and_the_same_again_records_nothing(shared: House) -> None:
    owners = ("clinic/role:owner", "clinic/owner")
    change(shared, DatasetChanges(owners=owners, contact="icu@clinic.example"))
    change(shared, DatasetChanges(card={"title": "ICU"}))
    dataset = shared.catalog.dataset("clinic", "icu")
    assert dataset.owners == tuple(sorted(owners))
    assert (dataset.contact, dataset.card) == ("icu@clinic.example", {"title": "ICU"})
    start = shared.journal.durable_size
    change(shared, DatasetChanges(card={"title": "ICU"}, owners=owners, suspended=False))
    assert kinds(shared, start) == []


def test_a_card_changes_no_plan_and_a_suspension_does(shared: House) -> None:
    epoch = shared.catalog.policy_epoch
    change(shared, DatasetChanges(card={"title": "ICU"}))
    assert shared.catalog.policy_epoch == epoch
    change(shared, SUSPEND)
    assert shared.catalog.policy_epoch == epoch + 1


def test_who_read_an_older_state_does_not_overwrite_a_newer_one(shared: House) -> None:
    before = etag(shared)
    change(shared, DatasetChanges(contact="a"), if_match=before)
    with pytest.raises(PreconditionFailed):
        change(shared, DatasetChanges(contact="b"), if_match=before)
    change(shared, DatasetChanges(contact="b"), if_match=etag(shared))
    assert shared.catalog.dataset("clinic", "icu").contact == "b"


def test_tags_meant_for_columns_as_they_were_read_do_not_reach_others(shared: House) -> None:
    before = etag(shared)
    change(shared, DatasetChanges(contact="a"))
    with pytest.raises(PreconditionFailed):
        run(describe.classify(shared, OWNER, ICU, {"age": ["public"]}, before))
    assert shared.catalog.dataset("clinic", "icu").tags == {}
    run(describe.classify(shared, OWNER, ICU, {"age": ["public"]}, etag(shared)))


def test_a_suspended_dataset_denies_grants_tokens_and_leases_and_says_so(shared: House) -> None:
    _, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    change(shared, SUSPEND)
    decision = run(request_access.check(shared, TRAINER, ASK))
    assert [r.code for r in decision.reasons] == ["dataset-suspended"]
    with pytest.raises(AccessDenied, match="suspended by its owner"):
        run(request_access.request_grant(shared, TRAINER, ASK))
    start = shared.journal.durable_size
    with pytest.raises(DatasetSuspended, match="`clinic/icu`, or one that it"):
        run(stream.require_released(shared, grant))
    holder = request_access.Caller(subject=TRAINER.subject, jti="j", grant=grant.id)
    wanted = LeaseRequest(order=OrderRequest(seed=1, epoch=0))
    with pytest.raises(DatasetSuspended):
        run(stream.open_lease(shared, holder, wanted))
    assert kinds(shared, start) == [EventKind.AccessDecided] * 2
    with pytest.raises(NotFound):
        run(request_access.check(shared, STRANGER, ASK))


def test_its_owner_still_sees_changes_and_resumes_it(shared: House) -> None:
    _, grant = run(request_access.request_grant(shared, TRAINER, ASK))
    change(shared, SUSPEND)
    dataset = run(describe.dataset(shared, OWNER, ICU)).dataset
    assert dataset.suspended
    change(shared, DatasetChanges(contact="icu@clinic.example"))
    change(shared, DatasetChanges(suspended=False))
    assert run(request_access.check(shared, TRAINER, ASK)).is_allowed
    run(stream.require_released(shared, grant))


def test_a_suspension_ends_only_by_being_resumed(shared: House) -> None:
    change(shared, SUSPEND)
    change(shared, SUSPEND)
    change(shared, DatasetChanges(card={"title": "ICU"}))
    run(describe.classify(shared, OWNER, ICU, {"age": ["pii"]}))
    with pytest.raises(AccessDenied):
        run(
            request_access.request_grant(
                shared, TRAINER, Ask(dataset="clinic/icu@1", purpose="research")
            )
        )
    assert shared.catalog.dataset("clinic", "icu").suspended
