"""Keep a process from what it does not need: memory of others, limits, network, files."""

from __future__ import annotations

import ctypes
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.process.spawn import Confinement

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def hide_memory() -> None:
    """Make this process non-dumpable and without core: /proc/<pid>/mem answers EACCES."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def apply(limits: Confinement) -> None:
    """Apply rlimits (and, where the kernel has it, Landlock) to this process for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(resource.RLIMIT_DATA, limits.data_bytes_max)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds_max)
    _limit(resource.RLIMIT_NOFILE, limits.open_files_max)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes_max)


def _limit(which: int, value: int | None) -> None:
    if value is not None:
        resource.setrlimit(which, (value, value))
