"""Bind a Unix socket that only this account can reach, or can put another in the place of."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def bind_private(directory: Path, name: str) -> socket.socket | None:
    """Listen on `directory/name` (0600), in place of what a killed process left there.

    Bound by way of the directory's descriptor: an address is 107 bytes at most.

    Returns:
        None where there are no such sockets, or where others could exchange this one.
    """
    if sys.platform != "linux":
        return None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid() or facts.st_mode & _OTHERS:
            sock.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
        sock.bind(f"/proc/self/fd/{fd}/{name}")
        os.chmod(name, 0o600, dir_fd=fd)  # before `listen`, so that nobody is connected
        sock.listen(128)
    except OSError:
        sock.close()
        return None  # a file system without sockets: HTTP serves all
    finally:
        os.close(fd)
    return sock
