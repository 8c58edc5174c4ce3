"""The KeySheet: the wrapped DEKs of one dataset version, by generation.

A DEK is wrapped under the KEK of its column group and bound to everything it is: tenant,
dataset, version of *origin*, shard, leaf, its id and the KEK's id. The sheet as a whole carries
a MAC under the dataset's KEK of the group `sheet`, so that no entry can be left out and no
generation renamed. Bytes: docs/formats/key-sheet-v1.md. No I/O here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.crypto import strict_json
from gateway.crypto.envelope import KEY_BYTES, bound, derive, seal, unseal
from gateway.errors import IntegrityError, InvalidInput

SHEET_BYTES_MAX = 64 << 20
SHEET_GROUP = "sheet"  # the KEK group that authenticates sheets; no column group
_FORMAT = "key-sheet-v1"
_MEMBERS = {"format", "tenant", "dataset_id", "version", "generation", "mac_key", "entries", "mac"}
_ENTRY = {"shard": str, "leaf": str, "origin_version": int, "kek": str, "wrapped": str}
_TEXT = re.compile(r"[\x21-\x7e]{1,200}\Z")
Identity = tuple[str, str, int]  # tenant, dataset id, version
UnwrapKek = Callable[[str], bytes]  # kek id -> 32 bytes, of the sheet's tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Dek:
    """A data key and what it is for."""

    id: str  # `<dataset-uuid>/<shard-uuid>/<field-id>`, never used for anything else
    key: bytes = field(repr=False)  # 32 bytes
    shard: str  # shard uuid
    leaf: str  # field id of the leaf, or `footer`
    origin_version: int  # the version that the shard was made for
    group: str = "data"  # column group: which KEK wraps it

    def __post_init__(self) -> None:
        """Refuse what could not be bound or read back."""
        if len(self.key) != KEY_BYTES or self.origin_version < 1 or self.group == SHEET_GROUP:
            raise InvalidInput("a DEK has 32 bytes, a version of origin and a column group")
        if not all(_TEXT.match(text) for text in (self.id, self.shard, self.leaf)):
            raise InvalidInput("ids of a DEK are 1 to 200 printable ASCII characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One wrapped DEK."""

    shard: str
    leaf: str
    origin_version: int
    kek: str
    wrapped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySheet:
    """A verified sheet."""

    tenant: str
    dataset_id: str
    version: int
    generation: int
    entries: Mapping[str, Entry]
    mac_key: str  # id of the KEK that authenticates it

    @classmethod
    def seal(
        cls,
        identity: Identity,
        generation: int,
        deks: Mapping[str, Dek],
        keks: Mapping[str, tuple[str, bytes]],
    ) -> tuple[KeySheet, bytes]:
        """Wrap the DEKs; returns the sheet and its bytes.

        Args:
            identity: tenant, dataset id, version.
            generation: 1, 2, …
            deks: by id.
            keks: id and key of the KEK of each group, and of the group `sheet`.
        """
        tenant, dataset_id, version = identity
        entries = {
            dek_id: _wrap(identity, dek_id, dek, keks[dek.group])
            for dek_id, dek in sorted(deks.items())
        }
        mac_key_id, mac_key = keks[SHEET_GROUP]
        sheet = cls(
            tenant=tenant,
            dataset_id=dataset_id,
            version=version,
            generation=generation,
            entries=entries,
            mac_key=mac_key_id,
        )
        body = sheet._body()
        return sheet, strict_json.encode({**body, "mac": _mac(mac_key, body)})

    @classmethod
    def open(cls, data: bytes, identity: Identity, unwrap_kek: UnwrapKek) -> KeySheet:
        """Verify the bytes of a sheet; IntegrityError for anything but what `seal` wrote."""
        try:
            body = strict_json.decode(data, bytes_max=SHEET_BYTES_MAX)
        except strict_json.NotStrictJson as cause:
            raise IntegrityError("a key sheet cannot be read") from cause
        if set(body) != _MEMBERS or body["format"] != _FORMAT:
            raise IntegrityError("a key sheet is of an unknown format")
        presented = body.pop("mac")
        mac_key_id = body["mac_key"]
        if (body["tenant"], body["dataset_id"], body["version"]) != identity:
            raise IntegrityError("a key sheet belongs to another version")
        if not isinstance(mac_key_id, str) or not mac_key_id.startswith(
            f"{identity[1]}/{SHEET_GROUP}/"
        ):
            raise IntegrityError("a key sheet names an impossible KEK")
        expected = _mac(unwrap_kek(mac_key_id), body)
        if not isinstance(presented, str) or not hmac.compare_digest(
            expected.encode(), presented.encode()
        ):
            raise IntegrityError("a key sheet was edited")
        return cls(
            tenant=identity[0],
            dataset_id=identity[1],
            version=identity[2],
            generation=_positive(body["generation"]),
            entries={dek_id: _entry(value) for dek_id, value in body["entries"].items()},
            mac_key=mac_key_id,
        )

    def require(self, identity: Identity) -> None:
        """Raise IntegrityError when the sheet is another version's."""
        if (self.tenant, self.dataset_id, self.version) != identity:
            raise IntegrityError("a key sheet belongs to another version")

    def require_generation(self, recorded: int) -> None:
        """Raise IntegrityError when the sheet is older than the one the journal recorded."""
        if self.generation < recorded:
            raise IntegrityError(
                f"the key sheet is of generation {self.generation}, the journal has {recorded}"
            )

    def unwrap(self, dek_ids: Iterable[str], unwrap_kek: UnwrapKek) -> dict[str, bytes]:
        """Open the named DEKs, asking once per KEK; IntegrityError when one is not listed."""
        keks: dict[str, bytes] = {}
        opened = {}
        for dek_id in dek_ids:
            entry = self.entries.get(dek_id)
            if entry is None:
                raise IntegrityError(f"the key sheet lacks `{dek_id}`")
            if entry.kek not in keks:
                keks[entry.kek] = unwrap_kek(entry.kek)
            opened[dek_id] = self._unwrap_one(dek_id, entry, keks[entry.kek])
        return opened

    def dek(self, dek_id: str, key: bytes) -> Dek:
        """The opened key with what the sheet says of it."""
        entry = self.entries[dek_id]
        return Dek(
            id=dek_id,
            key=key,
            shard=entry.shard,
            leaf=entry.leaf,
            origin_version=entry.origin_version,
            group=entry.kek.split("/")[1],
        )

    def _unwrap_one(self, dek_id: str, entry: Entry, kek: bytes) -> bytes:
        if entry.kek.split("/")[0] != self.dataset_id:
            raise IntegrityError("a key sheet names a KEK of another dataset")
        place = _place((self.tenant, self.dataset_id), dek_id, entry)
        return unseal(kek, entry.wrapped, place)

    def _body(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "tenant": self.tenant,
            "dataset_id": self.dataset_id,
            "version": self.version,
            "generation": self.generation,
            "mac_key": self.mac_key,
            "entries": {
                dek_id: {
                    "shard": entry.shard,
                    "leaf": entry.leaf,
                    "origin_version": entry.origin_version,
                    "kek": entry.kek,
                    "wrapped": base64.b64encode(entry.wrapped).decode("ascii"),
                }
                for dek_id, entry in self.entries.items()
            },
        }


