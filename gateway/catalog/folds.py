"""Which event changes the state how: one row for each kind, none left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.catalog import (
    asking,
    claims,
    erasures,
    holdings,
    obligations,
    retention,
    runs,
    streams,
)
from gateway.catalog.state import State
from gateway.domain.events import Event, EventKind


def _nothing(state: State, event: Event) -> None:
    """Recorded for lineage; no decision rests on it."""


FOLDS: Mapping[EventKind, Callable[[State, Event], None]] = {
    EventKind.Boot: _nothing,
    EventKind.KeyIntroduced: holdings.key_introduced,
    EventKind.TenantHeads: _nothing,
    EventKind.TenantAdded: holdings.tenant_added,
    EventKind.TenantUpdated: holdings.tenant_updated,
    EventKind.TenantSuspended: holdings.tenant_suspended,
    EventKind.TenantResumed: holdings.tenant_resumed,
    EventKind.MonthExpired: retention.month_expired,
    EventKind.IdentityAdded: holdings.identity_added,
    EventKind.IdentityRotated: holdings.identity_rotated,
    EventKind.IdentityDisabled: holdings.identity_disabled,
    EventKind.VersionRegistered: holdings.version_registered,
    EventKind.ColumnsClassified: holdings.columns_classified,
    EventKind.DatasetUpdated: holdings.dataset_updated,
    EventKind.DerivationReleased: holdings.derivation_released,
    EventKind.DatasetSuspended: holdings.dataset_suspended,
    EventKind.DatasetResumed: holdings.dataset_resumed,
    EventKind.DatasetErased: erasures.dataset_erased,
    EventKind.ErasureCertified: erasures.erasure_certified,
    EventKind.KeysRotated: erasures.keys_rotated,
    EventKind.ConsentGiven: _nothing,
    EventKind.ConsentWithdrawn: _nothing,
    EventKind.PolicyPublished: holdings.policy_published,
    EventKind.PolicyProposed: holdings.policy_proposed,
    EventKind.AccessDecided: streams.access_decided,
    EventKind.AccessRequested: asking.access_requested,
    EventKind.RequestAnswered: asking.request_answered,
    EventKind.TokenIssued: streams.token_issued,
    EventKind.TokenRevoked: streams.token_revoked,
    EventKind.GrantRevoked: streams.grant_revoked,
    EventKind.LeaseOpened: streams.lease_opened,
    EventKind.LeaseRenewed: streams.lease_renewed,
    EventKind.LeaseClosed: streams.lease_closed,
    EventKind.SegmentIntent: streams.segment_intent,
    EventKind.SegmentsConfirmed: streams.segments_confirmed,
    EventKind.SegmentsAcknowledged: streams.segments_acknowledged,
    EventKind.StreamRefused: _nothing,
    EventKind.ViewBuilt: _nothing,
    EventKind.KeysReleased: streams.keys_released,
    EventKind.QuestionAsked: _nothing,
    EventKind.RequestRefused: _nothing,
    EventKind.ObligationFulfilled: obligations.obligation_fulfilled,
    EventKind.RunFinished: runs.run_finished,
    EventKind.RunAttested: runs.run_attested,
    EventKind.LineageClaimed: claims.lineage_claimed,
}
