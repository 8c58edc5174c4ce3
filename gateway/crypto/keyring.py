"""The keyring: every key of one tenant that is not a DEK, in one sealed value.

    root key (in the KMS, one per tenant and generation)
     └─ file key, fresh at every write, wrapped by the root
         └─ KEKs, detail keys, the gateway's master secret: sealed together

One tenant, one file, one rename: a change of any size is whole or not there, no key can be left
out, added or put back, and another root is one call to the KMS for however many keys. Bytes:
docs/formats/key-vault-v1.md. No I/O here but the KMS.
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.crypto import strict_json
from gateway.crypto.envelope import KEY_BYTES, bound, seal, unseal
from gateway.crypto.strict_json import b64, unb64
from gateway.errors import IntegrityError, InvalidInput
from gateway.ports import Kms

RING_BYTES_MAX = 64 << 20
_FORMAT = "key-vault-v1"
_MEMBERS = {"format", "tenant", "generation", "root", "wrapped", "sealed"}
_NAME = re.compile(r"(?:kek|detail|secret)/[a-z0-9_/-]{1,200}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class KekId:
    """`<dataset id>/<column group>/<generation>`."""

    dataset_id: str
    group: str
    generation: int

    def __str__(self) -> str:
        return f"{self.dataset_id}/{self.group}/{self.generation}"

    @classmethod
    def parse(cls, text: str) -> KekId:
        """Read what `str` gave; ValueError for any other spelling."""
        dataset_id, group, generation = text.split("/")
        parsed = cls(dataset_id=dataset_id, group=group, generation=int(generation))
        if str(parsed) != text:
            raise ValueError(text)
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The opened keys of one tenant; held only as long as a call needs one of them."""

    tenant: str
    generation: int  # 1, 2, …: one more with each write
    root: int  # the root generation that wraps it
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # by `kind/name`

    def seal(self, kms: Kms) -> bytes:
        """The bytes of the file; KeyUnavailable without the root."""
        place = (self.tenant, self.generation, self.root)
        file_key = os.urandom(KEY_BYTES)
        named = {name: b64(key) for name, key in self.keys.items()}
        record = {
            "format": _FORMAT,
            "tenant": self.tenant,
            "generation": self.generation,
            "root": self.root,
            "wrapped": b64(
                kms.wrap_key(
                    file_key,
                    tenant=self.tenant,
                    generation=self.root,
                    aad=bound("keyring-key", *place),
                )
            ),
            "sealed": b64(seal(file_key, strict_json.encode(named), bound("keyring", *place))),
        }
        return strict_json.encode(record)

    @classmethod
    def open(cls, data: bytes, tenant: str, kms: Kms) -> Keyring:
        """Read the bytes of a tenant's file.

        Raises:
            IntegrityError: another tenant's, edited, or of a format nobody here knows.
            KeyUnavailable: the KMS does not answer, or the root was destroyed.
        """
        try:
            record = strict_json.decode(data, bytes_max=RING_BYTES_MAX)
            wrapped, sealed = (
                unb64(record.get("wrapped")),
                unb64(record.get("sealed")),
            )
        except (ValueError, TypeError, binascii.Error) as cause:
            raise IntegrityError(f"the keyring of `{tenant}` cannot be read") from cause
        if set(record) != _MEMBERS or record["format"] != _FORMAT:
            raise IntegrityError(f"the keyring of `{tenant}` is of an unknown format")
        if record["tenant"] != tenant:
            raise IntegrityError(f"the keyring of `{tenant}` belongs to another tenant")
        generation, root = _count(record["generation"]), _count(record["root"])
        place = (tenant, generation, root)
        file_key = kms.unwrap_key(
            wrapped, tenant=tenant, generation=root, aad=bound("keyring-key", *place)
        )
        if len(file_key) != KEY_BYTES:
            raise IntegrityError("the KMS gave back a key of another length")
        plain = unseal(file_key, sealed, bound("keyring", *place))
        return cls(tenant=tenant, generation=generation, root=root, keys=_keys(plain))

    def next(
        self,
        *,
        root: int | None = None,
        add: Mapping[str, bytes] | None = None,
        drop: Iterable[str] = (),
    ) -> Keyring:
        """The ring's next generation."""
        gone = set(drop)
        kept = {name: key for name, key in self.keys.items() if name not in gone}
        if any(not _NAME.match(name) or len(key) != KEY_BYTES for name, key in (add or {}).items()):
            raise InvalidInput("a key of a keyring has a name and 32 bytes")
        return Keyring(
            tenant=self.tenant,
            generation=self.generation + 1,
            root=self.root if root is None else root,
            keys={**kept, **(add or {})},
        )

    def keks(self, dataset_id: str | None = None) -> list[KekId]:
        """The KEKs, of one dataset if given, by id and generation."""
        start = "kek/" if dataset_id is None else f"kek/{dataset_id}/"
        found = [
            KekId.parse(name.removeprefix("kek/")) for name in self.keys if name.startswith(start)
        ]
        return sorted(found, key=lambda kek: (kek.dataset_id, kek.group, kek.generation))

    def newest(self, dataset_id: str, group: str) -> KekId | None:
        """The KEK that wraps what is new in a column group; None when there is none yet."""
        found = [kek for kek in self.keks(dataset_id) if kek.group == group]
        return found[-1] if found else None

    def kek(self, kek_id: str) -> bytes:
        """One KEK; IntegrityError when it is not there."""
        try:
            return self.keys[f"kek/{KekId.parse(kek_id)}"]
        except ValueError as cause:
            raise IntegrityError("a key sheet names an impossible KEK") from cause
        except KeyError as cause:
            raise IntegrityError(f"the KEK `{kek_id}` is missing in the vault") from cause


def _keys(plain: bytes) -> dict[str, bytes]:
    # The seal held: this is what we wrote, checked again only against our own mistakes.
    try:
        keys = {name: unb64(text) for name, text in strict_json.decode(
            plain, bytes_max=RING_BYTES_MAX
        ).items()}  # fmt: skip
    except (ValueError, TypeError, binascii.Error) as cause:
        raise IntegrityError("a keyring cannot be read") from cause
    if any(not _NAME.match(name) or len(key) != KEY_BYTES for name, key in keys.items()):
        raise IntegrityError("a keyring holds what is no key")
    return keys


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise IntegrityError("a keyring has an impossible generation")
    return value