def _wrap(identity: Identity, dek_id: str, dek: Dek, kek: tuple[str, bytes]) -> Entry:
    if dek_id != dek.id:
        raise InvalidInput(f"`{dek_id}` is listed for the DEK `{dek.id}`")
    kek_id, key = kek
    entry = Entry(
        shard=dek.shard,
        leaf=dek.leaf,
        origin_version=dek.origin_version,
        kek=kek_id,
        wrapped=b"",
    )
    return replace(entry, wrapped=seal(key, dek.key, _place(identity[:2], dek_id, entry)))


def _place(owner: tuple[str, str], dek_id: str, entry: Entry) -> bytes:
    return bound(
        "dek", *owner, entry.origin_version, entry.shard, entry.leaf, dek_id, entry.kek
    )  # fmt: skip


def _mac(kek: bytes, body: Mapping[str, Any]) -> str:
    key = derive(kek, "key-sheet-mac")
    return hmac.new(key, strict_json.encode(body), hashlib.sha256).hexdigest()


def _entry(value: Any) -> Entry:
    # The MAC held: this is what we wrote, checked again only against our own mistakes.
    if not isinstance(value, dict) or set(value) != set(_ENTRY):
        raise IntegrityError("an entry of a key sheet has other members than expected")
    if any(type(value[name]) is not kind for name, kind in _ENTRY.items()):
        raise IntegrityError("an entry of a key sheet has a member of another type")
    try:
        wrapped = base64.b64decode(value["wrapped"], validate=True)
    except (binascii.Error, ValueError) as cause:
        raise IntegrityError("an entry of a key sheet is not base64") from cause
    return Entry(**{**value, "wrapped": wrapped})


def _positive(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise IntegrityError("a key sheet has an impossible generation")
    return value
