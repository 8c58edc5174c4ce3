"""Where a tenant demands it, rules count only when a second person approves them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.events import EventDraft, EventKind
from gateway.errors import AccessDenied, Conflict, InvalidInput, NotFound, PolicyError
from gateway.policy.bench import examine
from gateway.policy.bench_job import BenchJob
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.services import approve, bench, publish
from gateway.services.house import House

from .conftest import open_house
from .simulator import add_tenant, caller

ANA, BEN = caller("clinic", "ana", "owner"), caller("clinic", "ben", "owner")
DEMAND = "format: gateway-policy-bundle/v0\nsecond_person: true\n"
MORE = "format: gateway-policy/v0\n"


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


@pytest.fixture
def careful(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The clinic has two owners and demands the second."""
    monkeypatch.setattr(bench, "_run", lambda job: examine(BenchJob.of_bytes(job.to_bytes())))
    run(add_tenant(house, "clinic", ("ana", "owner"), ("ben", "owner")))
    run(publish.publish(house, ANA, "clinic", files(house, DEMAND), None))
    assert house.bundles["clinic"].second_person
    return house


def files(house: House, settings: str | None = DEMAND, **more: str) -> dict[str, str]:
    found = {**house.bundles["clinic"].files, **{f"{k}.yaml": v for k, v in more.items()}}
    found.pop("bundle.yaml", None)
    return found if settings is None else {**found, "bundle.yaml": settings}


def test_what_is_pushed_waits_and_a_second_person_puts_it_in_force(careful: House) -> None:
    before, epoch = careful.catalog.bundle("clinic"), careful.catalog.policy_epoch
    wanted = files(careful, more=MORE)
    shown = run(publish.publish(careful, ANA, "clinic", wanted, None))
    waiting = careful.catalog.proposed("clinic")
    assert waiting is not None
    assert (shown.digest, careful.catalog.bundle("clinic")) == (before, before)
    assert careful.catalog.policy_epoch == epoch
    for who in (ANA, replace(BEN, subject=replace(BEN.subject, type="job"))):
        with pytest.raises(AccessDenied, match="second person"):
            run(approve.approve(careful, who, "clinic", waiting.digest))
    with pytest.raises(NotFound):
        run(approve.approve(careful, BEN, "clinic", "0" * 64))
    with pytest.raises((AccessDenied, NotFound)):
        run(approve.approve(careful, caller("startup", "x", "owner"), "clinic", waiting.digest))
    done = run(approve.approve(careful, BEN, "clinic", waiting.digest))
    assert done.files == wanted
    assert careful.catalog.bundle("clinic") == waiting.digest
    assert careful.catalog.proposed("clinic") is None
    last = list(careful.journal.read(waiting.index))
    (published,) = [e for e in last if e.kind is EventKind.PolicyPublished]
    assert published.facts["proposal"] == waiting.index
    with pytest.raises(NotFound):
        run(approve.approve(careful, BEN, "clinic", waiting.digest))


def test_the_demand_itself_is_dropped_only_by_two(careful: House) -> None:
    run(publish.publish(careful, ANA, "clinic", files(careful, None), None))
    assert careful.bundles["clinic"].second_person
    with pytest.raises(Conflict, match="need a second person"):
        run(publish.store_and_record(careful, None, "clinic", files(careful, None)))
    waiting = careful.catalog.proposed("clinic")
    assert waiting is not None
    run(approve.approve(careful, BEN, "clinic", waiting.digest))
    assert not careful.bundles["clinic"].second_person


def test_what_waited_too_long_or_was_about_other_rules_is_refused(
    careful: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(publish.publish(careful, ANA, "clinic", files(careful, more=MORE), None))
    waiting = careful.catalog.proposed("clinic")
    assert waiting is not None
    real = careful.now
    monkeypatch.setattr(careful, "now", lambda: real() + publish.PROPOSAL_SECONDS + 1)
    with pytest.raises(Conflict, match="too long"):
        run(approve.approve(careful, BEN, "clinic", waiting.digest))
    monkeypatch.setattr(careful, "now", real)
    facts = {"tenant": "clinic", "bundle": "ab" * 32, "files": 1, "rules": 1}
    forged = {**facts, "proposal": waiting.index}
    for bad in (forged, {**forged, "bundle": waiting.digest}):
        with pytest.raises((Conflict, InvalidInput)):
            careful.record(
                EventDraft(
                    kind=EventKind.PolicyPublished,
                    owner_tenant="clinic",
                    actor_tenant="clinic",
                    actor=ANA.subject.id,
                    facts=bad,
                )
            )


def test_what_waits_survives_a_restart(careful: House) -> None:
    run(publish.publish(careful, ANA, "clinic", files(careful, more=MORE), None))
    waiting = careful.catalog.proposed("clinic")
    careful.journal.close()
    again = open_house(careful.settings)
    try:
        assert again.catalog.proposed("clinic") == waiting
        assert again.bundles["clinic"].second_person
    finally:
        again.journal.close()


def test_a_demand_that_nobody_else_could_meet_is_refused(house: House) -> None:
    run(add_tenant(house, "clinic", ("ana", "owner")))
    with pytest.raises(PolicyError, match="nobody else of `clinic`"):
        run(publish.store_and_record(house, ANA.subject, "clinic", files(house)))


@pytest.mark.parametrize(
    "text", ["", "second_person: true\n", DEMAND.replace("true", "yes"), DEMAND + "more: 1\n"]
)
def test_settings_of_a_bundle_are_read_strictly(text: str) -> None:
    with pytest.raises(PolicyError):
        PolicyBundle.read({"bundle.yaml": text}, "clinic")


def test_questions_are_answered_while_a_snapshot_is_built(
    careful: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, real = threading.Event(), Judge.build

    def slow(*given: Any) -> Judge:
        assert answered.wait(10), "the snapshot is built where questions wait for it"
        return real(*given)

    async def both() -> None:
        building = asyncio.create_task(publish.snapshot_with(careful, careful.bundles["clinic"]))
        await asyncio.sleep(0)
        await publish.current(careful, ANA, "clinic")
        answered.set()
        await building

    monkeypatch.setattr(Judge, "build", slow)
    run(both())


def test_tenants_that_publish_at_once_lose_nothing(house: House) -> None:
    async def all_at_once() -> None:
        names = [f"t{number}" for number in range(4)]
        for name in names:
            await add_tenant(house, name, ("ana", "owner"))
        rules = {name: {**house.bundles[name].files, "more.yaml": MORE} for name in names}
        await asyncio.gather(
            *(publish.store_and_record(house, None, name, rules[name]) for name in names)
        )
        for name in names:
            assert "more.yaml" in house.bundles[name].files
            assert house.judge.bundles[name] == house.catalog.bundle(name)

    run(all_at_once())
