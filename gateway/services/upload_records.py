"""Open registrations on disk, so that an upload goes on after a restart of the gateway.

Beside its sealed parts, each registration's directory holds `registration` (who asked for
what, and the key of the parts; sealed under a secret of the vault) and one receipt a part
(sealed under that key). A part without a receipt never arrived. What cannot be opened is
nobody's and is swept. Bytes: docs/formats/upload-part-v0.md.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gateway.wire as W
from gateway.crypto.envelope import bound, derive, seal, unseal
from gateway.crypto.private_files import read_private, remove_durably, replace_private
from gateway.crypto.vault import KeyVault
from gateway.domain.access import Subject
from gateway.domain.dataset import DatasetRef
from gateway.errors import GatewayError
from gateway.services.request_access import Caller
from gateway.shards.parts import part_place
from gateway.wire import codec

_log = logging.getLogger("gateway.uploads")
_RECORD, _RECEIPT = "registration", ".receipt"
_BYTES_MAX = 8 << 20


@dataclass(slots=True, kw_only=True)
class Upload:
    """One open registration."""

    id: str
    caller: Caller
    ref: DatasetRef
    wanted: W.RegistrationRequest
    key: bytes = field(repr=False)
    directory: Path
    opened_at: float
    request_digest: str = ""  # keyed, of `wanted` as it came
    state: str = "open"
    operation: str | None = None  # that makes the version, while `committing`
    parts: dict[tuple[int, int], W.PartReceipt] = field(default_factory=dict)

    def part_path(self, place: tuple[int, int]) -> Path:
        """Where a part lies."""
        return self.directory / f"{place[0]}.{place[1]}"


def keep(vault: KeyVault, upload: Upload) -> None:
    """Write the registration itself, durably."""
    value = {
        "subject": asdict(upload.caller.subject),
        "wanted": codec.encode(upload.wanted),
        "request_digest": upload.request_digest,
        "key": upload.key.hex(),
        "opened_at": upload.opened_at,
    }
    key, aad = _sealing(vault, upload.id)
    replace_private(upload.directory / _RECORD, seal(key, json.dumps(value).encode(), aad))


def keep_receipt(upload: Upload, receipt: W.PartReceipt) -> None:
    """Write that a part arrived, durably; the part itself is durable already."""
    place = (receipt.file, receipt.n)
    aad = bound("upload-receipt", part_place(*place))
    data = seal(upload.key, json.dumps(codec.encode(receipt)).encode(), aad)
    replace_private(_receipt_path(upload, place), data)
    upload.parts[place] = receipt


def drop_receipt(upload: Upload, place: tuple[int, int]) -> None:
    """Forget a part before another one takes its place."""
    if upload.parts.pop(place, None) is not None:
        remove_durably(_receipt_path(upload, place))


def open_in(parts: Path) -> frozenset[str]:
    """Ids of the registrations that look open, found without a key."""
    return frozenset(path.parent.name for path in parts.glob(f"*/{_RECORD}"))


def recover(vault: KeyVault, parts: Path) -> list[Upload]:
    """Every registration that can be opened."""
    found = []
    for directory in sorted(path for path in parts.iterdir() if path.is_dir()):
        if not (directory / _RECORD).exists():
            continue
        try:
            found.append(_recovered(vault, directory))
        except (GatewayError, ValueError, KeyError, TypeError) as cause:
            _log.warning("an open registration cannot be read: %s", type(cause).__name__)
    return found


def _recovered(vault: KeyVault, directory: Path) -> Upload:
    key, aad = _sealing(vault, directory.name)
    sealed = read_private(directory / _RECORD, bytes_max=_BYTES_MAX)
    value: dict[str, Any] = json.loads(unseal(key, sealed, aad))
    subject = Subject(**{**value["subject"], "roles": tuple(value["subject"]["roles"])})
    wanted = codec.decode(W.RegistrationRequest, value["wanted"])
    upload = Upload(
        id=directory.name,
        caller=Caller(subject=subject, jti=""),
        ref=DatasetRef.parse(wanted.dataset),
        wanted=wanted,
        key=bytes.fromhex(value["key"]),
        directory=directory,
        opened_at=value["opened_at"],
        request_digest=value["request_digest"],
    )
    for path in directory.glob(f"*{_RECEIPT}"):
        file, _, number = path.name.removesuffix(_RECEIPT).partition(".")
        place = (int(file), int(number))
        data = unseal(upload.key, read_private(path), bound("upload-receipt", part_place(*place)))
        if upload.part_path(place).exists():
            upload.parts[place] = codec.decode(W.PartReceipt, json.loads(data))
    return upload


def _sealing(vault: KeyVault, upload_id: str) -> tuple[bytes, bytes]:
    return derive(vault.secret("uploads"), "upload", upload_id), bound("upload", upload_id)


def _receipt_path(upload: Upload, place: tuple[int, int]) -> Path:
    return upload.directory / f"{place[0]}.{place[1]}{_RECEIPT}"
