"""Grants in the catalogue, and what intents, confirmations and crashes charge to them."""

from __future__ import annotations

import pytest

from gateway.catalog.catalog import Catalog
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import Event, EventDraft, EventKind
from gateway.errors import Conflict, NotFound
from tests.catalog import happenings as h
from tests.catalog.test_catalog import refuses, streaming, tell, world


def rows_charged(catalog: Catalog, grant: str = "1") -> int:
    return catalog.grant(h.named("grant_", grant)).rows_charged


def test_a_grant_carries_the_plan_that_was_decided() -> None:
    catalog = streaming(h.denied())
    grant = catalog.grant(h.named("grant_", "1"))
    assert grant.plan == h.plan()
    assert grant.plan.digest == h.plan().digest
    assert (grant.subject, grant.owner_tenant, grant.run) == ("startup/ml", "clinic", "r1")
    assert catalog.decision(h.named("dec_", "no")).advice == "ask for health-research"
    assert [d.effect for d in catalog.decisions(owner="clinic")] == ["deny", "allow"]
    assert [d.effect for d in catalog.decisions(effect="deny", limit=1)] == ["deny"]
    assert catalog.decisions(owner="startup") == []


def test_grants_are_found_by_every_selector() -> None:
    catalog = world(h.decided("1"), h.decided("2", run=None))
    assert len(catalog.grants()) == 2
    assert len(catalog.grants(owner="clinic", subject="startup/ml", tenant="startup")) == 2
    assert [g.id for g in catalog.grants(run="r1")] == [h.named("grant_", "1")]
    assert catalog.grants(run="other") == []
    assert len(catalog.grants(dataset="clinic/icu")) == 2
    assert len(catalog.grants(dataset=DatasetRef("clinic", "icu", 1))) == 2
    assert catalog.grants(dataset="clinic/icu@2") == catalog.grants(owner="startup") == []


def test_an_erased_grant_permits_nothing_and_its_id_stays_taken() -> None:
    catalog = world()
    draft = h.decided()
    event = Event(
        node="n1", index=catalog.index, boot="00", time_us=1, kind=draft.kind,
        owner_tenant="clinic", actor_tenant="startup", actor_tag="ab", facts=draft.facts,
        sealed=None, chains={}, details=None,
    )  # fmt: skip
    catalog.apply(event)
    with pytest.raises(NotFound):
        catalog.grant(h.named("grant_", "1"))
    refuses(catalog, Conflict, h.decided(decision=h.named("dec_", "2")))
    tell(catalog, h.opened(), h.intent(0, 1, 10), h.closed(), h.revoked("1"))


def test_intents_charge_and_the_close_gives_back_what_was_never_confirmed() -> None:
    catalog = streaming(h.intent(0, 3, 400))
    assert rows_charged(catalog) == 400
    tell(catalog, h.confirmed(0, 1, rows=200))
    assert rows_charged(catalog) == 400
    assert catalog.lease(h.named("lease_", "1")).confirmed == {0, 1}
    tell(catalog, h.closed(), h.closed())
    grant = catalog.grant(h.named("grant_", "1"))
    assert (grant.rows_charged, grant.bytes_charged) == (200, 2000)
    assert catalog.leases() == []
    assert [x.closed for x in catalog.leases(open_only=False)] == ["returned"]


def test_rows_confirmed_after_the_close_are_charged_after_all() -> None:
    catalog = streaming(h.intent(0, 1, 200), h.closed())
    assert rows_charged(catalog) == 0
    tell(catalog, h.confirmed(0, rows=100))
    assert rows_charged(catalog) == 100


def test_delivering_the_same_segments_again_in_the_same_order_is_free() -> None:
    first = (h.intent(0, 3, 400), h.confirmed(0, 1, 2, 3, rows=400), h.closed())
    catalog = streaming(*first, h.opened("2"), h.intent(1, 3, 300, lease="2"))
    assert rows_charged(catalog) == 400
    tell(catalog, h.confirmed(1, 2, 3, rows=300, lease="2"), h.closed("2"))
    assert rows_charged(catalog) == 400
    tell(catalog, h.opened("3"), h.intent(2, 5, 400, lease="3"))
    assert rows_charged(catalog) == 800


@pytest.mark.parametrize("reason", ["lost", "restart"])
def test_after_a_crash_all_intents_stay_charged_and_come_again_for_nothing(reason: str) -> None:
    crash = (h.intent(0, 3, 400), h.confirmed(0, rows=100), h.closed(reason=reason))
    catalog = streaming(*crash)
    assert rows_charged(catalog) == 400
    tell(catalog, h.confirmed(1, rows=100))  # late words change nothing
    assert rows_charged(catalog) == 400
    tell(catalog, h.opened("2"), h.intent(0, 3, 400, lease="2"))
    assert rows_charged(catalog) == 400
    tell(catalog, h.confirmed(0, 1, 2, 3, rows=400, lease="2"), h.closed("2"))
    assert rows_charged(catalog) == 400


def test_another_epoch_or_seed_is_charged_again() -> None:
    for change in ({"epoch": 1}, {"seed": 8}, {"rank": 1, "world": 2}):
        first = (h.intent(0, 3, 400), h.confirmed(0, 1, 2, 3, rows=400), h.closed())
        catalog = streaming(
            *first, h.opened("2", order={**h.ORDER, **change}), h.intent(0, 3, 400, lease="2")
        )
        assert rows_charged(catalog) == 800


def test_a_run_gathers_its_grants_and_what_it_received() -> None:
    catalog = streaming(
        h.intent(0, 3, 400),
        h.confirmed(0, 1, rows=200),
        h.streamed(EventKind.SegmentsAcknowledged, lease=h.named("lease_", "1"), upto=1, rows=100),
        h.streamed(EventKind.SegmentsAcknowledged, lease=h.named("lease_", "1"), upto=2, rows=200),
        h.streamed(EventKind.SegmentsAcknowledged, lease=h.named("lease_", "1"), upto=1, rows=100),
        EventDraft(
            kind=EventKind.RunFinished,
            owner_tenant="startup",
            facts={"run": "r1", "model": "sepsis-v2", "artifact_sha256": h.sha("model")},
        ),
    )
    (run,) = catalog.runs()
    assert run == catalog.run("r1")
    assert (run.rows_confirmed, run.rows_acknowledged, run.leases) == (200, 200, 1)
    assert (run.datasets, run.purposes) == (("clinic/icu@1",), ("health-research",))
    assert (run.model, run.owners) == ("sepsis-v2", ("clinic",))
