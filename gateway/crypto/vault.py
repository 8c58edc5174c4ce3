"""The key vault: one keyring per tenant and one KeySheet per version, outside every other store.

    root key (in the KMS, one per tenant and generation)
     └─ keyring of the tenant                           rings/<tenant>.json
         ├─ KEK per (dataset, column group, generation)
         │   └─ DEK per (shard, leaf), in the KeySheet  sheets/<dataset>/<version>.json
         ├─ detail key per month
         └─ (`_gateway` alone) the master of the gateway's own secrets

Bytes: docs/formats/key-vault-v1.md and key-sheet-v1.md. One process (control) owns the
directory. A ring is opened by the KMS for each call and kept by nobody: when the KMS is down,
no new key can be had. Detail keys and secrets are kept in memory. Nothing that is missing is
made anew in silence: rings are made by `add_tenant` alone. Rotation and erasure: rewrap.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gateway import failpoints
from gateway.crypto import private_files, strict_json
from gateway.crypto.details import Expired
from gateway.crypto.envelope import KEY_BYTES, derive
from gateway.crypto.key_sheet import SHEET_GROUP, Dek, KeySheet
from gateway.crypto.keyring import RING_BYTES_MAX, KekId, Keyring
from gateway.errors import IntegrityError, InvalidInput, KeyUnavailable, NotFound
from gateway.ports import Kms

SYSTEM_TENANT = "_gateway"  # no tenant can have this name
SHEETS_KEPT = 16
KEYS_KEPT_MAX = 4096
_MASTER = "secret/master"
_TENANT = re.compile(r"_?[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_DATASET_ID = re.compile(r"[0-9a-f][0-9a-f-]{15,35}\Z")
_WORD = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])\Z")
_RESTORE = "put the newest copy of the key vault back; `gateway doctor` says what is missing"


class KeyVault:
    """Opens and makes keys; safe to call from several threads of its one process."""

    def __init__(self, directory: Path, kms: Kms) -> None:
        """Open or make the directory (0700) and remove what a killed write left behind."""
        private_files.make_private_dir(directory)
        private_files.sweep(directory)
        self.directory = directory
        self.kms = kms
        self.lock = threading.RLock()
        self._sheets: dict[Path, KeySheet] = {}
        self._kept: dict[tuple[str, str], bytes] = {}
        self._expired: set[tuple[str, str]] = set()  # tenant and month, as the journal says
        self._least: dict[str, int] = {}  # tenant -> oldest generation of its ring to believe

    def add_tenant(self, tenant: str) -> None:
        """Make the tenant's first root and its ring, durably; harmless when they are there."""
        with self.lock:
            path = self._ring_path(tenant)
            roots = self.kms.generations(tenant)
            root = roots[-1] if roots else self.kms.create_root(tenant)
            if path.exists():
                return
            keys = {_MASTER: os.urandom(KEY_BYTES)} if tenant == SYSTEM_TENANT else {}
            ring = Keyring(tenant=tenant, generation=1, root=root, keys=keys)
            private_files.make_private_dir(path.parent)
            private_files.create_private(path, ring.seal(self.kms))

    def require(self, tenant: str, generation: int) -> None:
        """Believe no ring of the tenant older than this one, which the journal recorded."""
        self._least[tenant] = max(generation, self._least.get(tenant, 0))

    def ring(self, tenant: str) -> Keyring:
        """The tenant's opened ring.

        Raises:
            IntegrityError: it is missing, edited, or older than one that was seen or recorded.
            KeyUnavailable: the KMS does not answer, or its root was destroyed.
        """
        path = self._ring_path(tenant)
        with self.lock:
            try:
                data = private_files.read_private(path, bytes_max=RING_BYTES_MAX)
            except NotFound as cause:
                raise IntegrityError(
                    f"the keyring of `{tenant}` is missing in the key vault", advice=_RESTORE
                ) from cause
            try:
                ring = Keyring.open(data, tenant, self.kms)
            except KeyUnavailable as error:
                if self._is_outlived(tenant, data):
                    error.advice = _RESTORE
                raise
            if ring.generation < self._least.get(tenant, 0):
                raise IntegrityError(
                    f"the keyring of `{tenant}` is of generation {ring.generation}, "
                    f"generation {self._least[tenant]} was there already",
                    advice=_RESTORE,
                )
            self.require(tenant, ring.generation)
            return ring

    def _is_outlived(self, tenant: str, data: bytes) -> bool:
        """Whether a ring that does not open names a root older than every root there is."""
        root = int(strict_json.decode(data, bytes_max=RING_BYTES_MAX)["root"])  # it was read
        try:
            return root < min(self.kms.generations(tenant), default=0)
        except KeyUnavailable:
            return False

    def put_ring(self, ring: Keyring) -> None:
        """Write a ring in place of the last one, durably."""
        with self.lock:
            private_files.replace_private(self._ring_path(ring.tenant), ring.seal(self.kms))
            self.require(ring.tenant, ring.generation)

    def new_sheet(self, tenant: str, dataset_id: str, version: int, deks: Mapping[str, Dek]) -> int:
        """Wrap all DEKs of a version into its KeySheet, durably, and return the generation.

        Each DEK is wrapped under the newest KEK of its group (made when there is none). A
        sheet that exists is replaced by the next generation; what the caller leaves out is
        gone. Each key of `deks` equals the `id` inside.

        Raises:
            IntegrityError: the sheet that is there does not verify.
            KeyUnavailable: the KMS does not answer; the old sheet stands.
        """
        with self.lock:
            path = self.sheet_path(dataset_id, version)
            ring = self._with_keks(tenant, dataset_id, {dek.group for dek in deks.values()})
            previous = self.read_sheet(tenant, dataset_id, version, ring.kek)
            sheet, data = KeySheet.seal(
                (tenant, dataset_id, version),
                previous.generation + 1 if previous else 1,
                deks,
                newest_keks(ring, dataset_id),
            )
            private_files.make_private_dir(path.parent)
            private_files.replace_private(path, data)
            self.keep_sheet(path, sheet)
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
        opened = self.deks(tenant, dataset_id, version, generation, dek_ids)
        return {dek_id: dek.key for dek_id, dek in opened.items()}

    def deks(
        self, tenant: str, dataset_id: str, version: int, generation: int, dek_ids: Iterable[str]
    ) -> dict[str, Dek]:
        """Like `open_deks`, with all that a later version's sheet must say of them."""
        with self.lock:  # ring and sheet of one moment: a rotation changes both
            ring = self.ring(tenant)
            sheet = self.read_sheet(tenant, dataset_id, version, ring.kek)
        if sheet is None:
            raise NotFound(f"version {version} of the dataset has no key sheet")
        sheet.require_generation(generation)
        opened = sheet.unwrap(dek_ids, ring.kek)
        return {dek_id: sheet.dek(dek_id, key) for dek_id, key in opened.items()}

    def dek_ids(self, tenant: str, dataset_id: str, version: int) -> tuple[str, ...]:
        """Ids in the version's sheet, sorted; NotFound when it has none."""
        with self.lock:
            if not self.sheet_path(dataset_id, version).exists():
                raise NotFound(f"version {version} of the dataset has no key sheet")
            sheet = self.read_sheet(tenant, dataset_id, version, self.ring(tenant).kek)
        return tuple(sorted(sheet.entries)) if sheet else ()

    def detail_key(self, tenant: str, month: str) -> bytes:
        """The key that seals details of a tenant in a month (`2026-11`, UTC); made if missing."""
        with contextlib.suppress(NotFound):
            return self.known_detail_key(tenant, month)
        with self.lock:
            try:
                return self.known_detail_key(tenant, month)
            except Expired:
                raise
            except NotFound:
                add = {f"detail/{month}": os.urandom(KEY_BYTES)}
                self.put_ring(self.ring(tenant).next(add=add))
                return self.known_detail_key(tenant, month)

    def known_detail_key(self, tenant: str, month: str) -> bytes:
        """The key that opens details of a month; NotFound when it is not there (see `expire`)."""
        if not _MONTH.match(month):
            raise InvalidInput(f"`{month[:80]}` is not a month", advice="write `2026-11`")
        if (tenant, month) in self._expired:
            raise Expired(f"the details of `{tenant}` in {month} have expired by retention")
        return self._kept_key(_tenant(tenant), f"detail/{month}")

    def expire(self, tenant: str, months: Iterable[str]) -> None:
        """Give no key of these months any more, and make none; `drop_months` destroys them."""
        for month in months:
            self._expired.add((tenant, month))
            self._kept.pop((tenant, f"detail/{month}"), None)

    def secret(self, name: str) -> bytes:
        """32 secret bytes of the gateway itself, the same ever after."""
        return derive(self._kept_key(SYSTEM_TENANT, _MASTER), "secret", _word(name, "secret"))

    def _kept_key(self, tenant: str, name: str) -> bytes:
        kept = self._kept.get((tenant, name))
        if kept is not None:  # without the lock: whoever holds it may wait for the KMS
            return kept
        with self.lock:
            key = self._kept.get((tenant, name))
            if key is None:
                key = self.ring(tenant).keys.get(name)
                if key is None:
                    raise NotFound(f"the key vault has no `{name}` of `{tenant}`", advice=_RESTORE)
                if len(self._kept) >= KEYS_KEPT_MAX:
                    self._kept.clear()
                self._kept[tenant, name] = key
            return key

    def _with_keks(self, tenant: str, dataset_id: str, groups: Iterable[str]) -> Keyring:
        """The ring, with a KEK for each of these groups and for the sheet's own."""
        ring = self.ring(tenant)
        add = {}
        for group in {SHEET_GROUP, *groups}:
            if ring.newest(_dataset(dataset_id), _word(group, "column group")) is None:
                kek = KekId(dataset_id=dataset_id, group=group, generation=1)
                add[f"kek/{kek}"] = os.urandom(KEY_BYTES)
        if add:
            ring = ring.next(add=add)
            self.put_ring(ring)
            failpoints.reach("register.kek")
        return ring

    # Sheets

    def sheet_path(self, dataset_id: str, version: int) -> Path:
        """Where a version's sheet lies."""
        if not 1 <= version < 10**9:
            raise InvalidInput(f"`{version}` is not a version")
        return self.sheet_dir(dataset_id) / f"{version}.json"

    def sheet_dir(self, dataset_id: str) -> Path:
        """Where the sheets of a dataset lie."""
        return self.directory / "sheets" / _dataset(dataset_id)

    def read_sheet(
        self, tenant: str, dataset_id: str, version: int, kek: Callable[[str], bytes]
    ) -> KeySheet | None:
        """A verified sheet, from memory if it was read before; None when there is none."""
        path = self.sheet_path(dataset_id, version)
        kept = self._sheets.get(path)
        if kept is not None:
            kept.require((tenant, dataset_id, version))
            return kept
        try:
            data = private_files.read_private(path)
        except NotFound:
            return None
        sheet = KeySheet.open(data, (tenant, dataset_id, version), kek)
        self.keep_sheet(path, sheet)
        return sheet

    def keep_sheet(self, path: Path, sheet: KeySheet | None) -> None:
        """Remember the newest sheet of a path (None: it is gone)."""
        self._sheets.pop(path, None)
        if sheet is not None:
            self._sheets[path] = sheet
        while len(self._sheets) > SHEETS_KEPT:
            self._sheets.pop(next(iter(self._sheets)))

    def _ring_path(self, tenant: str) -> Path:
        return self.directory / "rings" / f"{_tenant(tenant)}.json"


def newest_keks(ring: Keyring, dataset_id: str) -> dict[str, tuple[str, bytes]]:
    """Id and key of the newest KEK of each group of a dataset."""
    newest = {kek.group: str(kek) for kek in ring.keks(dataset_id)}  # ascending: the last counts
    return {group: (kek_id, ring.kek(kek_id)) for group, kek_id in newest.items()}


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
