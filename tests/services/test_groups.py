"""No rows about too few persons, and no two Plans between which one person could be found."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pyarrow as pa
import pytest

from gateway.domain.dataset import DatasetRef
from gateway.errors import AccessDenied
from gateway.services import describe, request_access
from gateway.services.house import House
from gateway.services.request_access import Ask
from tests.services.registrations import registered
from tests.services.simulator import add_rules, add_tenant, caller

PERSONS, VISITS = 30, 3
ICU = pa.table(
    {
        "patient": pa.array([f"p{n // VISITS}" for n in range(PERSONS * VISITS)]),
        "age": pa.array([n // VISITS for n in range(PERSONS * VISITS)]),
        "hr": pa.array([60 + n % 40 for n in range(PERSONS * VISITS)]),
    }
)
# Purpose -> the rows of its rule, in persons.
WHERE = {
    "research": "",  # 30
    "marketing": "where: age < 27",  # 27
    "analytics": "where: age < 26",  # 26: one less than marketing
    "fraud-detection": "where: age < 22",  # 22
    "safety": "where: age < 4",  # 4 persons, 12 rows
    "audit": "where: age is not null",  # 30: another filter, nobody else
}
RULES = "format: gateway-policy/v0\nrules:\n" + "".join(
    f"""
  - id: clinic.icu.{purpose}
    kind: allow
    principals: [startup/*, other/*]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [{purpose}]
    columns: [age, hr]
    combinable: true
    {where}
    obligations: {{min_group_size: 5}}
"""
    for purpose, where in WHERE.items()
)
OWNER = caller("clinic", "owner", "owner")
JOB, ELSEWHERE = caller("startup", "ml"), caller("other", "ml")


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


@pytest.fixture
def icu(house: House) -> House:
    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        for tenant in ("startup", "other"):
            await add_tenant(house, tenant)
        await registered(house, OWNER, "clinic/icu", ICU)
        await tagged(house, patient="pii.person-id", age="pii.indirect", hr="health")
        await add_rules(house, "clinic", RULES)

    run(arrange())
    return house


async def tagged(house: House, **tags: str) -> None:
    wanted = {name: [tag] for name, tag in tags.items()}
    await describe.classify(house, OWNER, DatasetRef.parse("clinic/icu"), wanted)


def ask(purpose: str, version: str = "") -> Ask:
    return Ask(dataset=f"clinic/icu{version}", purpose=purpose)


def refused(house: House, purpose: str, who: Any = JOB, version: str = "") -> list[str]:
    with pytest.raises(AccessDenied) as caught:
        run(request_access.request_grant(house, who, ask(purpose, version)))
    return list(house.catalog.decision(caught.value.decision or "").reasons)


def given(house: House, purpose: str, who: Any = JOB, version: str = "") -> None:
    run(request_access.request_grant(house, who, ask(purpose, version)))


def test_rows_about_too_few_persons_are_denied_however_many_rows(icu: House) -> None:
    assert refused(icu, "safety") == ["group-too-small"]
    check = run(request_access.check(icu, JOB, ask("safety")))
    assert [reason.code for reason in check.reasons] == ["group-too-small"]
    assert "4" not in "".join(reason.text for reason in check.reasons)


def test_a_plan_that_differs_from_an_earlier_one_by_few_persons_is_denied(icu: House) -> None:
    given(icu, "marketing")
    assert refused(icu, "analytics") == ["group-too-small"]  # by 1
    assert refused(icu, "research") == ["group-too-small"]  # by 3
    given(icu, "fraud-detection")  # by 5
    given(icu, "marketing")  # the same again
    given(icu, "analytics", ELSEWHERE)  # who was given nothing yet


def test_another_filter_for_the_same_persons_tells_nobody_apart(icu: House) -> None:
    given(icu, "research")
    given(icu, "audit")


def test_without_a_column_of_persons_rows_are_counted(icu: House) -> None:
    run(tagged(icu, patient="pii.direct"))
    given(icu, "safety")  # 12 rows


def test_two_columns_of_persons_are_none(icu: House) -> None:
    run(tagged(icu, age="pii.person-id"))
    assert refused(icu, "research") == ["group-unknown"]


def test_a_newer_version_is_compared_with_what_was_given_of_the_older(icu: House) -> None:
    given(icu, "research")
    one_less = ICU.slice(VISITS)
    run(registered(icu, OWNER, "clinic/icu", one_less))
    assert refused(icu, "research") == ["group-too-small"]
    given(icu, "research", ELSEWHERE)
    run(tagged(icu, patient="pii.direct"))
    assert refused(icu, "research") == ["group-unknown"]  # nobody knows which rows are the same


def test_a_row_about_nobody_cannot_be_counted(icu: House) -> None:
    broken = ICU.set_column(0, "patient", pa.array([None, *ICU.column("patient").to_pylist()[1:]]))
    run(registered(icu, OWNER, "clinic/icu", broken))
    assert refused(icu, "research") == ["group-unknown"]


def test_a_count_that_fails_denies(icu: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.shards.groups._RESIDENT_MAX", 1)
    assert refused(icu, "research") == ["group-unknown"]
