"""What the scenes of the demo share: the stage, the people, and what was seen so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.client import GatewayClient
from gateway.config import load
from gateway.demo.cluster import Cluster
from gateway.demo.datasets import Prepared
from gateway.demo.stage import Stage
from gateway.demo.steps import Teller

OPERATOR, OWNER, ANALYST, JOB, AUDITOR = (
    "platform/operator",
    "clinic/owner",
    "clinic/analyst",
    "startup/ml",
    "audit/eva",
)
ROLES = {ANALYST: ("job", "trainer"), JOB: ("job", "trainer"), AUDITOR: ("person", "auditor")}
RAND, FLIGHTS, VERSES, TOKENS = (
    "clinic/rand-hie",
    "clinic/flights",
    "clinic/verses",
    "clinic/tokens",
)


@dataclass(slots=True, kw_only=True)
class Play:
    """One performance."""

    stage: Stage
    teller: Teller
    url: str = ""
    cluster: Cluster = field(default_factory=Cluster)
    prepared: dict[str, Prepared] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # what later scenes need of earlier ones
    _clients: dict[str, GatewayClient] = field(default_factory=dict)

    def key_file(self, person: str) -> Path:
        """The private key of `tenant/name`: 0600, in that person's configuration directory."""
        name = "operator.json" if person == OPERATOR else "identity.json"
        return self.stage.home / "config" / folder(person) / "dataset-gateway" / name

    @property
    def token_file(self) -> Path:
        """Where the cluster projects the token of JOB, which has no key."""
        return self.stage.home / "config" / folder(JOB) / "token"

    def shown_by(self, person: str) -> dict[str, str]:
        """By what the gateway knows a person: a key file, or the job's token file."""
        if person == JOB:
            return {"token_file": str(self.token_file)}
        return {"key_file": str(self.key_file(person))}

    def client(self, person: str) -> GatewayClient:
        """The Python client of a person; it knows the server's URL and that file, no more."""
        if person not in self._clients:
            state = self.stage.home / "state" / "dataset-gateway"  # where what it pins lies
            made = client_of(self.url, **self.shown_by(person), state_dir=state)
            self._clients[person] = made
        return self._clients[person]


def client_of(
    server: str,
    *,
    key_file: str | None = None,
    token_file: str | None = None,
    state_dir: Path | None = None,
) -> GatewayClient:
    """A client that shows a key, or the token of a workload."""
    workload = None if token_file is None else Path(token_file)
    settings = replace(load(), key_file=None, workload_token_file=workload)
    if state_dir is not None:
        settings = replace(settings, state_dir=state_dir)
    return GatewayClient(server, key_file, settings)


def folder(person: str) -> str:
    """The name of a person's directory; the operator's is where the server's keys lie too."""
    return person.replace("/", "-") if person != OPERATOR else "operator"
