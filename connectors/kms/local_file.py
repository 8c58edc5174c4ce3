"""Root keys in 0600 files of one directory: the default KMS, `file:` or `file:///directory`.

It protects against copies of shards, catalogue and journal; not against a backup of the whole
disk, root, or the same account. One file per tenant and generation; a destroyed generation
leaves a mark, so that its number is never used again and a restored key file is not obeyed.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from urllib.parse import SplitResult, unquote

from gateway.crypto import private_files
from gateway.crypto.envelope import KEY_BYTES, bound, seal, unseal
from gateway.errors import ConfigError, InvalidInput, KeyUnavailable, NotFound

_TENANT = re.compile(r"_?[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_FILE = re.compile(r"(.+)\.([1-9][0-9]{0,8})\.(root|destroyed)\Z")
_HEADER = b"root-key-v0\n"


def connect(parts: SplitResult, *, config_dir: Path) -> LocalFileKms:
    """The plug of `file:`; without a path, `config_dir/roots`. Raises ConfigError."""
    if parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"`{parts.geturl()}` is not a key directory", advice="write `file:///…`")
    path = Path(unquote(parts.path)) if parts.path else config_dir / "roots"
    if not path.is_absolute():
        raise ConfigError(f"`{path}` is not an absolute path")
    return LocalFileKms(path)


class LocalFileKms:
    """A `gateway.ports.Kms`. Threads of one process may share it; one process owns it."""

    def __init__(self, directory: Path) -> None:
        """Open or make the directory and finish a destruction that was cut short."""
        private_files.make_private_dir(directory)
        self._directory = directory
        self._lock = threading.Lock()
        private_files.sweep(directory)
        for mark in directory.glob("*.destroyed"):
            if mark.with_suffix(".root").exists():
                self._wipe(mark.with_suffix(".root"))

    @property
    def custody(self) -> str:
        """Where the root keys are."""
        return f"0600 files in `{self._directory}`; whoever copies that directory has the keys"

    def create_root(self, tenant: str) -> int:
        """Make the next generation; numbers of destroyed ones are not used again."""
        with self._lock:
            generation = max((g for g, _ in self._files(tenant)), default=0) + 1
            data = _HEADER + os.urandom(KEY_BYTES)
            private_files.create_private(self._path(tenant, generation), data)
            return generation

    def generations(self, tenant: str) -> tuple[int, ...]:
        """Generations with a key and without the mark of destruction."""
        found = set(self._files(tenant))
        dead = {g for g, kind in found if kind == "destroyed"}
        return tuple(sorted(g for g, kind in found if kind == "root" and g not in dead))

    def wrap_key(self, key: bytes, *, tenant: str, generation: int, aad: bytes) -> bytes:
        """AES-256-GCM under the root, bound to tenant, generation and `aad`."""
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"a key to wrap has {KEY_BYTES} bytes")
        return seal(self._root(tenant, generation), key, _place(tenant, generation, aad))

    def unwrap_key(self, wrapped: bytes, *, tenant: str, generation: int, aad: bytes) -> bytes:
        """Undo `wrap_key`."""
        return unseal(self._root(tenant, generation), wrapped, _place(tenant, generation, aad))

    def destroy_root(self, tenant: str, generation: int) -> None:
        """Mark, overwrite and remove; from the mark on the generation is dead. Idempotent.

        Overwriting in place does not reach copies that the file system or the disk made: where
        that matters, use a KMS in hardware.
        """
        with self._lock:
            path = self._path(tenant, generation)
            mark = path.with_suffix(".destroyed")
            if not path.exists() and not mark.exists():
                raise KeyUnavailable(f"tenant `{tenant}` has no root generation {generation}")
            private_files.replace_private(mark, b"")
            self._wipe(path)

    def _root(self, tenant: str, generation: int) -> bytes:
        path = self._path(tenant, generation)
        if path.with_suffix(".destroyed").exists():
            raise KeyUnavailable(f"root generation {generation} of `{tenant}` was destroyed")
        try:
            data = private_files.read_private(path, bytes_max=4096)
        except NotFound as cause:
            raise KeyUnavailable(
                f"tenant `{tenant}` has no root generation {generation}"
            ) from cause
        if len(data) != len(_HEADER) + KEY_BYTES or not data.startswith(_HEADER):
            raise KeyUnavailable(f"`{path}` is not a root key")
        return data[len(_HEADER) :]

    def _files(self, tenant: str) -> list[tuple[int, str]]:
        self._path(tenant, 1)
        try:
            matches = [_FILE.match(entry.name) for entry in self._directory.iterdir()]
        except OSError as cause:
            raise KeyUnavailable(f"`{self._directory}` cannot be read: {cause.strerror}") from cause
        return [(int(m[2]), m[3]) for m in matches if m and m[1] == tenant]

    def _path(self, tenant: str, generation: int) -> Path:
        if not _TENANT.match(tenant) or not 1 <= generation < 10**9:
            raise InvalidInput(f"`{tenant[:80]}` generation {generation} cannot name a root key")
        return self._directory / f"{tenant}.{generation}.root"

    def _wipe(self, path: Path) -> None:
        if path.exists():
            with path.open("r+b") as file:
                file.write(b"\x00" * path.stat().st_size)
                file.flush()
                os.fsync(file.fileno())
        private_files.remove_durably(path)


def _place(tenant: str, generation: int, aad: bytes) -> bytes:
    return bound("root", tenant, generation, aad)
