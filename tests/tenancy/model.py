"""Two tenants that share nothing, over the real services in this process.

Both do what tenants do, in any order, and try the other's things by their true names. Whatever
happened: nothing that one is told holds a word or an id of the other; the other's things answer
as those that are not there; nothing that one does ends, changes or adds anything of the other.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import gateway.wire as W
from gateway import bootstrap
from gateway.config import Settings
from gateway.crypto.tokens import IdentityKey
from gateway.domain.lease import OrderSpec
from gateway.errors import GatewayError, NotAuthenticated
from gateway.services import exchange, request_access
from gateway.services.gateway import Gateway
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.wire import codec
from tests.services.conftest import open_house
from tests.services.simulator import OPERATOR, add_rules, add_tenant, add_version
from tests.services.test_limits import begun
from tests.tenancy.world import ghost

EXAMPLES_PER_HOUSE = 3
DATASETS_MAX = 4  # of a tenant
RULES = """
format: gateway-policy/v0
rules:
  - id: {tenant}.read
    kind: allow
    principals: [{tenant}/role:trainer]
    scope: tenant:{tenant}
    actions: [{actions}]
    purpose: [research]
    columns: [age]
"""
SIDES = st.integers(0, 1)
RARELY = st.sampled_from([False, False, True])
_DECISION = re.compile(r"dec_[a-z2-7]{26}")
Act = Callable[[Gateway, Caller, str], Coroutine[Any, Any, Any]]
FILE = (W.SourceFile(name="f", bytes=1),)


def _ask(it: str) -> W.AccessAsk:
    return W.AccessAsk(dataset=it, purpose="research")


# Everything that takes the name of a thing: what kind of thing, and the act.
PROBES: dict[str, tuple[str, Act]] = {
    "show dataset": ("dataset", lambda g, c, it: g.dataset(c, it)),
    "versions": ("dataset", lambda g, c, it: g.versions(c, it)),
    "manifest": ("dataset", lambda g, c, it: g.manifest(c, it)),
    "classify": ("dataset", lambda g, c, it: g.classify(c, it, {"age": ["pii"]})),
    "suspend": (
        "dataset",
        lambda g, c, it: g.update_dataset(c, it, W.DatasetChanges(suspended=True), None),
    ),
    "check": ("dataset", lambda g, c, it: g.check(c, _ask(it), None)),
    "ask": ("dataset", lambda g, c, it: g.request_access(c, W.PersonAsk(**vars_of(_ask(it))))),
    "register": (
        "dataset",
        lambda g, c, it: g.begin_registration(
            c, W.RegistrationRequest(dataset=it, files=FILE), None
        ),
    ),
    "grant": ("grant", lambda g, c, it: g.grant(c, it)),
    "revoke grant": ("grant", lambda g, c, it: g.revoke(c, W.RevocationRequest(grant=it))),
    "revoke dataset": ("dataset", lambda g, c, it: g.revoke(c, W.RevocationRequest(dataset=it))),
    "revoke subject": ("subject", lambda g, c, it: g.revoke(c, W.RevocationRequest(subject=it))),
    "revoke tenant": ("tenant", lambda g, c, it: g.revoke(c, W.RevocationRequest(tenant=it))),
    "explain": ("decision", lambda g, c, it: g.explain(c, it)),
    "lease": ("lease", lambda g, c, it: g.lease(c, it)),
    "renew": ("lease", lambda g, c, it: g.renew_lease(c, it)),
    "close": ("lease", lambda g, c, it: g.close_lease(c, it)),
    "run": ("run", lambda g, c, it: g.run(c, it)),
    "finish run": ("run", lambda g, c, it: g.finish_run(c, it, W.RunFinish(model="m"))),
    "registration": ("registration", lambda g, c, it: g.registration(c, it)),
    "abort": ("registration", lambda g, c, it: g.abort_registration(c, it)),
    "commit": ("registration", lambda g, c, it: g.commit_registration(c, it)),
    "tenant": ("tenant", lambda g, c, it: g.tenant(c, it)),
    "suspend tenant": (
        "tenant",
        lambda g, c, it: g.update_tenant(c, it, W.TenantChanges(suspended=True)),
    ),
    "identities": ("tenant", lambda g, c, it: g.identities(c, it)),
    "rules": ("tenant", lambda g, c, it: g.bundle(c, it)),
    "publish": ("tenant", lambda g, c, it: g.publish(c, it, {}, "0" * 64)),
}


NAMED = {name for name, (kind, _) in PROBES.items() if kind in ("dataset", "tenant", "subject")}
ROLES = st.sampled_from(["owner", "trainer", "auditor"])


def some(probes: set[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(sorted(probes)), min_size=2, max_size=5, unique=True)


def vars_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


@dataclass
class Side:
    """One tenant, and what exists of it."""

    tenant: str
    is_suspended: bool = False
    things: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    identities: int = 3

    @property
    def words(self) -> list[str]:
        """What nobody else may ever be told."""
        ids = (it for kind, its in self.things.items() for it in its if kind != "subject")
        return [self.tenant, *ids]


class Ground:
    """A House in memory where there is such a place, new for every few examples."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.steps = self.made = 0
        self._place: Path | None = None
        self.house: House

    def next(self) -> int:
        """A number that no example had before."""
        if self.made % EXAMPLES_PER_HOUSE == 0:
            self._fresh()
        self.made += 1
        return self.made

    def _fresh(self) -> None:
        self.end()
        memory = Path("/dev/shm")  # noqa: S108 - nothing but speed rests on it
        self._place = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        settings = Settings(
            state_dir=self._place / "state",
            config_dir=self._place / "config",
            runtime_dir=self._place / "run",
        )
        bootstrap.init(settings)
        self.house = open_house(settings)

    def end(self) -> None:
        if self._place is not None:
            self.house.journal.close()
            shutil.rmtree(self._place)
            self._place = None

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(act)


