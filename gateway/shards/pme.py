"""Parquet Modular Encryption through pyarrow: exact settings and the keys behind them.

AES_GCM_V1, encrypted footer, every leaf under its own 256-bit key, single wrapping. The key
service that pyarrow talks to is a dictionary in this process: `wrap_key` returns only
`ref:<dek id>`, so that no key material, wrapped or not, enters a file. pyarrow caches by
token, hence a fresh factory and a random token for every file that is opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet.encryption as pe

from gateway.domain.manifest import FOOTER, dek_id
from gateway.errors import IntegrityError

_REFERENCE = "ref:"
KEY_BYTES = 32


class KeysOfOneFile(pe.KmsClient):  # type: ignore[misc]
    """Keeps the keys of one file by DEK id; `wipe` when the file is closed.

    pyarrow never frees a KmsClient, so this holds nothing but two small containers.
    """

    def __init__(self, prefix: str, keys: Mapping[str, bytes] | None = None) -> None:
        """Keys of the file whose DEK ids start with `prefix` (`<dataset>/<shard>/`)."""
        super().__init__()
        self._prefix = prefix
        self.keys = dict(keys or {})
        self.asked: set[str] = set()

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """Remember a key that pyarrow made."""
        if master_key_identifier in self.keys or len(key_bytes) != KEY_BYTES:
            raise IntegrityError(f"a second key was made for `{master_key_identifier}`")
        self.keys[master_key_identifier] = bytes(key_bytes)
        return _REFERENCE + master_key_identifier

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """Give a key, if it belongs to this file and this opening may have it."""
        name = master_key_identifier
        if wrapped_key != _REFERENCE + name or not name.startswith(self._prefix):
            raise IntegrityError("the file asks for a key of another file")
        if name not in self.keys:
            raise IntegrityError("the file asks for a key that this reader was not given")
        self.asked.add(name)
        return self.keys[name]

    def wipe(self) -> None:
        """Forget every key."""
        self.keys.clear()


def _connection() -> Any:
    # Keys are cached by token: a token used twice would share keys between openings.
    return pe.KmsConnectionConfig(
        kms_instance_id="gateway",
        kms_instance_url="gateway",
        key_access_token=secrets.token_hex(16),
    )


def writing(dataset_id: str, shard_id: str, leaves: Mapping[str, str]) -> tuple[Any, KeysOfOneFile]:
    """Properties for writing one file, and where its new keys will be.

    Args:
        dataset_id: uuid hex.
        shard_id: uuid hex, never used before.
        leaves: leaf name -> physical path; all leaves of the file, or they stay in clear.
    """
    client = KeysOfOneFile(dek_id(dataset_id, shard_id, ""))
    connection = _connection()
    configuration = pe.EncryptionConfiguration(
        dek_id(dataset_id, shard_id, FOOTER),
        column_keys={dek_id(dataset_id, shard_id, name): [path] for name, path in leaves.items()},
        encryption_algorithm="AES_GCM_V1",
        plaintext_footer=False,
        double_wrapping=False,
        data_key_length_bits=KEY_BYTES * 8,
        internal_key_material=True,
    )
    factory = pe.CryptoFactory(lambda _: client)
    return factory.file_encryption_properties(connection, configuration), client


def reading(prefix: str, keys: Mapping[str, bytes]) -> tuple[Any, KeysOfOneFile]:
    """Properties for reading one file with these keys (DEK id -> key) and no others."""
    client = KeysOfOneFile(prefix, keys)
    connection = _connection()
    factory = pe.CryptoFactory(lambda _: client)
    return factory.file_decryption_properties(connection, pe.DecryptionConfiguration()), client
