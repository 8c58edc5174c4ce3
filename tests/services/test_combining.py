"""A recipient that was given one alternative is not given the other, over the real services."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway import bootstrap
from gateway.config import Settings
from gateway.errors import AccessDenied
from gateway.services import request_access
from gateway.services.house import House
from gateway.services.request_access import Ask
from tests.services.conftest import open_house
from tests.services.simulator import add_rules, add_tenant, add_version, caller

RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.billing
    kind: allow
    principals: [startup/*, clinic/*, other/*]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [analytics]
    columns: [name, town]
  - id: clinic.icu.research
    kind: allow
    principals: [startup/*, clinic/*, other/*]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [research]
    columns: [town, diagnosis]
"""
JOB, COLLEAGUE = caller("startup", "ml"), caller("startup", "bi")
BILLING = Ask(dataset="clinic/icu", purpose="analytics")
RESEARCH = Ask(dataset="clinic/icu", purpose="research")


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


@pytest.fixture
def shared(house: House) -> House:
    async def arrange() -> None:
        for tenant in ("clinic", "startup", "other"):
            await add_tenant(house, tenant)
        add_version(house, "clinic", "icu", ["name", "town", "diagnosis"])
        await add_rules(house, "clinic", RULES)

    run(arrange())
    return house


def reasons(house: House, who: Any, ask: Ask) -> list[str]:
    with pytest.raises(AccessDenied) as caught:
        run(request_access.request_grant(house, who, ask))
    assert "combinable: true" in (caught.value.advice or "")
    record = house.catalog.decision(caught.value.decision or "")
    assert record.effect == "deny"
    return list(record.reasons)


def test_the_other_alternative_is_denied_to_the_whole_tenant(shared: House) -> None:
    run(request_access.request_grant(shared, JOB, BILLING))
    assert reasons(shared, JOB, RESEARCH) == ["would-combine"]
    assert reasons(shared, COLLEAGUE, RESEARCH) == ["would-combine"]
    run(request_access.request_grant(shared, caller("other", "ml"), RESEARCH))


def test_a_check_says_the_same_as_the_request_would(shared: House) -> None:
    assert run(request_access.check(shared, JOB, RESEARCH)).is_allowed
    assert run(request_access.check(shared, JOB, BILLING)).is_allowed  # a check gives nothing
    run(request_access.request_grant(shared, JOB, BILLING))
    found = run(request_access.check(shared, JOB, RESEARCH))
    assert [reason.code for reason in found.reasons] == ["would-combine"]


def test_a_revoked_grant_is_not_forgotten_nor_is_one_after_a_restart(
    shared: House, settings: Settings
) -> None:
    _, grant = run(request_access.request_grant(shared, JOB, BILLING))

    async def revoke_and_close() -> None:
        from gateway.services import revoke

        owner = caller("clinic", "owner", "owner")
        await revoke.revoke(shared, owner, revoke.Selector(grant=grant.id), "over")
        await bootstrap.close(shared)

    run(revoke_and_close())
    again = open_house(settings)
    assert reasons(again, JOB, RESEARCH) == ["would-combine"]
    run(bootstrap.close(again))


def test_what_both_rules_release_and_the_same_again_stay_open(shared: House) -> None:
    run(request_access.request_grant(shared, JOB, BILLING))
    run(request_access.request_grant(shared, JOB, BILLING))
    town = Ask(dataset="clinic/icu", purpose="research", columns=("town",))
    run(request_access.request_grant(shared, JOB, town))


def test_owners_are_no_recipients_of_their_own_data(shared: House) -> None:
    analyst = caller("clinic", "analyst")
    run(request_access.request_grant(shared, analyst, BILLING))
    run(request_access.request_grant(shared, analyst, RESEARCH))


def test_an_owner_may_say_that_a_rule_is_combinable(shared: House) -> None:
    run(request_access.request_grant(shared, JOB, BILLING))
    combinable = RULES.replace("purpose: [research]", "purpose: [research]\n    combinable: true")
    run(add_rules(shared, "clinic", combinable))
    run(request_access.request_grant(shared, JOB, RESEARCH))
