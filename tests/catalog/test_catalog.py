from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.catalog.catalog import Catalog
from gateway.catalog.folds import FOLDS
from gateway.catalog.state import State
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import RAISES_POLICY_EPOCH, Event, EventDraft, EventKind
from gateway.errors import Conflict, GatewayError, IntegrityError, InvalidInput, NotFound
from tests.catalog import happenings as h

Teller = Callable[..., Catalog]


def tell(catalog: Catalog, *drafts: EventDraft) -> Catalog:
    """Apply drafts as the journal would, each second one second later."""
    for draft in drafts:
        draft.check()
        catalog.apply(
            Event(
                node="n1",
                index=catalog.index,
                boot="00",
                time_us=1_790_000_000_000_000 + catalog.index * 1_000_000,
                kind=draft.kind,
                owner_tenant=draft.owner_tenant,
                actor_tenant=draft.actor_tenant,
                actor_tag=h.sha(draft.actor)[:32] if draft.actor else None,
                facts=draft.facts,
                sealed=None,
                chains={},
                actor=draft.actor,
                details=copy.deepcopy(dict(draft.details)),
            )
        )
    return catalog


def world(*drafts: EventDraft) -> Catalog:
    return tell(Catalog(), *h.WORLD, *drafts)


def refuses(catalog: Catalog, error: type[GatewayError], *drafts: EventDraft) -> None:
    before = copy.deepcopy(catalog.state)
    with pytest.raises(error):
        tell(catalog, *drafts)
    assert catalog.state == before


def streaming(*drafts: EventDraft) -> Catalog:
    return world(h.decided(), h.opened(), *drafts)


def test_every_kind_of_event_has_its_fold() -> None:
    assert set(FOLDS) == set(EventKind)


def test_an_event_out_of_order_is_refused() -> None:
    catalog = world()
    draft = h.policy()
    for index in (catalog.index - 1, catalog.index + 1):
        event = Event(
            node="n1",
            index=index,
            boot="00",
            time_us=0,
            kind=draft.kind,
            owner_tenant="clinic",
            actor_tenant=None,
            actor_tag=None,
            facts=draft.facts,
            sealed=None,
            chains={},
        )
        with pytest.raises(IntegrityError):
            catalog.apply(event)


@pytest.mark.parametrize(
    ("draft", "error"),
    [
        (h.tenant("clinic"), Conflict),
        (h.identity(), Conflict),
        (h.identity("startup/other", "k1"), Conflict),
        (h.identity("nobody/ml", "k9"), NotFound),
        (h.version(1), Conflict),
        (h.version(3), Conflict),
        (h.version(2, dataset_id="ee" * 16), Conflict),
        (h.version(1, dataset="clinic/other"), Conflict),
        (h.version(1, dataset="nobody/icu", dataset_id="ee" * 16), NotFound),
        (h.classified(f3=["pii"]), InvalidInput),
        (h.policy("nobody"), NotFound),
        (h.revoked("9"), NotFound),
        (h.opened(grant="9"), NotFound),
        (h.intent(0, 0, 1), NotFound),
        (h.closed("9"), NotFound),
        (h.decided(effect="deny"), InvalidInput),
        (h.decided(expires_at=None), InvalidInput),
        (h.decided(columns=[1]), InvalidInput),
        (h.decided(masks={}), InvalidInput),
        (h.decided(version=2), InvalidInput),
        (h.decided(purpose="marketing"), InvalidInput),
    ],
)
def test_what_contradicts_the_state_is_refused_and_changes_nothing(
    draft: EventDraft, error: type[GatewayError]
) -> None:
    refuses(world(), error, draft)


def test_a_grant_without_its_plan_is_refused() -> None:
    bare = h.decided()
    no_plan = EventDraft(
        kind=bare.kind, owner_tenant="clinic", actor_tenant="startup", actor="startup/ml",
        facts=bare.facts, details={},
    )  # fmt: skip
    refuses(world(), InvalidInput, no_plan)


