"""Keys that sign: one for each use, named in the journal; that of tokens is renewed with overlap.

(1) the next key is made in a file beside the old one's; (2) one durable event introduces it: it
signs from here on; (3) it takes the old one's place, whose private half is gone. The public half
verifies until the last token it signed has ended, which the journal tells after any restart, too.
"""

from __future__ import annotations

import asyncio
import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import gateway.wire as W
from gateway import failpoints
from gateway.catalog.records import KeyRecord
from gateway.crypto import signing
from gateway.crypto.jws import LEEWAY_SECONDS
from gateway.crypto.signing import Signer
from gateway.crypto.tokens import TOKEN_SECONDS_MAX
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import ConfigError
from gateway.services.house import PLATFORM, House
from gateway.services.request_access import Caller, authorize
from gateway.wire.times import iso

OVERLAP_SECONDS = TOKEN_SECONDS_MAX + LEEWAY_SECONDS
TOKEN = "token"  # noqa: S105 - the use of a key


async def rotate(house: House, caller: Caller) -> dict[str, Any]:
    """Renew the key that signs tokens, one renewal after the other; for operators."""
    await authorize(house, caller, "operate", PLATFORM)
    async with house.turns.setdefault("signing keys", asyncio.Lock()):
        old, path = house.signers.token, _path(house)
        made = await asyncio.to_thread(signing.prepare, path, TOKEN)
        failpoints.reach("signing.made")
        await house.recorded(introduction(made, caller))
        failpoints.reach("signing.recorded")
        house.signers = dataclasses.replace(house.signers, token=made)
        await asyncio.to_thread(signing.take_prepared, path)
    until = house.catalog.keys()[-1].at + OVERLAP_SECONDS
    return {"kind": TOKEN, "key_id": made.key_id, "replaced": old.key_id, "until": iso(until)}


def introduction(signer: Signer, caller: Caller | None = None) -> EventDraft:
    """The event from which on a signature of this key counts."""
    return EventDraft(
        kind=EventKind.KeyIntroduced,
        owner_tenant=PLATFORM,
        actor_tenant=PLATFORM,
        actor=caller.subject.id if caller else None,
        facts={
            "use": signer.use,
            "key_id": signer.key_id,
            "public_key": signer.public_key.hex(),
        },
    )


def settle(house: House) -> None:
    """At a start: finish a renewal that was killed, or forget it when it was not recorded.

    A use without a key gets one, and so does that of tokens when its file was lost.

    Raises:
        ConfigError: the file holds a key of tokens that another one has followed.
    """
    introduced = house.catalog.keys()
    known = {key.use for key in introduced}
    if TOKEN in known:
        _settle_tokens(house, _of_tokens(house))
    for signer in house.signers.all:
        if signer.use not in known:
            house.record(introduction(signer))


def _settle_tokens(house: House, keys: list[KeyRecord]) -> None:
    path = _path(house)
    waiting = signing.prepared(path, TOKEN)
    if waiting is not None and waiting.key_id == keys[-1].key_id:
        house.signers = dataclasses.replace(house.signers, token=waiting)
        signing.take_prepared(path)
    elif waiting is not None:
        signing.drop_prepared(path)
    present = house.signers.token.key_id
    if present == keys[-1].key_id:
        return
    if present in {key.key_id for key in keys}:
        raise ConfigError(
            f"`{path}` is a signing key that was replaced since",
            advice="put back its newest copy, or remove it: then a new one is made",
        )
    house.record(introduction(house.signers.token))


def verifying(house: House) -> dict[str, bytes]:
    """Public keys that verify our tokens now, by key id."""
    present = house.signers.token
    ends = _ends(_of_tokens(house))
    kept = {k: bytes.fromhex(key.public_key) for k, (key, end) in ends.items() if house.now() < end}
    return {**kept, present.key_id: present.public_key}


def views(house: House) -> list[W.KeyView]:
    """Every signing key there was, and whether it signs, still verifies, or neither."""
    ends, introduced = _ends(_of_tokens(house)), house.catalog.keys()
    return [
        W.KeyView(
            id=key.key_id,
            kind="signing",
            name=key.use,
            state=_state(ends[key.key_id][1] if key.key_id in ends else None, house.now()),
            since=iso(key.at),
        )
        for key in introduced
    ]


def _state(end: float | None, now: float) -> str:
    if end is None:
        return "in use"
    return "verifies" if now < end else "retired"


def _ends(keys: list[KeyRecord]) -> dict[str, tuple[KeyRecord, float]]:
    """Until when a replaced key verifies (Unix seconds), by key id."""
    return {old.key_id: (old, new.at + OVERLAP_SECONDS) for old, new in pairwise(keys)}


def _of_tokens(house: House) -> list[KeyRecord]:
    introduced = house.catalog.keys()
    return [key for key in introduced if key.use == TOKEN]


def _path(house: House) -> Path:
    return house.settings.config_dir / "keys" / f"{TOKEN}.json"
