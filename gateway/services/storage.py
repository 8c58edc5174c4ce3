"""Stored versions as the journal fixed them: Manifests verified, keys opened and committed to."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable

from gateway.crypto.envelope import commitment
from gateway.crypto.signing import Signer, open_document, sign_document
from gateway.domain.dataset import DatasetRef, DatasetVersion
from gateway.domain.manifest import Leaf, Manifest, Shard
from gateway.errors import IntegrityError, Unavailable
from gateway.ports import ObjectStore
from gateway.services.house import House


def seal_manifest(signer: Signer, manifest: Manifest) -> bytes:
    """The object as stored: a signed document whose payload holds the canonical bytes."""
    canonical = base64.b64encode(manifest.to_bytes()).decode()
    return json.dumps(sign_document(signer, {"manifest": canonical}), sort_keys=True).encode()


def load_manifest(house: House, ref: DatasetRef) -> Manifest:
    """Read a version's Manifest; IntegrityError unless it is the recorded and signed one."""
    version = version_of(house, ref)
    return read_manifest(house.store, house.signers.manifest.public_key, version)


def read_manifest(store: ObjectStore, public_key: bytes, version: DatasetVersion) -> Manifest:
    """As `load_manifest`, where there is no House, or of a version that was erased."""
    data = store.read(version.manifest_key)
    try:
        document = open_document(json.loads(data), public_key, "manifest")
        canonical = base64.b64decode(document["manifest"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error) as cause:
        raise IntegrityError(f"the manifest of `{version.ref}` cannot be read") from cause
    return Manifest.from_bytes(canonical, digest=version.manifest_digest)


def version_of(house: House, ref: DatasetRef) -> DatasetVersion:
    """The catalogue's record of a version (the newest when none is named)."""
    return house.catalog.version(ref)


def open_keys(house: House, version: DatasetVersion, leaves: Iterable[Leaf]) -> dict[str, bytes]:
    """DEKs of these leaves, each equal to the key the Manifest commits to.

    Raises:
        IntegrityError: the vault holds another key, an older sheet, or none.
        KeyUnavailable: the KMS does not answer.
    """
    wanted = list(leaves)
    keys = house.vault.open_deks(
        version.ref.tenant,
        version.dataset_id,
        version.ref.version or 0,
        version.sheet_generation,
        [leaf.dek for leaf in wanted],
    )
    for leaf in wanted:
        if commitment(keys[leaf.dek]) != leaf.commitment:
            raise IntegrityError("the vault holds another key than the manifest commits to")
    return keys


def local_path(house: House, shard: Shard) -> str:
    """Where a worker on this host can map a shard; of a remote store, after `fetch.under_way`."""
    path = house.store.local_path(shard.object_key)
    if path is None:
        raise Unavailable("a shard is not on this host any more", advice="open the stream again")
    return path
