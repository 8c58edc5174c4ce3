"""A child that does to pyarrow what must never happen in a serving process."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from gateway.process.channel import Channel


class _Deny(pe.KmsClient):  # type: ignore[misc]
    def __init__(self, keys: dict[str, bytes]) -> None:
        super().__init__()
        self._keys = keys

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        raise PermissionError

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        if master_key_identifier not in self._keys:
            raise PermissionError("no key")
        return self._keys[master_key_identifier]


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Touch a column whose key is missing, in the way `options["act"]` says."""
    message = channel.receive()
    keys = {name: bytes.fromhex(key) for name, key in message.body["keys"].items()}
    connection = pe.KmsConnectionConfig(kms_instance_id="x", kms_instance_url="x")
    factory = pe.CryptoFactory(lambda _: _Deny(keys))
    path = options["path"]
    properties = factory.file_decryption_properties(connection, pe.DecryptionConfiguration())
    if options["act"] == "metadata":
        pq.ParquetFile(path, decryption_properties=properties).metadata.row_group(0).column(
            0
        ).to_dict()
    elif options["act"] == "filter":
        pq.read_table(path, decryption_properties=properties, filters=[("f1", ">", 3)])
    elif options["act"] == "plain":
        pq.ParquetFile(path, decryption_properties=properties).read()
    channel.send("done")
