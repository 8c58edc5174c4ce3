"""Three tenants of one running gateway: `alder` owns data, `birch` reads it, `rival` may nothing.

Everything that has an id or a name exists once, made by the journeys that make it. Words that
only alder and birch know stand in all of it, so that a leak shows in any reply.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from gateway.client import GatewayClient
from gateway.config import Settings
from gateway.crypto.tokens import IdentityKey
from gateway.domain.ids import new_id
from gateway.errors import GatewayError

SECRETS = ("alder", "birch", "zebra", "quokka", "walrus")  # tenants, column, run, words in texts
ROLES = ("owner", "trainer", "auditor", "operator-of-rival", "enforcement-point")
RULES = """
format: gateway-policy/v0
rules:
  - id: alder.trees.read
    kind: allow
    principals: [birch/role:trainer]
    scope: dataset:alder/trees
    actions: [stream, export]
    purpose: [research]
    columns: [zebra, rings]
    obligations: {delete_after: P30D}
  - id: alder.trees.asked
    kind: allow
    principals: [birch/role:trainer]
    scope: dataset:alder/trees
    actions: [stream, request]
    purpose: [health-research]
    columns: [zebra]
    obligations: {require_approval: true}
  - id: alder.trees.own
    kind: allow
    principals: [alder/role:trainer]
    scope: dataset:alder/trees
    actions: [preview]
    purpose: [research]
    columns: [zebra]
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Caller:
    """Somebody who sends requests and sees answers, neither of them made nicer by a client."""

    def __init__(self, gateway: GatewayClient) -> None:
        self.transport = gateway.transport
        self._place = urlsplit(gateway.transport.server).netloc

    def send(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        token = self.transport.api_token() if target != "/oauth/token" else None
        url = self.transport.server + target.partition("?")[0]
        sent = {"DPoP": self.transport.proof(method, url, token), **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"DPoP {token}"
        if isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        connection = http.client.HTTPConnection(self._place, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())


@dataclass
class World:
    """Who is there, and what exists."""

    people: dict[str, GatewayClient]
    callers: dict[str, Caller]
    things: dict[str, tuple[str, ...]] = field(default_factory=dict)  # kind -> real, ghosts
    stream: Any = None  # birch reads, and has not ended

    def close(self) -> None:
        with contextlib.suppress(GatewayError):  # its lease may have ended
            self.stream.close()
        for who in self.people.values():
            who.close()


def made(server: str, home: Path) -> World:
    """All of it, over the gateway at `server` whose directories are under `home`."""
    settings = Settings(config_dir=home, runtime_dir=home)

    def login(key: Path) -> GatewayClient:
        return GatewayClient(server, key, settings)

    operator = login(home / "config/dataset-gateway/operator.json")
    people = {"operator": operator}
    for tenant in ("alder", "birch", "rival"):
        key = IdentityKey.create(home / f"{tenant}.json", f"{tenant}/owner")
        operator.tenants.add(tenant, owner_key=key.public_text)
        owner = people[tenant] = login(home / f"{tenant}.json")
        job = IdentityKey.create(home / f"{tenant}-job.json", f"{tenant}/job")
        roles = ROLES if tenant == "rival" else ("trainer", "auditor")
        owner.identities.add(
            f"{tenant}/job", public_key=job.public_text, roles=list(roles), type="job"
        )
        people[f"{tenant}/job"] = login(home / f"{tenant}-job.json")
    world = World(people=people, callers={name: Caller(who) for name, who in people.items()})
    _share(world, home)
    return world


def ghost(prefix: str) -> str:
    return new_id(prefix, os.urandom(16))


def _share(world: World, home: Path) -> None:
    """Alder shares `trees` with birch, whose job reads some, asks for more, and takes keys."""
    alder, job = world.people["alder"], world.people["birch/job"]
    table = pa.table({"zebra": list(range(4000)), "rings": [7] * 4000})
    alder.datasets.register("alder/trees", table, card={"title": "walrus"})
    files = dict(alder.policies.show("alder").files)
    alder.policies.push({**files, "trees.yaml": RULES}, tenant="alder")
    ask: Any = {"purpose": "research", "columns": ["zebra", "rings"], "run": "quokka"}
    world.stream = job.stream("alder/trees", **ask, batch_size=100)
    next(world.stream)
    (grant,) = job.grants.list()
    wanted = {"dataset": "alder/trees", "purpose": "research", "run": "quokka-keys"}
    caller = world.callers["birch/job"]
    exported = json.loads(caller.send("POST", "/v1/exports", wanted).body)
    request = job.access.request(
        "alder/trees", purpose="health-research", columns=["zebra"], reason="walrus"
    )
    pending = world.callers["alder"].send(
        "POST",
        "/v1/registrations",
        {"dataset": "alder/more", "files": [{"name": "walrus", "bytes": 3}]},
    )
    packed = alder.transport.request("POST", "/v1/lineage/evidence", json={})
    pack = alder.finished(packed.json()).result["pack"]
    (owed, *_) = job.obligations.list()
    (operation, *_) = alder.operations.list()
    world.things |= {
        "dataset": ("alder/trees", "alder/none", "ghost/trees"),
        "tenant": ("alder", "ghost"),
        "registration": (json.loads(pending.body)["id"], ghost("reg_")),
        "operation": (operation.id, ghost("op_")),
        "pack": (pack, ghost("op_")),
        "access request": (request.id, ghost("req_")),
        "grant": (grant.id, ghost("grant_")),
        "export": (exported["id"], ghost("grant_")),
        "decision": (grant.decision, ghost("dec_")),
        "lease": (world.stream.manifest.lease, ghost("lease_")),
        "run": (grant.run, "birch:nothing", "ghost:quokka"),
        "obligation": (owed.id, f"{ghost('grant_')}:delete_after"),
        "subject": ("birch/job", "birch/nobody", "ghost/job"),
        "token": (job.transport.api_token(), "not.a.token"),
    }
