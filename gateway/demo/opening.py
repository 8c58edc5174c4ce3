"""Scene: an empty gateway starts, and three organisations come in with keys of their own."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

from gateway.crypto.identity_keys import IdentityKey
from gateway.demo.cast import AUDITOR, JOB, OPERATOR, OWNER, ROLES, Play
from gateway.demo.steps import Seen, Step, expect

TENANTS = ("clinic", "startup", "audit")
_PRIVATE = 0o600


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    return [
        Step(name="init", title="an empty gateway is made: keys, journal", act=lambda: _init(play)),
        Step(name="serve", title="the server starts on loopback", act=lambda: _serve(play)),
        Step(
            name="people",
            title="three tenants, each person with a private key file",
            act=lambda: _people(play),
        ),
    ]


def _init(play: Play) -> Seen:
    play.stage.gateway("operator", "init")
    loose = [
        str(path)
        for path in (play.stage.home / "config").rglob("*.json")
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    expect(not loose, f"key files that others can read: {loose}")
    return Seen(text="gateway init: keys (mode 0600) and an empty journal")


def _serve(play: Play) -> Seen:
    play.cluster.be_trusted(play.key_file(OPERATOR).parent, JOB)  # before: it is read at start
    play.url = play.stage.start()
    return Seen(text=f"gateway serve: {play.url} is ready", facts={"url": play.url})


def _people(play: Play) -> Seen:
    operator = play.client(OPERATOR)
    for tenant in TENANTS:
        operator.tenants.add(tenant)
    for person, (kind, role) in ((OWNER, ("person", "owner")), *ROLES.items()):
        key = _without_file(play) if person == JOB else _with_file(play.key_file(person), person)
        operator.identities.add(person, public_key=key.public_text, roles=[role], type=kind)
    for person in (AUDITOR, JOB):
        me = play.client(person).whoami()
        expect(me.subject == person, f"{person} is taken for {me.subject}")
    people = ", ".join([OWNER, *ROLES])
    return Seen(
        text=f"tenants {', '.join(TENANTS)}; people and jobs: {people}",
        facts={"tenants": list(TENANTS), "people": [OWNER, *ROLES]},
        lines=(f"{JOB} has no key: it shows the token that its cluster puts into a file",),
    )


def _with_file(path: Path, person: str) -> IdentityKey:
    key = IdentityKey.create(path, person)
    mode = stat.S_IMODE(path.stat().st_mode)
    expect(mode == _PRIVATE, f"{path} has mode {mode:o}")
    return key


def _without_file(play: Play) -> IdentityKey:
    """An identity has a key; the job's is forgotten at once, for its cluster vouches for it."""
    play.cluster.project(play.token_file, JOB)
    return IdentityKey(JOB, secrets.token_bytes(32))