def test_nothing_is_intended_under_a_revoked_grant_or_a_closed_lease() -> None:
    refuses(streaming(h.revoked("1")), Conflict, h.intent(0, 0, 10))
    refuses(streaming(h.revoked("1")), Conflict, h.opened("2"))
    refuses(streaming(h.closed()), Conflict, h.intent(0, 0, 10))
    refuses(streaming(), InvalidInput, h.intent(3, 2, 10))
    refuses(streaming(), InvalidInput, h.intent(99, 100, 10))
    refuses(streaming(), InvalidInput, h.confirmed(100, rows=1))


def test_the_same_decision_grant_or_lease_twice_is_refused() -> None:
    refuses(streaming(), Conflict, h.decided())
    refuses(streaming(), Conflict, h.decided("2", grant=False, decision=h.named("dec_", "1")))
    refuses(streaming(), Conflict, h.opened())
    refuses(streaming(h.closed()), Conflict, h.opened())


def test_a_disabled_identity_is_kept_and_marked() -> None:
    catalog = world()
    assert catalog.identity("startup/ml").thumbprint == "thumb-k1"
    disabled = EventDraft(
        kind=EventKind.IdentityDisabled,
        owner_tenant="startup",
        facts={"identity": "startup/ml"},
    )
    tell(catalog, disabled)
    assert catalog.identity("startup/ml").disabled
    assert [i.id for i in catalog.identities("startup")] == ["startup/ml"]


def test_what_is_not_there_is_not_found() -> None:
    catalog = world()
    asks: list[Callable[[], Any]] = [
        lambda: catalog.tenant("x"),
        lambda: catalog.identity("x"),
        lambda: catalog.dataset("clinic", "x"),
        lambda: catalog.version(DatasetRef("clinic", "icu", 2)),
        lambda: catalog.grant("x"),
        lambda: catalog.lease("x"),
        lambda: catalog.decision("x"),
        lambda: catalog.run("x"),
    ]
    for ask in asks:
        with pytest.raises(NotFound):
            ask()
    assert catalog.bundle("startup") is None


def test_the_policy_epoch_counts_what_can_narrow_a_plan_and_nothing_else() -> None:
    catalog = streaming()
    assert catalog.policy_epoch == 2  # classified, published
    drafts = {
        EventKind.PolicyPublished: h.policy("startup"),
        EventKind.ColumnsClassified: h.classified(f1=["pii"]),
        EventKind.DerivationReleased: h.derivation_released(),
        EventKind.DatasetSuspended: h.on_dataset(EventKind.DatasetSuspended),
        EventKind.DatasetResumed: h.on_dataset(EventKind.DatasetResumed),
        EventKind.GrantRevoked: h.revoked("1"),
        EventKind.DatasetErased: h.erased(columns=[2]),
        EventKind.ConsentGiven: h.consent(EventKind.ConsentGiven),
        EventKind.ConsentWithdrawn: h.consent(EventKind.ConsentWithdrawn),
        EventKind.IdentityDisabled: EventDraft(
            kind=EventKind.IdentityDisabled,
            owner_tenant="startup",
            facts={"identity": "startup/ml"},
        ),
        EventKind.TenantSuspended: EventDraft(
            kind=EventKind.TenantSuspended, owner_tenant="startup", facts={"tenant": "startup"}
        ),
        EventKind.TenantResumed: EventDraft(
            kind=EventKind.TenantResumed, owner_tenant="startup", facts={"tenant": "startup"}
        ),
    }
    assert set(drafts) == RAISES_POLICY_EPOCH
    for number, draft in enumerate(drafts.values(), 3):
        tell(catalog, draft)
        assert catalog.policy_epoch == number
    tell(catalog, h.denied(), h.identity("startup/b", "k2"), h.version(2))
    assert catalog.policy_epoch == 14


@pytest.mark.parametrize(
    ("draft", "error"),
    [
        (h.answered("startup/ml"), InvalidInput),
        (h.answered("lab/x"), InvalidInput),
        (h.answered(request=h.named("req_", 9)), NotFound),
        (h.answered(columns=[]), InvalidInput),
        (h.answered(columns=[1, 3]), InvalidInput),
        (h.answered(expires_at=None), InvalidInput),
        (h.answered(request_digest=h.sha("x")), InvalidInput),
        (h.answered(plan_digest=h.sha("x")), InvalidInput),
        (h.answered(dataset_id="ee" * 16), InvalidInput),
        (h.requested(), Conflict),
        (h.approved(), InvalidInput),
    ],
)
def test_an_answer_that_does_not_fit_its_request_is_refused(
    draft: EventDraft, error: type[GatewayError]
) -> None:
    refuses(world(h.requested()), error, draft)


