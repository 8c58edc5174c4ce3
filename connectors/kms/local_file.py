"""Root keys in 0600 files of one directory: the default KMS, `file:` or `file:///directory`.

It protects against copies of shards, catalogue and journal; not against a backup of the whole
disk, root, or the same account. One file per tenant and generation; a destroyed generation
leaves a mark, so that its number is never used again and a restored key file is not obeyed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote

from connectors.kms.root_keys import RootKeys, check_place
from gateway.crypto import private_files
from gateway.crypto.envelope import KEY_BYTES, seal, unseal
from gateway.errors import ConfigError, KeyUnavailable, NotFound

_FILE = re.compile(r"(.+)\.([1-9][0-9]{0,8})\.(root|destroyed)\Z")


def connect(parts: SplitResult, *, config_dir: Path, **_: Any) -> LocalFileKms:
    """The plug of `file:`; without a path, `config_dir/roots`. Raises ConfigError."""
    if parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"`{parts.geturl()}` is not a key directory", advice="write `file:///…`")
    path = Path(unquote(parts.path)) if parts.path else config_dir / "roots"
    if not path.is_absolute():
        raise ConfigError(f"`{path}` is not an absolute path")
    return LocalFileKms(path)


class LocalFileKms(RootKeys):
    """A `gateway.ports.Kms`. Threads of one process may share it; one process owns it."""

    service = "the key directory"
    header = b"root-key-v1\n"

    def __init__(self, directory: Path) -> None:
        """Open or make the directory and finish a destruction that was cut short."""
        super().__init__()
        private_files.make_private_dir(directory)
        self._directory = directory
        private_files.sweep(directory)
        for mark in directory.glob("*.destroyed"):
            if mark.with_suffix(".root").exists():
                self._wipe(mark.with_suffix(".root"))

    @property
    def custody(self) -> str:
        """Where the root keys are."""
        return f"0600 files in `{self._directory}`; whoever copies that directory has the keys"

    def _known(self, tenant: str) -> Mapping[int, bool]:
        try:
            matches = [_FILE.match(entry.name) for entry in self._directory.iterdir()]
        except OSError as cause:
            raise KeyUnavailable(f"`{self._directory}` cannot be read: {cause.strerror}") from cause
        found = {(int(m[2]), m[3]) for m in matches if m and m[1] == tenant}
        dead = {generation for generation, kind in found if kind == "destroyed"}
        return {generation: generation not in dead for generation, _ in found}

    def _make(self, tenant: str, generation: int) -> None:
        data = self.header + self._shut(os.urandom(KEY_BYTES), tenant, generation)
        private_files.create_private(self._path(tenant, generation), data)

    def _wrap(self, root: tuple[str, int], key: bytes, place: bytes) -> bytes:
        return seal(self._root(*root), key, place)

    def _unwrap(self, root: tuple[str, int], wrapped: bytes, place: bytes) -> bytes:
        return unseal(self._root(*root), wrapped, place)

    def _destroy(self, tenant: str, generation: int) -> None:
        """Mark, overwrite and remove; from the mark on the generation is dead.

        Overwriting in place does not reach copies that the file system or the disk made: where
        that matters, use a KMS in hardware.
        """
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
        if not data.startswith(self.header):
            raise KeyUnavailable(f"`{path}` is not a root key")
        key = self._opened(data[len(self.header) :], tenant, generation)
        if len(key) != KEY_BYTES:
            raise KeyUnavailable(f"`{path}` is not a root key")
        return key

    def _shut(self, key: bytes, _tenant: str, _generation: int) -> bytes:
        """What of the key is written to its file; here, the key."""
        return key

    def _opened(self, data: bytes, _tenant: str, _generation: int) -> bytes:
        """Undo `_shut`."""
        return data

    def _path(self, tenant: str, generation: int) -> Path:
        check_place(tenant, generation)
        return self._directory / f"{tenant}.{generation}.root"

    def _wipe(self, path: Path) -> None:
        if path.exists():
            with path.open("r+b") as file:
                file.write(b"\x00" * path.stat().st_size)
                file.flush()
                os.fsync(file.fileno())
        private_files.remove_durably(path)
