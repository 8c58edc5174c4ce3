"""The key vault: wrapped KEKs, KeySheets, detail keys and secrets, outside every other store.

    root key (in the KMS, one per tenant and generation)
     ├─ KEK per (dataset, column group, generation)     keks/<dataset>/<group>.<generation>.json
     │   └─ DEK per (shard, leaf), in the KeySheet      sheets/<dataset>/<version>.json
     ├─ detail key per (tenant, month)                  details/<tenant>/<month>.json
     └─ secrets of the gateway itself                   secrets/<name>.json

Bytes: docs/formats/key-vault-v1.md and key-sheet-v1.md. One process (control) owns the
directory. Every wrap is bound to what the key is for, so files moved, edited or taken from
another vault do not open. A KEK is unwrapped by the KMS for each call and kept by nobody:
when the KMS is down, no new key can be had. Detail keys and secrets are kept in memory.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import failpoints
from gateway.crypto import private_files, strict_json
from gateway.crypto.envelope import KEY_BYTES, bound
from gateway.crypto.key_sheet import SHEET_GROUP, Dek, KeySheet
from gateway.errors import IntegrityError, InvalidInput, NotFound
from gateway.ports import Kms

SYSTEM_TENANT = "_gateway"  # no tenant can have this name
_FORMAT = "key-vault-v1"
SHEETS_KEPT = 16
KEYS_KEPT_MAX = 4096
_TENANT = re.compile(r"_?[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_DATASET_ID = re.compile(r"[0-9a-f][0-9a-f-]{15,35}\Z")
_WORD = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])\Z")
_WRAPPED_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where one wrapped key lives, which root wraps it, and what it is bound to."""

    path: Path
    tenant: str
    identity: tuple[str | int, ...]  # first the kind: `kek`, `detail`, `secret`

    def aad(self) -> bytes:
        return bound("vault", *self.identity)


