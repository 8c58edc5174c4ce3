"""The key file of an encrypted copy (docs/formats/export-keys-v1.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gateway.wire as W
from gateway.domain.manifest import leaf_names
from gateway.errors import IntegrityError

FORMAT = "gateway-export-keys/v1"
KEY_BYTES = 32


def column_paths(folder: Path, released: W.Export) -> dict[str, str]:
    """Where the leaves of the approved columns lie; every shard of a version is laid out alike.

    Opens one footer with its own key and looks at nothing but the schema: statistics of a
    column without key would abort the process.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe

    if not released.shards:
        return {}
    shard = released.shards[0]
    key = key_of(released.keys, shard.footer_key)
    connection = pe.KmsConnectionConfig(kms_instance_id="export", kms_instance_url="export")
    factory = pe.CryptoFactory(lambda _: _kms_of(shard.footer_key, key))
    properties = factory.file_decryption_properties(connection, pe.DecryptionConfiguration())
    try:
        file = pq.ParquetFile(folder / f"{shard.id}.parquet", decryption_properties=properties)
        paths = [file.schema.column(n).path for n in range(len(file.schema))]
        file.close()
    except (pa.ArrowException, OSError) as cause:
        raise IntegrityError("the first shard does not open with its footer key") from cause
    return leaf_names(paths)


def _kms_of(name: str, key: bytes) -> Any:
    """A KmsClient that knows one key."""
    import pyarrow.parquet.encryption as pe

    class OneKey(pe.KmsClient):  # type: ignore[misc]
        def wrap_key(self, *_: object) -> str:
            raise IntegrityError("nothing is written here")

        def unwrap_key(self, wrapped_key: str, _: str) -> bytes:
            if wrapped_key != name:
                raise IntegrityError("the file asks for another key than its footer's")
            return key

    return OneKey()


def key_of(keys: Mapping[str, str], name: str) -> bytes:
    """One key; IntegrityError when it is none."""
    try:
        key = base64.b64decode(keys[name], validate=True)
    except (KeyError, binascii.Error) as cause:
        raise IntegrityError("the export lacks a key that it names") from cause
    if len(key) != KEY_BYTES:
        raise IntegrityError("a key has another length than 32 bytes")
    return key


def key_file(released: W.Export, paths: Mapping[str, str]) -> dict[str, Any]:
    """The JSON value of the file."""
    return {
        "format": FORMAT,
        "algorithm": "AES_GCM_V1",
        "dataset": released.dataset,
        "dataset_id": released.dataset_id,
        "export": released.id,
        "decision": released.decision,
        "recipient": released.recipient,
        "purpose": released.purpose,
        "released_at": released.released_at,
        "columns": [
            {"name": c.name, "field_id": c.field_id, "physical": c.physical, "type": c.type}
            for c in released.columns
        ],
        "files": [_file(shard, released.keys, paths) for shard in released.shards],
        "keys": dict(released.keys),
    }


def _file(
    shard: W.ExportedShard, keys: Mapping[str, str], paths: Mapping[str, str]
) -> dict[str, Any]:
    missing = {*shard.column_keys} - {*paths}
    if missing:
        raise IntegrityError("the files have other columns than the export says")
    for name in (shard.footer_key, *shard.column_keys.values()):
        key_of(keys, name)
    return {
        "name": f"{shard.id}.parquet",
        "split": shard.split,
        "rows": shard.rows,
        "sha256": shard.sha256,
        "footer_key": shard.footer_key,
        "column_keys": {paths[leaf]: name for leaf, name in shard.column_keys.items()},
    }
