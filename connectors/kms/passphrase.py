"""Root keys in files that only a passphrase opens: `passphrase:?from=file:/run/secrets/gateway`.

The key that seals them is Argon2id (RFC 9106) of the passphrase, computed once when the plug is
made; `from` says where the passphrase is (secret_source.py), and the path, when there is one,
which directory. A copy of the whole disk without the passphrase shows no key; whoever reads the
memory of the running server, or the place that `from` names, has them.
Bytes: docs/formats/key-vault-v1.md.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from connectors.kms.local_file import LocalFileKms
from connectors.kms.secret_source import Variables, no_variables, read_secret
from gateway.crypto import private_files, strict_json
from gateway.crypto.envelope import KEY_BYTES, bound, seal, unseal
from gateway.errors import ConfigError, IntegrityError, KeyUnavailable, NotFound

_FORMAT = "passphrase-keyring-v1"
_KEYRING = "keyring.json"
_SALT_BYTES = 16
# RFC 9106 §4, second recommended option: 64 MiB, 3 passes, 4 lanes. A keyring may ask for
# more; for less it was not made by us, and for much more only to exhaust this machine.
_COSTS = {"memory_kib": (64 << 10, 1 << 20), "passes": (3, 16), "lanes": (4, 16)}


def connect(
    parts: SplitResult, *, config_dir: Path, variables: Variables = no_variables, **_: Any
) -> PassphraseKms:
    """The plug of `passphrase:`; without a path, `config_dir/roots`.

    Raises:
        ConfigError: the URI says no directory or no place of the passphrase.
        KeyUnavailable: the passphrase is not there, or is not this keyring's.
    """
    query = parse_qs(parts.query)
    if parts.netloc or parts.fragment or set(query) != {"from"} or len(query["from"]) != 1:
        raise ConfigError(
            "a passphrase keyring says where its passphrase is",
            advice="write `passphrase:?from=file:/path`, `from=env:NAME` or `from=credential:NAME`",
        )
    path = Path(unquote(parts.path)) if parts.path else config_dir / "roots"
    if not path.is_absolute():
        raise ConfigError(f"`{path}` is not an absolute path")
    source = query["from"][0]
    return PassphraseKms(path, read_secret(source, variables), source)


class PassphraseKms(LocalFileKms):
    """The file plug, with every root sealed under the key of the passphrase."""

    service = "the passphrase keyring"
    header = b"sealed-root-v1\n"

    def __init__(self, directory: Path, passphrase: str, source: str) -> None:
        """Open the keyring of the directory, or make one; about 0.3 s for Argon2id."""
        super().__init__(directory)
        self._source = source
        path = directory / _KEYRING
        try:
            self._key = _open(private_files.read_private(path, bytes_max=4096), passphrase)
        except NotFound:
            if any(directory.glob("*.root")):
                raise ConfigError(
                    f"`{directory}` holds root keys without a passphrase",
                    advice="use another directory; `file:` opens this one",
                ) from None
            self._key = _create(path, passphrase)

    @property
    def custody(self) -> str:
        """Where the root keys are."""
        return (
            f"sealed files in `{self._directory}`, opened by the passphrase of `{self._source}` "
            "(Argon2id); a copy of the disk without it has no key"
        )

    def _shut(self, key: bytes, tenant: str, generation: int) -> bytes:
        return seal(self._key, key, bound("sealed-root", tenant, generation))

    def _opened(self, data: bytes, tenant: str, generation: int) -> bytes:
        try:
            return unseal(self._key, data, bound("sealed-root", tenant, generation))
        except IntegrityError as cause:
            raise KeyUnavailable(
                f"root generation {generation} of `{tenant}` is not of this keyring"
            ) from cause


def _create(path: Path, passphrase: str) -> bytes:
    costs = {name: least for name, (least, _) in _COSTS.items()}
    salt = os.urandom(_SALT_BYTES)
    key = _derive(passphrase, salt, costs)
    check = seal(key, b"", _check(costs, salt))
    record = {
        "format": _FORMAT,
        "kdf": "argon2id",
        **costs,
        "salt": base64.b64encode(salt).decode("ascii"),
        "check": base64.b64encode(check).decode("ascii"),
    }
    private_files.create_private(path, strict_json.encode(record))
    return key


def _open(data: bytes, passphrase: str) -> bytes:
    try:
        record = strict_json.decode(data, bytes_max=4096)
        costs = {name: record[name] for name in _COSTS}
        salt = base64.b64decode(record["salt"], validate=True)
        check = base64.b64decode(record["check"], validate=True)
        is_known = (record["format"], record["kdf"]) == (_FORMAT, "argon2id")
    except (ValueError, KeyError, TypeError, binascii.Error) as cause:
        raise KeyUnavailable("the passphrase keyring cannot be read") from cause
    within = all(
        isinstance(costs[name], int) and least <= costs[name] <= most
        for name, (least, most) in _COSTS.items()
    )
    if not is_known or not within or len(salt) != _SALT_BYTES:
        raise KeyUnavailable("the passphrase keyring asks for costs outside the limits")
    key = _derive(passphrase, salt, costs)
    try:
        unseal(key, check, _check(costs, salt))
    except IntegrityError as cause:
        raise KeyUnavailable(
            "the passphrase does not open the keyring", advice="check the place `from` names"
        ) from cause
    return key


def _check(costs: dict[str, int], salt: bytes) -> bytes:
    return bound("passphrase-keyring", *(costs[name] for name in sorted(costs)), salt)


def _derive(passphrase: str, salt: bytes, costs: dict[str, int]) -> bytes:
    kdf = Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=costs["passes"],
        lanes=costs["lanes"],
        memory_cost=costs["memory_kib"],
    )
    return kdf.derive(passphrase.encode("utf-8"))
