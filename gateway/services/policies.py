"""The facade's part about rules: see, try, publish and approve them."""

from __future__ import annotations

from collections.abc import Mapping

import gateway.wire as W
from gateway.catalog.records import ProposedBundle
from gateway.policy.bundle import PolicyBundle
from gateway.services import approve, publish, trial, who
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.times import iso


class Policies:
    """Methods of `Gateway` over one House."""

    __slots__ = ()
    house: House

    async def bundle(self, caller: Caller, tenant: str) -> W.BundleView:
        """The rules in force, and those that wait for a second person."""
        return self._view(tenant, await publish.current(self.house, caller, tenant))

    async def publish(
        self, caller: Caller, tenant: str, files: Mapping[str, str], if_match: str | None
    ) -> W.BundleView:
        """Put new rules in force, or propose them where a second person is demanded."""
        return self._view(
            tenant, await publish.publish(self.house, caller, tenant, files, if_match)
        )

    async def approve(self, caller: Caller, tenant: str, bundle: str) -> W.BundleView:
        """Put in force what somebody else proposed."""
        return self._view(tenant, await approve.approve(self.house, caller, tenant, bundle))

    async def trial(self, caller: Caller, tenant: str, wanted: W.TrialRequest) -> W.Trial:
        """Lint, test, compare and replay rules without publishing them."""
        return await trial.trial(self.house, caller, tenant, wanted)

    async def who(self, caller: Caller, tenant: str, wanted: W.WhoRequest) -> list[W.AccessEntry]:
        """Who could get a dataset's columns."""
        return await who.who(self.house, caller, tenant, wanted)

    def _view(self, tenant: str, bundle: PolicyBundle) -> W.BundleView:
        waiting = self.house.catalog.proposed(tenant)
        return W.BundleView(
            tenant=tenant,
            hash=bundle.digest,
            files=dict(bundle.files),
            rules=len(bundle.rules),
            second_person=bundle.second_person,
            proposed=self._proposed(waiting) if waiting is not None else None,
        )

    def _proposed(self, waiting: ProposedBundle) -> W.ProposedBundleView:
        return W.ProposedBundleView(
            hash=waiting.digest,
            base=waiting.base,
            by=waiting.proposer or "",
            proposed_at=iso(waiting.proposed_at),
            expires_at=iso(waiting.expires_at),
            files=publish.stored_files(self.house, waiting.tenant, waiting.digest),
        )
