"""The ranks of a run: each proves itself, all share one Grant, and all read one version."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.crypto.tokens import DpopKey
from gateway.domain.events import EventKind
from gateway.domain.lease import OrderSpec
from gateway.errors import LimitExceeded
from gateway.services import limits, request_access
from gateway.services.exchange import GRANT_ASSERTION, GRANT_EXCHANGE
from gateway.services.house import House
from gateway.services.request_access import Ask
from tests.services.conftest import open_house
from tests.services.simulator import add_version, caller
from tests.services.test_access import TRAINER, run, shared
from tests.services.test_exchange import BASE, DETAIL, TOKEN_URL, Job
from tests.services.test_limits import begun

__all__ = ["shared"]
WORLD = 8
ASK = Ask(dataset="clinic/icu", purpose="health-research", run="slurm-4711")


async def rank_of(job: Job) -> W.TokenResponse:
    """What one process of the job does by itself: its own key, its own proofs, the same run."""
    dpop, gateway = DpopKey(), job.gateway

    async def post(form: dict[str, str]) -> W.TokenResponse:
        nonce = gateway.house.nonce
        proof = dpop.proof("POST", TOKEN_URL, now=time.time, nonce=nonce)
        return await gateway.token(form, TOKEN_URL, proof)

    assertion = job.key.assertion(BASE, time.time, dpop.thumbprint)
    own = await post({"grant_type": GRANT_ASSERTION, "assertion": assertion})
    detail = {**DETAIL, "run": ASK.run, "max_epochs": 1}
    return await post(
        {
            "grant_type": GRANT_EXCHANGE,
            "subject_token": own.access_token,
            "authorization_details": json.dumps([detail]),
        }
    )


def test_eight_ranks_at_once_share_one_grant_and_its_limits(shared: House, tmp_path: Path) -> None:
    job, start = Job(shared, tmp_path), shared.journal.durable_size

    async def launch() -> list[W.TokenResponse]:
        return await asyncio.gather(*(rank_of(job) for _ in range(WORLD)))

    replies = run(launch())
    assert len({reply.access_token for reply in replies}) == WORLD
    assert len({reply.grant for reply in replies}) == 1
    recorded = [event.kind for event in shared.journal.read(start)]
    assert recorded.count(EventKind.AccessDecided) == 1, "one decision for all ranks"
    grant = shared.catalog.grant(replies[0].grant or "")
    for rank in range(WORLD):
        order = OrderSpec(seed=1, shuffle=True, lanes=WORLD, rank=rank, world=WORLD)
        limits.require_pass(shared, grant, order)
        begun(shared, grant, order)
    assert len(shared.catalog.passes(grant.id)) == 1
    with pytest.raises(LimitExceeded):
        limits.require_pass(shared, grant, OrderSpec(seed=2, shuffle=True, lanes=WORLD))


def versions_of(house: House, ask: Ask, who: Any = TRAINER) -> int | None:
    return run(request_access.request_grant(house, who, ask))[1].plan.dataset.version  # type: ignore[no-any-return]


def test_a_restarted_run_goes_on_with_the_version_it_began_with(shared: House) -> None:
    assert versions_of(shared, ASK) == 1
    again = {"version": 2, "dataset_id": shared.catalog.dataset("clinic", "icu").dataset_id}
    add_version(shared, "clinic", "icu", ["age", "hr", "name"], **again)
    settings = shared.settings
    shared.journal.close()
    house = open_house(settings)
    other = caller("startup", "ml", "trainer")
    assert versions_of(house, ASK, other) == 1
    assert run(request_access.check(house, TRAINER, ASK)).plan.dataset.version == 1
    for name, version in {"slurm-4712": 2, None: 2}.items():
        ask = Ask(dataset="clinic/icu", purpose="health-research", run=name)
        assert versions_of(house, ask) == version, "another run begins with the newest"
    named = Ask(dataset="clinic/icu@2", purpose="health-research", run=ASK.run)
    assert versions_of(house, named) == 2, "another version is read by its name"
    assert versions_of(house, ASK) == 1
    house.journal.close()
