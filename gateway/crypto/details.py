"""Seal the free text and personal parts of a journal event, by tenant and month.

The clear leaf of the event keeps a commitment to the key, because AES-GCM does not commit: the
same sealed bytes cannot be shown to say something else under another key. Destroying a month's
key erases its details and leaves the journal's hashes whole. Bytes:
docs/formats/sealed-detail-v0.md.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any, Protocol

from gateway.crypto import strict_json
from gateway.crypto.envelope import bound, commitment, derive, seal, unseal
from gateway.errors import IntegrityError, InvalidInput, NotFound, TooLarge

DETAIL_BYTES_MAX = 256 << 10
_MEMBERS = {"sealed", "commitment", "key"}


class Expired(NotFound):
    """The key was destroyed when its month expired: what it sealed is gone for good."""


class DetailKeys(Protocol):
    """Where detail keys come from: `gateway.crypto.vault.KeyVault`."""

    def detail_key(self, tenant: str, month: str) -> bytes:
        """32 bytes for the tenant and month (`2026-11`); made when there are none."""
        ...

    def known_detail_key(self, tenant: str, month: str) -> bytes:
        """The same bytes; NotFound when they are not there."""
        ...


class DetailSealer:
    """Seals and opens details. Safe for several threads."""

    __slots__ = ("_keys",)

    def __init__(self, keys: DetailKeys) -> None:
        self._keys = keys

    def seal(self, tenant: str, month: str, place: str, value: Mapping[str, Any]) -> dict[str, str]:
        """Seal a JSON object to the one place where it belongs.

        Each place has its own key, derived from the month's, so no key seals many things.

        Args:
            tenant: whose detail it is.
            month: of the event, UTC: `2026-11`.
            place: unique for ever: node, boot, event index and field, such as `n1/b…/17/owner`.
            value: a JSON object of at most 256 KiB.

        Returns:
            `{"sealed": base64, "commitment": 64 hex characters, "key": "<tenant>/<month>"}`.

        Raises:
            InvalidInput: the value has no JSON, or the place is empty.
            TooLarge: over 256 KiB.
        """
        key = _key(self._keys.detail_key(tenant, month), place)
        try:
            plaintext = strict_json.encode(value)
        except (TypeError, ValueError) as cause:
            raise InvalidInput("a detail is a JSON object") from cause
        if len(plaintext) > DETAIL_BYTES_MAX:
            raise TooLarge(f"a detail has at most {DETAIL_BYTES_MAX} bytes")
        sealed = seal(key, plaintext, _place(tenant, month, place))
        return {
            "sealed": base64.b64encode(sealed).decode("ascii"),
            "commitment": commitment(key),
            "key": f"{tenant}/{month}",
        }

    def key_of(self, tenant: str, month: str, place: str) -> bytes:
        """The key of one place, which opens nothing else; NotFound when it was destroyed."""
        return _key(self._keys.known_detail_key(tenant, month), place)

    def unseal(
        self, tenant: str, month: str, place: str, sealed: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Undo `seal`.

        Raises:
            IntegrityError: sealed elsewhere, under another key, or edited.
            KeyUnavailable: the KMS does not answer.
            Expired: the key was destroyed, as the journal says.
        """
        if set(sealed) != _MEMBERS or sealed["key"] != f"{tenant}/{month}":
            raise IntegrityError("a sealed detail belongs to another key")
        try:
            key = _key(self._keys.known_detail_key(tenant, month), place)
        except Expired:
            raise
        except NotFound as cause:
            raise IntegrityError(
                f"the key of the details of `{tenant}` in {month} is missing", advice=cause.advice
            ) from cause
        stated = sealed["commitment"]
        is_ascii = isinstance(stated, str) and stated.isascii()
        if not is_ascii or not hmac.compare_digest(commitment(key), stated):
            raise IntegrityError("a sealed detail commits to another key")
        plaintext = unseal(key, _bytes(sealed["sealed"]), _place(tenant, month, place))
        try:
            return strict_json.decode(plaintext, bytes_max=DETAIL_BYTES_MAX)
        except strict_json.NotStrictJson as cause:
            raise IntegrityError("a sealed detail cannot be read") from cause


def _key(month_key: bytes, place: str) -> bytes:
    if not place:
        raise InvalidInput("a detail has a place")
    return derive(month_key, "detail", place)


def _place(tenant: str, month: str, place: str) -> bytes:
    return bound("detail", tenant, month, place)


def _bytes(text: Any) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as cause:
        raise IntegrityError("a sealed detail is not base64") from cause
    if base64.b64encode(data).decode("ascii") != text:
        raise IntegrityError("a sealed detail is not canonical base64")
    return data
