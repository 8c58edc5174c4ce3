"""Root keys in AWS KMS: `awskms:?region=eu-central-1`, by boto3 (extra `[aws]`).

One customer key per tenant and generation, found by its alias
`alias/<prefix>/<tenant>/<generation>`; its key material never leaves AWS. What a key is wrapped
for stands in the encryption context, which AWS binds and logs: tenant and generation in clear,
so that key policies can name them, the rest as a digest. Every use asks for the state of the
key first, so that one that is disabled or waits for its deletion is refused here too.

Deletion waits at least 7 days (`waiting_days`); until then an administrator of the account can
call it back. When it has passed, AWS forgets the alias too: the number of the newest generation
could come again then, for another key, which opens nothing of the old one. A kill between the
making of a key and its alias leaves a key without alias, which nothing uses.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote

from connectors import aws
from connectors.kms.root_keys import RootKeys
from gateway.errors import ConfigError, IntegrityError, KeyUnavailable

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_QUERY = {"region", "endpoint", "waiting_days"}
_WAITING_DAYS = range(7, 31)  # what ScheduleKeyDeletion takes
_LIMITS: dict[str, Any] = {"tries": 2, "connect_timeout": 2, "read_timeout": 3}
_NOT_OURS = {"InvalidCiphertextException", "IncorrectKeyException"}
_OTHER_KEY = "The ciphertext refers to"  # begins AWS's answer to a blob that names another key


def connect(parts: SplitResult, **_: Any) -> AwsKms:
    """The plug of `awskms:PREFIX?region=…&endpoint=…&waiting_days=…`; all of it optional.

    Raises:
        ConfigError: the URI says something else.
        ConnectorError: boto3 is not installed.
    """
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    prefix = unquote(parts.path) or "dataset-gateway"
    days = query.get("waiting_days", "7")
    if parts.netloc or parts.fragment or not _PREFIX.match(prefix) or set(query) - _QUERY:
        raise ConfigError(
            "this does not name keys in AWS KMS", advice="write `awskms:?region=eu-central-1`"
        )
    if not days.isdecimal() or int(days) not in _WAITING_DAYS:
        raise ConfigError("AWS KMS keeps a deleted key for 7 to 30 days")
    return AwsKms(aws.client("kms", "awskms", query, **_LIMITS), prefix, int(days))


class AwsKms(RootKeys):
    """A `gateway.ports.Kms`."""

    service = "AWS KMS"
    seconds_max = 8.0

    def __init__(self, client: Any, prefix: str, waiting_days: int) -> None:
        """Use a boto3 client; nothing is asked yet."""
        super().__init__()
        self._client = client
        self._prefix = prefix
        self._waiting_days = waiting_days

    @property
    def custody(self) -> str:
        """Where the root keys are."""
        where = self._client.meta
        return (
            f"AWS KMS in {where.region_name} ({where.endpoint_url}), aliases `{self._alias('')}…`; "
            f"the keys never leave it; deletion takes {self._waiting_days} days"
        )

    def _alias(self, tenant: str) -> str:
        return f"alias/{self._prefix}/{tenant}"

    def _known(self, tenant: str) -> Mapping[int, bool]:
        prefix = f"{self._alias(tenant)}/"
        numbers = [
            int(alias["AliasName"].removeprefix(prefix))
            for page in self._client.get_paginator("list_aliases").paginate()
            for alias in page["Aliases"]
            if alias["AliasName"].startswith(prefix)
            and alias["AliasName"].removeprefix(prefix).isdecimal()
        ]
        return {number: self._facts(tenant, number)["KeyState"] == "Enabled" for number in numbers}

    def _make(self, tenant: str, generation: int) -> None:
        made = self._client.create_key(
            Description=f"Root key {generation} of tenant {tenant}, dataset gateway",
            KeySpec="SYMMETRIC_DEFAULT",
            KeyUsage="ENCRYPT_DECRYPT",
        )["KeyMetadata"]["KeyId"]
        try:
            alias = f"{self._alias(tenant)}/{generation}"
            self._client.create_alias(AliasName=alias, TargetKeyId=made)
        except Exception:
            self._client.schedule_key_deletion(KeyId=made, PendingWindowInDays=_WAITING_DAYS[0])
            raise

    def _wrap(self, root: tuple[str, int], key: bytes, place: bytes) -> bytes:
        wrapped = self._client.encrypt(
            KeyId=self._usable(*root), Plaintext=key, EncryptionContext=_context(root, place)
        )
        return bytes(wrapped["CiphertextBlob"])

    def _unwrap(self, root: tuple[str, int], wrapped: bytes, place: bytes) -> bytes:
        key_id = self._usable(*root)
        try:
            opened = self._client.decrypt(
                KeyId=key_id, CiphertextBlob=wrapped, EncryptionContext=_context(root, place)
            )
        except self._client.exceptions.ClientError as cause:
            if _code(cause) in _NOT_OURS or _message(cause).startswith(_OTHER_KEY):
                raise IntegrityError("a wrapped key does not open at this place") from None
            raise
        return bytes(opened["Plaintext"])

    def _destroy(self, tenant: str, generation: int) -> int:
        facts = self._facts(tenant, generation)
        if facts["KeyState"] != "PendingDeletion":
            facts = self._client.schedule_key_deletion(
                KeyId=facts["KeyId"], PendingWindowInDays=self._waiting_days
            )
        effective: int = math.ceil(facts["DeletionDate"].timestamp())
        return effective

    def _usable(self, tenant: str, generation: int) -> str:
        """Id of the key; KeyUnavailable unless it is enabled (a lenient service might use it)."""
        facts = self._facts(tenant, generation)
        if facts["KeyState"] != "Enabled":
            raise KeyUnavailable(
                f"root generation {generation} of `{tenant}` is {facts['KeyState']} in AWS KMS"
            )
        return str(facts["KeyId"])

    def _facts(self, tenant: str, generation: int) -> dict[str, Any]:
        try:
            alias = f"{self._alias(tenant)}/{generation}"
            found: dict[str, Any] = self._client.describe_key(KeyId=alias)["KeyMetadata"]
        except self._client.exceptions.NotFoundException as cause:
            raise KeyUnavailable(
                f"tenant `{tenant}` has no root generation {generation} in AWS KMS"
            ) from cause
        return found


def _context(root: tuple[str, int], place: bytes) -> dict[str, str]:
    tenant, generation = root
    digest = hashlib.sha256(place).hexdigest()
    return {"tenant": tenant, "generation": str(generation), "place": digest}


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))