class KeyVault:
    """Opens and makes keys; safe to call from several threads of its one process."""

    def __init__(self, directory: Path, kms: Kms) -> None:
        """Open or make the directory (0700) and remove what a killed write left behind."""
        private_files.make_private_dir(directory)
        private_files.sweep(directory)
        self._directory = directory
        self._kms = kms
        self._lock = threading.RLock()
        self._sheets: dict[Path, KeySheet] = {}
        self._kept: dict[Path, bytes] = {}

    def create_kek(self, tenant: str, dataset_id: str, group: str) -> str:
        """Make the next KEK generation of a dataset's column group, durably.

        Returns:
            Its id, `<dataset_id>/<group>/<generation>`; new sheets use the newest one.
        """
        with self._lock:
            generation = max(self._kek_generations(dataset_id, group), default=0) + 1
            place = self._kek(tenant, dataset_id, group, generation)
            self._create(place, os.urandom(KEY_BYTES))
            failpoints.reach("register.kek")
            return f"{dataset_id}/{group}/{generation}"

    def new_sheet(self, tenant: str, dataset_id: str, version: int, deks: Mapping[str, Dek]) -> int:
        """Wrap all DEKs of a version into its KeySheet, durably, and return the generation.

        Each DEK is wrapped under the newest KEK of its group (made when there is none). A
        sheet that exists is replaced by the next generation; what the caller leaves out is
        gone. Each key of `deks` equals the `id` inside.

        Raises:
            IntegrityError: the sheet that is there does not verify.
            KeyUnavailable: the KMS does not answer; the old sheet stands.
        """
        with self._lock:
            path = self._sheet_path(dataset_id, version)
            previous = self._read_sheet(path, tenant, dataset_id, version)
            keks = {
                group: self._newest_kek(tenant, dataset_id, group)
                for group in sorted({SHEET_GROUP, *(dek.group for dek in deks.values())})
            }
            sheet, data = KeySheet.seal(
                (tenant, dataset_id, version),
                previous.generation + 1 if previous else 1,
                deks,
                keks,
            )
            private_files.make_private_dir(path.parent)
            private_files.replace_private(path, data)
            self._keep_sheet(path, sheet)
            return sheet.generation

    def open_deks(
        self, tenant: str, dataset_id: str, version: int, generation: int, dek_ids: Iterable[str]
    ) -> dict[str, bytes]:
        """Unwrap DEKs of a version.

        Args:
            tenant: the owner.
            dataset_id: uuid hex of the dataset.
            version: of the dataset.
            generation: the one the journal recorded; a later sheet is accepted, an older not.
            dek_ids: which; all or nothing.

        Raises:
            NotFound: the version has no sheet.
            IntegrityError: the sheet is older, of another identity, edited, or lacks an id.
            KeyUnavailable: the KMS does not answer, or the root was destroyed.
        """
        sheet = self._require_sheet(tenant, dataset_id, version)
        sheet.require_generation(generation)
        return sheet.unwrap(dek_ids, self._unwrap_kek)

    def deks(
        self, tenant: str, dataset_id: str, version: int, generation: int, dek_ids: Iterable[str]
    ) -> dict[str, Dek]:
        """Like `open_deks`, with all that a later version's sheet must say of them."""
        sheet = self._require_sheet(tenant, dataset_id, version)
        opened = self.open_deks(tenant, dataset_id, version, generation, dek_ids)
        return {dek_id: sheet.dek(dek_id, key) for dek_id, key in opened.items()}

    def dek_ids(self, tenant: str, dataset_id: str, version: int) -> tuple[str, ...]:
        """Ids in the version's sheet, sorted; NotFound when it has none."""
        return tuple(sorted(self._require_sheet(tenant, dataset_id, version).entries))

    def detail_key(self, tenant: str, month: str) -> bytes:
        """The key for details of a tenant in a month (`2026-11`, UTC); made at first use."""
        if not _MONTH.match(month):
            raise InvalidInput(f"`{month[:80]}` is not a month", advice="write `2026-11`")
        path = self._directory / "details" / _tenant(tenant) / f"{month}.json"
        place = _Place(path=path, tenant=tenant, identity=("detail", tenant, month))
        return self._kept_key(place)

    def secret(self, name: str) -> bytes:
        """32 random bytes of the gateway itself, made at first use and the same ever after."""
        path = self._directory / "secrets" / f"{_word(name, 'secret')}.json"
        place = _Place(path=path, tenant=SYSTEM_TENANT, identity=("secret", name))
        return self._kept_key(place)

    def _kept_key(self, place: _Place) -> bytes:
        with self._lock:
            key = self._kept.get(place.path)
            if key is None:
                try:
                    key = self._open(place)
                except NotFound:
                    key = os.urandom(KEY_BYTES)
                    self._create(place, key)
                if len(self._kept) >= KEYS_KEPT_MAX:
                    self._kept.clear()
                self._kept[place.path] = key
            return key

    # KEKs

    def _newest_kek(self, tenant: str, dataset_id: str, group: str) -> tuple[str, bytes]:
        if not self._kek_generations(dataset_id, group):
            self.create_kek(tenant, dataset_id, group)
        generation = max(self._kek_generations(dataset_id, group))
        kek_id = f"{dataset_id}/{group}/{generation}"
        return kek_id, self._open(self._kek(tenant, dataset_id, group, generation))

    def _unwrap_kek(self, tenant: str, kek_id: str) -> bytes:
        try:
            dataset_id, group, generation = kek_id.split("/")
            place = self._kek(tenant, dataset_id, group, int(generation))
            return self._open(place)
        except (ValueError, InvalidInput) as cause:
            raise IntegrityError("a key sheet names an impossible KEK") from cause
        except NotFound as cause:
            raise IntegrityError(f"the KEK `{kek_id}` is missing in the vault") from cause

    def _kek(self, tenant: str, dataset_id: str, group: str, generation: int) -> _Place:
        return _Place(
            path=self._kek_dir(dataset_id) / f"{_word(group, 'column group')}.{generation}.json",
            tenant=_tenant(tenant),
            identity=("kek", tenant, dataset_id, group, generation),
        )

    def _kek_dir(self, dataset_id: str) -> Path:
        return self._directory / "keks" / _dataset(dataset_id)

    def _kek_generations(self, dataset_id: str, group: str) -> list[int]:
        found = self._kek_dir(dataset_id).glob(f"{_word(group, 'column group')}.*.json")
        numbers = (path.name.split(".")[1] for path in found)
        return [int(number) for number in numbers if number.isdecimal()]

    # Sheets

    def _sheet_path(self, dataset_id: str, version: int) -> Path:
        if not 1 <= version < 10**9:
            raise InvalidInput(f"`{version}` is not a version")
        return self._directory / "sheets" / _dataset(dataset_id) / f"{version}.json"

    def _read_sheet(
        self, path: Path, tenant: str, dataset_id: str, version: int
    ) -> KeySheet | None:
        kept = self._sheets.get(path)
        if kept is not None:
            kept.require((tenant, dataset_id, version))
            return kept
        try:
            data = private_files.read_private(path)
        except NotFound:
            return None
        sheet = KeySheet.open(data, (tenant, dataset_id, version), self._unwrap_kek)
        self._keep_sheet(path, sheet)
        return sheet

    def _require_sheet(self, tenant: str, dataset_id: str, version: int) -> KeySheet:
        with self._lock:
            path = self._sheet_path(dataset_id, version)
            sheet = self._read_sheet(path, tenant, dataset_id, version)
        if sheet is None:
            raise NotFound(f"version {version} of the dataset has no key sheet")
        return sheet

    def _keep_sheet(self, path: Path, sheet: KeySheet) -> None:
        self._sheets.pop(path, None)
        self._sheets[path] = sheet
        while len(self._sheets) > SHEETS_KEPT:
            self._sheets.pop(next(iter(self._sheets)))

    # Wrapped keys

    def _create(self, place: _Place, key: bytes) -> None:
        generations = self._kms.generations(place.tenant)
        root = generations[-1] if generations else self._kms.create_root(place.tenant)
        wrapped = self._kms.wrap_key(key, tenant=place.tenant, generation=root, aad=place.aad())
        record = {
            "format": _FORMAT,
            "identity": list(place.identity),
            "root": {"tenant": place.tenant, "generation": root},
            "wrapped": base64.b64encode(wrapped).decode("ascii"),
        }
        private_files.make_private_dir(place.path.parent)
        private_files.create_private(place.path, strict_json.encode(record))

    def _open(self, place: _Place) -> bytes:
        data = private_files.read_private(place.path, bytes_max=_WRAPPED_BYTES_MAX)
        wrapped, root = _parse(data, place)
        key = self._kms.unwrap_key(wrapped, tenant=place.tenant, generation=root, aad=place.aad())
        if len(key) != KEY_BYTES:
            raise IntegrityError("the KMS gave back a key of another length")
        return key