GROUND = Ground()


class Tenants(RuleBasedStateMachine):
    """Steps of `left` and `right`."""

    @initialize()
    def begin(self) -> None:
        number = GROUND.next()
        self.house, self.gateway = GROUND.house, Gateway(GROUND.house)
        self.sides = [Side(f"{name}{number}") for name in ("left", "right")]
        for side in self.sides:
            people = [(name, name) for name in ("owner", "trainer", "auditor")]
            GROUND.run(add_tenant(self.house, side.tenant, *people))
            side.things["tenant"] = [side.tenant]
            side.things["subject"] = [f"{side.tenant}/trainer"]
            self._register(side)
        for number in (0, 1):
            self.push(number, "stream")
            self.grant(number, "r0")

    def _caller(self, side: Side, role: str) -> Caller | None:
        """Who calls, as his token would say; None while his tenant is suspended, and only then."""
        try:
            subject = exchange.living_subject(self.house, f"{side.tenant}/{role}")
        except NotAuthenticated:
            assert side.is_suspended
            return None
        assert not side.is_suspended
        return Caller(subject=subject, jti="j", thumbprint="t")

    def _register(self, side: Side) -> None:
        name = f"d{len(side.things['dataset'])}"
        add_version(self.house, side.tenant, name, ["age", "name"])
        side.things["dataset"].append(f"{side.tenant}/{name}")

    def _does(
        self, number: int, role: str, act: Callable[[Caller], Coroutine[Any, Any, Any]]
    ) -> Any:
        """What its own act gives; its typed refusal is no matter here, anything else is."""
        GROUND.steps += 1
        caller = self._caller(self.sides[number], role)
        if caller is None:
            return None
        try:
            return GROUND.run(act(caller))
        except GatewayError as error:
            if error.status >= 500:  # the server's own fault
                raise
            self._keeps_secret(number, f"{error.message} {error.advice} {error.facts}")
            return None

    # what tenants do with what is theirs

    @rule(number=SIDES)
    def register(self, number: int) -> None:
        side = self.sides[number]
        wanted = W.RegistrationRequest(dataset=f"{side.tenant}/up", files=FILE)
        made = self._does(
            number, "owner", lambda c: self.gateway.begin_registration(c, wanted, None)
        )
        if made is not None:
            side.things["registration"].append(made.id)
        if made is not None and len(side.things["dataset"]) < DATASETS_MAX:
            self._register(side)

    @rule(number=SIDES, tag=st.sampled_from(["public", "pii.email", "health"]))
    def classify(self, number: int, tag: str) -> None:
        ref = self.sides[number].things["dataset"][-1]
        self._does(number, "owner", lambda c: self.gateway.classify(c, ref, {"age": [tag]}))

    @rule(number=SIDES, actions=st.sampled_from(["stream", "stream, request", "preview"]))
    def push(self, number: int, actions: str) -> None:
        GROUND.steps += 1
        tenant = self.sides[number].tenant
        GROUND.run(add_rules(self.house, tenant, RULES.format(tenant=tenant, actions=actions)))

    @rule(number=SIDES, run=st.sampled_from([None, "r1", "r2"]))
    def grant(self, number: int, run: str | None) -> None:
        side = self.sides[number]
        ask = Ask(dataset=side.things["dataset"][0], purpose="research", run=run)

        async def act(caller: Caller) -> None:
            _, grant = await request_access.request_grant(self.house, caller, ask)
            token = await exchange._issue(self.house, caller, grant)
            lease = begun(self.house, grant, OrderSpec())
            side.things["grant"].append(grant.id)
            side.things["decision"].append(grant.decision)
            side.things["lease"].append(lease)
            if grant.run is not None:
                side.things["run"].append(grant.run)
            assert token.grant == grant.id

        self._does(number, "trainer", act)

    @rule(number=SIDES)
    def revoke(self, number: int) -> None:
        wanted = W.RevocationRequest(grant=self.sides[number].things["grant"][-1])
        self._does(number, "owner", lambda c: self.gateway.revoke(c, wanted))

    @rule(number=SIDES, suspended=RARELY)
    def suspend_dataset(self, number: int, *, suspended: bool) -> None:
        ref, wanted = self.sides[number].things["dataset"][0], W.DatasetChanges(suspended=suspended)
        self._does(number, "owner", lambda c: self.gateway.update_dataset(c, ref, wanted, None))

    @rule(number=SIDES, suspended=RARELY, most=st.sampled_from([None, 5, 10**9]))
    def govern(self, number: int, most: int | None, *, suspended: bool) -> None:
        GROUND.steps += 1
        side = self.sides[number]
        wanted = W.TenantChanges(suspended=suspended, max_streams=most)
        GROUND.run(self.gateway.update_tenant(OPERATOR, side.tenant, wanted))
        side.is_suspended = suspended

    @rule(number=SIDES)
    def resume(self, number: int) -> None:
        self.govern(number, most=None, suspended=False)

    @rule(number=SIDES)
    def add_identity(self, number: int) -> None:
        side = self.sides[number]
        key = IdentityKey(f"{side.tenant}/x", secrets.token_bytes(32)).public_text
        wanted = W.IdentityRequest(
            identity=f"p{side.identities}", type="job", roles=("trainer",), public_key=key
        )
        made = self._does(
            number, "owner", lambda c: self.gateway.add_identity(c, side.tenant, wanted)
        )
        side.identities += made is not None

    # what they try on what is not theirs

    @rule(number=SIDES, probes=some(NAMED), role=ROLES, place=st.integers(0, 7))
    def try_names(self, number: int, probes: list[str], role: str, place: int) -> None:
        self._try(number, probes, role, place)

    @rule(number=SIDES, probes=some(set(PROBES) - NAMED), role=ROLES, place=st.integers(0, 7))
    def try_ids(self, number: int, probes: list[str], role: str, place: int) -> None:
        self._try(number, probes, role, place)

    def _try(self, number: int, probes: list[str], role: str, place: int) -> None:
        GROUND.steps += 1
        for probe in probes:
            self._probe(number, probe, role, place)

    def _probe(self, number: int, probe: str, role: str, place: int) -> None:
        kind, act = PROBES[probe]
        other = self.sides[1 - number]
        known = other.things[kind]
        caller = self._caller(self.sides[number], role)
        if not known or caller is None:
            return
        real = known[place % len(known)]
        before = self._state_of(other)
        told = [
            self._told(act(self.gateway, caller, it), it) for it in (real, ghost_of(kind, real))
        ]
        assert told[0] == told[1], (probe, real)
        assert told[0][0] != "answered", (probe, told)
        assert self._state_of(other) == before, probe

    def _told(self, act: Coroutine[Any, Any, Any], it: str) -> tuple[Any, ...]:
        try:
            return ("answered", codec.encode(GROUND.run(act)))
        except GatewayError as error:
            words = f"{error.message}|{error.advice}|{error.facts}|{bool(error.decision)}"
            for given in (it, it.partition("/")[0], it.partition(":")[0]):
                words = words.replace(given, "IT")
            return (type(error).__name__, _DECISION.sub("DEC", words))

    def _state_of(self, side: Side) -> tuple[Any, ...]:
        """All that decides about a tenant's things."""
        state, catalog = self.house.catalog.state, self.house.catalog
        return (
            state.tenants[side.tenant],
            state.bundles.get(side.tenant),
            [state.datasets[ref] for ref in side.things["dataset"]],
            [catalog.grant(it) for it in side.things["grant"]],
            [catalog.lease(it) for it in side.things["lease"]],
            [self.house.uploads[it].state for it in side.things["registration"]],
            catalog.identities(side.tenant),
            [catalog.is_finished(it) for it in side.things["run"]],
        )

    # what holds after every step

    def _keeps_secret(self, number: int, text: str) -> None:
        leaked = [word for word in self.sides[1 - number].words if word in text]
        assert not leaked, (leaked, text)

    @invariant()
    def nobody_is_shown_anything_of_the_other(self) -> None:
        """One of the six people in turn: what leaked stays in the lists."""
        number, role = GROUND.steps % 2, ("owner", "trainer", "auditor")[GROUND.steps % 3]
        caller = self._caller(self.sides[number], role)
        if caller is not None:
            shown = GROUND.run(self._lists(self.sides[number], caller))
            self._keeps_secret(number, json.dumps(shown))

    async def _lists(self, side: Side, caller: Caller) -> list[Any]:
        gateway = self.gateway
        datasets = await gateway.datasets(caller, None, None)
        if "owner" in caller.subject.roles:
            assert {d.dataset for d in datasets} == set(side.things["dataset"])
        found: list[Any] = [datasets]
        found.append(await gateway.grants(caller, {}))
        found.append(await gateway.runs(caller))
        found.append(await gateway.operations(caller))
        found.append(await gateway.access_requests(caller, {}))
        found.append(await gateway.tenants(caller))
        if "owner" in caller.subject.roles:
            found.append(await gateway.identities(caller, side.tenant))
            found.append(await gateway.obligations(caller, overdue=False))
        return [codec.encode(list(rows)) for rows in found]


_PREFIXES = {
    "grant": "grant_",
    "decision": "dec_",
    "lease": "lease_",
    "registration": "reg_",
}


def ghost_of(kind: str, real: str) -> str:
    """Of the same kind, and of nobody."""
    if kind in _PREFIXES:
        return ghost(_PREFIXES[kind])
    return {
        "tenant": "ghost",
        "dataset": f"ghost/{real.partition('/')[2]}",
        "subject": f"ghost/{real.partition('/')[2]}",
        "run": f"ghost:{real.partition(':')[2]}",
    }[kind]
