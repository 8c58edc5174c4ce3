"""The simulator behind real tokens and a real socket, as a client meets a gateway."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn

import gateway.wire as W
from gateway.api.app import create_app
from gateway.crypto import tokens
from gateway.crypto.identity_keys import IdentityKey
from gateway.crypto.signing import Signer
from gateway.delivery.guard import GuardedProtocol
from gateway.errors import NotAuthenticated
from tests.api.simulator import SimulatedCaller, Simulator


@dataclass
class SecuredSimulator(Simulator):
    """Knows public keys, issues and verifies DPoP-bound tokens."""

    keys: dict[str, bytes] = field(default_factory=dict)
    signer: Signer = field(default_factory=lambda: Signer(secrets.token_bytes(32), "token"))
    memory: tokens.ReplayMemory = field(default_factory=lambda: tokens.ReplayMemory(time.monotonic))
    token_seconds: int = 600
    issued: int = 0
    nonce: str | None = None
    ended: set[str] = field(default_factory=set)  # jti of revoked tokens

    def _proof(self, dpop: str | None, method: str, url: str, token: str | None) -> str:
        if dpop is None:
            raise NotAuthenticated("a proof is missing")
        request = (method, url)
        return tokens.verify_proof(dpop, request, token, time.time, self.memory.seen, self.nonce)

    def _claims(self, token: str) -> tokens.TokenClaims:
        known = {self.signer.key_id: self.signer.public_key}
        return tokens.verify(token, known, self.issuer, time.time)

    async def authenticate(
        self, method: str, url: str, authorization: str | None, dpop: str | None
    ) -> SimulatedCaller:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "DPoP":
            raise NotAuthenticated("no token")
        claims = self._claims(token)
        claims.require_bound_to(self._proof(dpop, method, url, token))
        return SimulatedCaller(self.subjects[claims.subject], claims.grant, claims.jti)

    async def revoke_token(self, caller: Any, token: str) -> None:
        self.ended.add(self._claims(token).jti)

    async def introspect(self, caller: Any, token: str) -> W.Introspection:
        claims = self._claims(token)
        if claims.jti in self.ended or claims.subject != caller.subject.id:
            return W.Introspection(active=False)
        detail = {"type": "dataset_access", "dataset": "clinic/icu@1", "columns": [{"name": "age"}]}
        return W.Introspection(
            active=True, sub=claims.subject, grant=claims.grant, authorization_details=(detail,)
        )

    async def token(self, form: Mapping[str, str], url: str, dpop: str | None) -> W.TokenResponse:
        thumbprint = self._proof(dpop, "POST", url, None)
        inner: dict[str, str] = dict(form)
        if "assertion" in form:
            claimed = tokens.verify_assertion(
                form["assertion"], self.keys.get, self.issuer, time.time, self.memory.seen
            )
            assert claimed.dpop_thumbprint == thumbprint
            inner["assertion"] = claimed.identity
        else:
            inner["subject_token"] = self._claims(form["subject_token"]).subject
        reply = await super().token(inner, url, dpop)
        now = int(time.time())
        claims = tokens.TokenClaims(
            issuer=self.issuer,
            audience=self.issuer,
            subject=reply.access_token,
            type="person",
            jti=secrets.token_urlsafe(16),
            issued_at=now,
            expires_at=now + self.token_seconds,
            thumbprint=thumbprint,
            grant=reply.grant,
        )
        self.issued += 1
        return W.TokenResponse(
            access_token=tokens.mint(self.signer, claims),
            expires_in=self.token_seconds,
            grant=reply.grant,
            decision=reply.decision,
            authorization_details=reply.authorization_details,
        )


@contextlib.contextmanager
def served(gateway: SecuredSimulator) -> Iterator[str]:
    """Serve on a loopback port under the guarded protocol class; yields the URL."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    gateway.issuer = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(
        create_app(gateway),
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield gateway.issuer
    finally:
        server.should_exit = True
        thread.join(10)
        sock.close()


def enrol(gateway: SecuredSimulator, path: Any, identity: str) -> Any:
    """Make a key file and let the gateway know its public half."""
    key = IdentityKey.create(path, identity)
    gateway.keys[identity] = key.public_key
    return path
