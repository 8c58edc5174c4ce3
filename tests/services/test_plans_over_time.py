"""Whatever is asked for, cut, revoked and asked for again: nobody is ever given more.

Two promises, checked after every step over real services and a real journal: all that one
tenant was ever given of a dataset is, cell by cell, what one single rule would have given; and
what is cut from a Grant is within it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from gateway import bootstrap
from gateway.config import Settings
from gateway.domain.access import Limits, Plan
from gateway.domain.lease import Grant
from gateway.errors import AccessDenied, LeaseRevoked
from gateway.services import request_access, revoke
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.revoke import Selector
from tests.services.conftest import open_house
from tests.services.simulator import add_rules, add_tenant, add_version, caller

COLUMNS = ("age", "income", "town", "diagnosis")
ROWS = range(0, 100, 10)  # as far as filters can tell rows apart: by age
# Purpose -> columns with their masks, least age, limits and duties of the one rule for it.
ALTERNATIVES: dict[str, tuple[dict[str, str | None], int, str]] = {
    "analytics": ({"age": "x-bucket:10", "income": None}, 0, "limits: {max_rows: 100, valid: 2d}"),
    "safety": ({"age": None, "town": None}, 30, "obligations: {delete_after: P30D}"),
    "audit": ({"age": None, "town": None, "diagnosis": "x-bucket:5"}, 30, ""),
    "fraud-detection": ({"income": "x-bucket:10"}, 60, "limits: {max_epochs: 2}"),
    "marketing": ({"age": "x-bucket:20"}, 0, "limits: {max_bytes: 1MiB}"),
}
RULES = "format: gateway-policy/v0\nrules:\n" + "".join(
    f"""
  - id: clinic.icu.{purpose}
    kind: allow
    principals: [startup/*]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [{purpose}]
    columns: [{", ".join(columns)}]
    masks: {{{", ".join(f'{c}: "{m}"' for c, m in columns.items() if m)}}}
    {f"where: age >= {least}" if least else ""}
    {more}
"""
    for purpose, (columns, least, more) in ALTERNATIVES.items()
)
OWNER = caller("clinic", "owner", "owner")
JOBS = (caller("startup", "ml"), caller("startup", "bi"))
Cells = set[tuple[int, str, str]]


def told(mask: str | None) -> set[str]:
    """What a reader of this mask knows: each width also gives its multiples."""
    widths = ("5", "10", "20")
    if mask is None:
        return {"raw", *widths}
    width = mask.removeprefix("x-bucket:")
    return {w for w in widths if int(w) % int(width) == 0}


def cells(columns: dict[str, str | None], least: int) -> Cells:
    return {
        (row, name, knows)
        for row in ROWS
        for name, mask in columns.items()
        for knows in told(mask)
        if row >= least
    }


def cells_of(plan: Plan) -> Cells:
    least = 0
    if plan.row_filter is not None:
        kind, sign, column, literal = plan.row_filter
        assert (kind, sign, column, literal[0]) == ("cmp", ">=", "age", "int")
        least = literal[1]
    return cells({column.name: column.mask for column in plan.columns}, least)


UNITS = [cells(columns, least) for columns, least, _ in ALTERNATIVES.values()]
ASKS = {
    "purpose": st.sampled_from(sorted(ALTERNATIVES)),
    "columns": st.none() | st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True).map(tuple),
    "limits": st.builds(
        Limits,
        max_rows=st.none() | st.integers(1, 200),
        max_bytes=st.none() | st.integers(1, 2 << 20),
        max_epochs=st.none() | st.integers(1, 4),
    ),
    "run": st.none() | st.sampled_from(["r1", "r2"]),
}


class Recipient(RuleBasedStateMachine):
    """One tenant with two jobs, and an owner who revokes."""

    grants: Bundle[Grant] = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        home = Path(self._directory.name)
        places = Settings(
            state_dir=home / "state", config_dir=home / "config", runtime_dir=home / "run"
        )
        bootstrap.init(places)
        self.house: House = open_house(places)
        self.given: list[Plan] = []

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(act)

    @initialize()
    def arrange(self) -> None:
        async def act() -> None:
            for tenant in ("clinic", "startup"):
                await add_tenant(self.house, tenant)
            add_version(self.house, "clinic", "icu", COLUMNS)
            await add_rules(self.house, "clinic", RULES)

        self.run(act())

    @rule(target=grants, job=st.sampled_from(JOBS), **ASKS)
    def ask(self, job: Any, **wanted: Any) -> Any:
        return self._granted(job, Ask(dataset="clinic/icu", **wanted))

    @rule(target=grants, parent=grants, same=st.booleans(), **ASKS)
    def cut(self, parent: Grant, same: bool, **wanted: Any) -> Any:  # noqa: FBT001 - drawn
        job = next(job for job in JOBS if job.subject.id == parent.subject)
        asked = wanted.pop("purpose")
        purpose = None if same else asked
        ask = Ask(dataset="", parent=parent.id, purpose=purpose, **wanted)
        return self._granted(job, ask, parent)

    def _granted(self, job: Any, ask: Ask, parent: Grant | None = None) -> Any:
        try:
            _, grant = self.run(request_access.request_grant(self.house, job, ask))
        except (AccessDenied, LeaseRevoked):
            return multiple()
        if parent is not None:
            self._check_within(grant, parent)
        limits = grant.plan.limits
        assert limits.is_within(Limits(max_rows=ask.limits.max_rows))
        assert limits.is_within(Limits(max_bytes=ask.limits.max_bytes))
        assert limits.is_within(Limits(max_epochs=ask.limits.max_epochs))
        self.given.append(grant.plan)
        return grant

    def _check_within(self, child: Grant, parent: Grant) -> None:
        assert cells_of(child.plan) <= cells_of(parent.plan)
        assert child.plan.limits.is_within(parent.plan.limits)
        assert set(child.plan.obligations) >= set(parent.plan.obligations)
        assert child.expires_at <= parent.expires_at
        assert child.plan.purpose == parent.plan.purpose

    @rule(grant=grants)
    def take_back(self, grant: Grant) -> None:
        if not self.house.catalog.grant(grant.id).revoked:
            self.run(revoke.revoke(self.house, OWNER, Selector(grant=grant.id), "over"))

    @invariant()
    def all_that_was_given_is_what_one_rule_gives(self) -> None:
        union: Cells = set().union(*map(cells_of, self.given))
        assert any(union <= unit for unit in UNITS)

    def teardown(self) -> None:
        self.run(bootstrap.close(self.house))
        self._directory.cleanup()


Recipient.TestCase.settings = settings(
    max_examples=max(5, settings.default.max_examples // 20), stateful_step_count=12
)
TestRecipient = Recipient.TestCase