def _parse(data: bytes, place: _Place) -> tuple[bytes, int]:
    try:
        record = strict_json.decode(data, bytes_max=_WRAPPED_BYTES_MAX)
        if set(record) != {"format", "identity", "root", "wrapped"}:
            raise IntegrityError("a wrapped key has other members than expected")
        if record["format"] != _FORMAT:
            raise IntegrityError("a wrapped key is of an unknown format")
        if record["identity"] != list(place.identity) or record["root"]["tenant"] != place.tenant:
            raise IntegrityError("a wrapped key belongs to another place")
        return base64.b64decode(record["wrapped"], validate=True), _count(record["root"])
    except (ValueError, KeyError, TypeError, binascii.Error) as cause:
        raise IntegrityError(f"`{place.path.name}` in the key vault cannot be read") from cause


def _count(root: Mapping[str, Any]) -> int:
    generation = root["generation"]
    if not isinstance(generation, int) or isinstance(generation, bool):
        raise IntegrityError("a wrapped key names an impossible root generation")
    return generation


def _tenant(text: str) -> str:
    if not _TENANT.match(text):
        raise InvalidInput(f"`{text[:80]}` cannot name a tenant")
    return text


def _dataset(text: str) -> str:
    if not _DATASET_ID.match(text):
        raise InvalidInput(f"`{text[:80]}` is not a dataset id")
    return text


def _word(text: str, what: str) -> str:
    if not _WORD.match(text):
        raise InvalidInput(f"`{text[:80]}` cannot name a {what}")
    return text
