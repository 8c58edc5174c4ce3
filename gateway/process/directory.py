"""One process tree per state directory, and the file that says where it serves."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Self

from gateway.errors import ConfigError, Unavailable

FORMAT_FILE = "FORMAT"
FORMAT = "dataset-gateway-state v0.1"
ORPHAN_SECONDS_MAX = 15.0  # how long the processes of a killed parent may take to end
_SERVER_FILE = "server.json"
_POLL_SECONDS = 0.05


class DirectoryLock:
    """Two flocks, held as long as the tree (or an offline command) runs.

    `<state>/lock` is the parent's alone: somebody else's is refused at once. `<state>/members`
    is inherited by every process of the tree: after a parent was killed, its successor waits
    until the last of them has let go of the ports, the journal and the files.
    """

    def __init__(self, state_dir: Path) -> None:
        """Name the directory; nothing is taken yet."""
        self._directory = state_dir
        self._fds = contextlib.ExitStack()
        self.members = -1  # descriptor to hand down

    def __enter__(self) -> Self:
        check_format(self._directory)
        try:
            _take(self._open("lock"), 0.0)
            self.members = self._open("members")
            _take(self.members, ORPHAN_SECONDS_MAX)
        except BlockingIOError as cause:
            self._fds.close()
            raise ConfigError(
                f"another process uses `{self._directory}`",
                advice="stop the running server first, or use another state directory",
            ) from cause
        return self

    def __exit__(self, *_: object) -> None:
        self._fds.close()

    def _open(self, name: str) -> int:
        fd = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fds.callback(os.close, fd)
        return fd


def _take(fd: int, seconds: float) -> None:
    """Take the lock; BlockingIOError when somebody still has it after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_SECONDS)


def check_format(state_dir: Path) -> None:
    """Refuse a directory of another format version with one sentence."""
    try:
        found = (state_dir / FORMAT_FILE).read_text("utf-8").strip()
    except FileNotFoundError as cause:
        raise ConfigError(
            f"`{state_dir}` is not a gateway's state directory", advice="run `gateway init` first"
        ) from cause
    if found != FORMAT:
        raise ConfigError(
            f"`{state_dir}` has format `{found[:60]}`, this program reads `{FORMAT}`",
            advice="use the program version that wrote it, or a new state directory",
        )


class ServerFile:
    """`<runtime>/server.json` (0600): how the command line finds the running server."""

    def __init__(self, runtime_dir: Path, text: str) -> None:
        """Write it atomically."""
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = runtime_dir / _SERVER_FILE
        temporary = self._path.with_suffix(".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        temporary.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def read_server_file(runtime_dir: Path) -> dict[str, Any]:
    """What the running server wrote; raises Unavailable when none runs."""
    path = runtime_dir / _SERVER_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        os.kill(int(facts["pid"]), 0)
    except (OSError, ValueError, KeyError) as cause:
        raise Unavailable(
            "no gateway is running here", advice="start it: `gateway serve`"
        ) from cause
    return facts