def test_a_request_is_answered_once_and_in_time() -> None:
    refuses(world(h.requested(), h.answered(answer="reject")), Conflict, h.answered())
    refuses(world(h.requested(expires_at=1)), Conflict, h.answered())


@pytest.mark.parametrize(
    "draft",
    [
        h.approved(request=None),
        h.approved(columns=(1, 2)),
        h.approved(expires_at=1_900_000_001),
        h.approved(run="r1"),
        h.approved(who="startup/other"),
    ],
)
def test_a_grant_is_never_wider_than_its_approval(draft: EventDraft) -> None:
    asked = world(h.requested(), h.answered())
    refuses(asked, InvalidInput, draft)
    tell(asked, h.approved())
    assert asked.request(h.REQUEST).grant == h.named("grant_", "approved")
    refuses(asked, InvalidInput, h.approved("again"))


def test_old_requests_that_nothing_rests_on_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.catalog.asking.REQUESTS_KEPT", 2)
    catalog = world(h.requested(), h.answered(), h.approved())
    for name in ("late", "open", "more"):
        ends = 1 if name == "late" else 2_000_000_000
        tell(catalog, h.requested(request=h.named("req_", name), expires_at=ends))
    kept = [asked.id for asked in catalog.requests()]
    assert kept == [h.named("req_", "more"), h.named("req_", "open"), h.REQUEST]


def test_a_dataset_is_the_fold_of_its_events() -> None:
    catalog = world()
    dataset = catalog.dataset("clinic", "icu")
    assert dataset.tags == {1: ("pii.indirect",), 2: ("health", "health.special")}
    assert dataset.card["title"] == "ICU stays"
    assert dataset.newest.registered_by == "clinic/anna"
    assert dataset.newest.registered_at == "2026-09-21T14:13:24Z"
    assert catalog.expect_next_version(DatasetRef("clinic", "icu")) == 2
    assert catalog.expect_next_version(DatasetRef("clinic", "new")) == 1
    tell(catalog, h.version(2, manifest_key="objects/m2"))
    assert catalog.version(DatasetRef("clinic", "icu")).ref.version == 2
    assert catalog.manifest_key(DatasetRef("clinic", "icu", 1)) == "objects/m1"
    assert catalog.manifest_key(DatasetRef("clinic", "icu", 2)) == "objects/m2"
    assert catalog.dataset("clinic", "icu").tags == dataset.tags
    tell(catalog, h.on_dataset(EventKind.DatasetSuspended))
    assert catalog.dataset("clinic", "icu").suspended
    assert [d.name for d in catalog.datasets()] == ["icu"]


def test_a_number_or_an_id_of_what_was_erased_is_never_used_again() -> None:
    catalog = world(h.version(2), h.erased(version=2))
    dataset = catalog.dataset("clinic", "icu")
    assert [v.ref.version for v in dataset.versions] == [1]
    refuses(catalog, Conflict, h.version(2))
    tell(catalog, h.version(3), h.erased("op_2"))
    with pytest.raises(NotFound):
        catalog.dataset("clinic", "icu")
    refuses(catalog, Conflict, h.version(4))  # of the erased dataset's id
    refuses(catalog, Conflict, h.version(1, dataset_id="ee" * 16))
    tell(catalog, h.version(4, dataset_id="ee" * 16))
    assert [v.ref.version for v in catalog.dataset("clinic", "icu").versions] == [4]
    assert catalog.dataset("clinic", "icu").tags == {}


def test_an_erased_column_leaves_its_versions_and_its_grants_and_is_not_the_same_again() -> None:
    other = {"field_id": 3, "name": "größe", "type": "double", "nullable": True}
    catalog = streaming(h.version(2), h.erased(version=1, columns=[1]))
    first, second = catalog.dataset("clinic", "icu").versions
    assert [c.field_id for c in first.columns] == [2]
    assert [c.field_id for c in second.columns] == [1, 2]
    assert catalog.grant(h.named("grant_", "1")).revoked
    tell(catalog, h.erased("op_2", columns=[2]), h.version(3, columns=[other]))
    newest = catalog.dataset("clinic", "icu").newest
    assert newest.columns[0].renewed
    assert catalog.dataset("clinic", "icu").next_field_id == 4
    refuses(catalog, NotFound, h.erased("op_3", columns=[2]))
    refuses(catalog, NotFound, h.erased("op_3", version=7))
    refuses(catalog, Conflict, h.erased("op_2", columns=[3]))
    refuses(catalog, Conflict, h.erased("op_3", dataset_id="ee" * 16))


def test_an_erasure_is_unfinished_until_it_is_certified_once() -> None:
    catalog = streaming(h.erased())
    assert catalog.grant(h.named("grant_", "1")).revoked
    (erasure,) = catalog.erasures()
    assert (erasure.certificate, erasure.reason) == (None, "the consent ended")
    assert [v.manifest_key for v in erasure.versions] == ["objects/m1"]
    refuses(catalog, NotFound, h.certified("op_2"))
    tell(catalog, h.certified())
    refuses(catalog, Conflict, h.certified())
    assert catalog.erasures()[0].certificate == h.sha("c")


def test_recorded_generations_of_keys_never_go_back() -> None:
    catalog = world(h.version(2), h.rotated(2, 5, v1=3, v2=4))
    assert [v.sheet_generation for v in catalog.dataset("clinic", "icu").versions] == [3, 4]
    tell(catalog, h.rotated(2, 6, v1=2, v9=7))
    assert [v.sheet_generation for v in catalog.dataset("clinic", "icu").versions] == [3, 4]
    for older in (h.rotated(1, 9), h.rotated(2, 5)):
        refuses(catalog, Conflict, older)
    assert [(r.root, r.generation) for r in catalog.rings()] == [(2, 6)]


def test_card_owners_and_contact_belong_to_the_dataset_and_outlive_versions() -> None:
    catalog = world(h.updated(contact="icu@example.org"), h.on_dataset(EventKind.DatasetSuspended))
    second = h.version(2)
    tell(catalog, replace(second, details={}))
    dataset = catalog.dataset("clinic", "icu")
    assert (dataset.card, dataset.owners) == ({"title": "ICU"}, ("clinic/anna",))
    assert (dataset.contact, dataset.suspended) == ("icu@example.org", True)
    tell(catalog, replace(h.version(3), details={"card": {"title": "new"}}))
    assert catalog.dataset("clinic", "icu").card == {"title": "new"}
    assert catalog.dataset("clinic", "icu").owners == ("clinic/anna",)


def test_an_erased_update_leaves_nothing_of_its_text() -> None:
    catalog = world(h.updated(contact="icu@example.org"), replace(h.updated(), details={}))
    dataset = catalog.dataset("clinic", "icu")
    assert (dataset.card, dataset.owners, dataset.contact) == ({}, (), "")


def test_an_update_of_another_dataset_of_that_name_is_refused() -> None:
    stale = h.updated()
    refuses(world(), Conflict, replace(stale, facts={**stale.facts, "dataset_id": "ee" * 16}))


def test_a_revoked_token_is_forgotten_only_after_it_ran_out() -> None:
    def taken(jti: str, expires_at: int) -> EventDraft:
        return EventDraft(
            kind=EventKind.TokenRevoked,
            owner_tenant="startup",
            facts={"jti": jti, "expires_at": expires_at},
        )

    catalog = world(taken("a", 1_789_999_948), taken("b", 1_790_000_600))
    assert catalog.is_token_revoked("a")
    tell(catalog, taken("c", 1_790_000_600))
    assert not catalog.is_token_revoked("a")
    assert catalog.is_token_revoked("b")


def test_only_the_newest_decisions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.catalog.streams.DECISIONS_KEPT", 5)
    catalog = world(*(h.denied(str(n)) for n in range(8)))
    assert len(catalog.decisions()) == 5
    assert catalog.decisions()[0].id == h.named("dec_", "7")
    with pytest.raises(NotFound):
        catalog.decision(h.named("dec_", "2"))


def test_an_empty_catalogue_knows_nobody() -> None:
    assert Catalog().state == State()
    assert Catalog().tenants() == Catalog().datasets() == Catalog().grants() == []
