"""Keep a process from what it does not need: memory of others, limits, network, files.

Everything here is best effort by kernel: what a system lacks is said by `missing()` (shown by
`gateway doctor`), and a child starts all the same. Landlock and namespaces are called by
number through ctypes, since no library is needed for five system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.process.spawn import Confinement

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
# The same numbers on x86_64, aarch64 and every architecture added since 2011.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_RULE_PATH_BENEATH = 1
_VERSION_FLAG = 1
# include/uapi/linux/landlock.h: how many access rights each ABI handles
_FS_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_ON_A_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # execute write read truncate ioctl
_WRITE = (1 << 1) | _READ_FILE | _READ_DIR | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
_TCP_RIGHTS = 0b11  # bind and connect, ABI 4
_SCOPES = 0b11  # abstract sockets and signals, ABI 6
_ABI_TCP, _ABI_SCOPES = 4, 6
# What Python and Arrow read to start and to count the machine's cores.
_SYSTEM_PATHS = (
    "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime",
    "/dev/null", "/dev/zero", "/dev/urandom",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/self", "/sys/devices/system/cpu",
)  # fmt: skip


def hide_memory() -> None:
    """Make this process non-dumpable and without core: /proc/<pid>/mem answers EACCES."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def apply(limits: Confinement) -> None:
    """Apply network, Landlock and rlimits to this process and its children for ever.

    Call it while the process has one thread: both Landlock and the user namespace need that.
    """
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not limits.network:
            leave_network()
        if limits.sandboxed:
            restrict_files(limits.read_paths, limits.write_paths, network=limits.network)
    _limit(resource.RLIMIT_DATA, limits.data_bytes_max)
    if limits.cpu_seconds_max is not None:  # SIGXCPU first, which says why; then SIGKILL
        seconds = limits.cpu_seconds_max
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
    _limit(resource.RLIMIT_NOFILE, limits.open_files_max)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes_max)


def leave_network() -> bool:
    """Move into an empty network namespace (and drop root's powers); False if refused.

    The user namespace has no mapping on purpose: the process keeps its rights as owner of
    files and loses every capability.
    """
    return int(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET)) == 0


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 when there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, _syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG))


def restrict_files(
    read_paths: tuple[str, ...], write_paths: tuple[str, ...], *, network: bool
) -> bool:
    """Allow only these paths beneath, and what Python needs; False without Landlock.

    Args:
        read_paths: files or directories that may be read, with all below.
        write_paths: directories in which files may be made, read, renamed and removed.
        network: whether TCP may still be used (ABI 4 and newer can forbid it).
    """
    abi = landlock_abi()
    if not abi:
        return False
    handled = (1 << _FS_RIGHTS_OF_ABI.get(abi, 16)) - 1
    tcp = _TCP_RIGHTS if abi >= _ABI_TCP and not network else 0
    scopes = _SCOPES if abi >= _ABI_SCOPES and not network else 0
    attribute = struct.pack("=QQQ", handled, tcp, scopes)
    size = 24 if abi >= _ABI_SCOPES else 16 if abi >= _ABI_TCP else 8
    ruleset = _syscall(_LANDLOCK_CREATE, attribute, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    read = _READ_FILE | _READ_DIR
    try:
        for path in (*_SYSTEM_PATHS, *_python_paths(), *read_paths):
            _allow(ruleset, path, read & handled)
        for path in _import_roots():
            _allow(ruleset, path, _READ_DIR)
        for path in write_paths:
            _allow(ruleset, path, _WRITE & handled)
        return _syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), 0) == 0
    finally:
        os.close(ruleset)


def missing() -> tuple[str, ...]:
    """What this system lacks for confining children, one sentence each; () = nothing."""
    if sys.platform != "linux":
        return ("this system has neither Landlock nor namespaces: children are not confined",)
    lacks = []
    abi = landlock_abi()
    if not abi:
        lacks.append("the kernel has no Landlock: children can read what this account can")
    elif abi < _ABI_TCP:
        lacks.append(f"Landlock is version {abi}: it cannot forbid TCP (needs 4, Linux 6.7)")
    elif abi < _ABI_SCOPES:
        lacks.append(f"Landlock is version {abi}: children can signal others (needs 6)")
    if not _can_leave_network():
        lacks.append("user namespaces are refused: children keep their view of the network")
    return tuple(lacks)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now; 0 when it is gone or the system has no /proc."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * resource.getpagesize()
    return 0


def _can_leave_network() -> bool:
    # Asked of the settings, not tried: unshare in the asking process could not be undone.
    for name, least in (("user/max_user_namespaces", 1), ("user/max_net_namespaces", 1),
                        ("kernel/unprivileged_userns_clone", 1)):  # fmt: skip
        with contextlib.suppress(OSError, ValueError):
            if int(Path(f"/proc/sys/{name}").read_text("ascii")) < least:
                return False
    with contextlib.suppress(OSError, ValueError):
        name = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
        return int(Path(name).read_text("ascii")) == 0
    return True


def _python_paths() -> tuple[str, ...]:
    ours = str(Path(__file__).resolve().parent.parent)
    return (sys.prefix, sys.base_prefix, ours)


def _import_roots() -> tuple[str, ...]:
    # Listing, not reading: the directory that holds the package may hold more than code.
    return (str(Path(__file__).resolve().parent.parent.parent),)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be read either
    try:
        if not Path(path).is_dir():
            rights &= _ON_A_FILE
        rule = struct.pack("=Qi", rights, beneath)
        _syscall(_LANDLOCK_ADD, ctypes.c_int(ruleset), _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    return int(_libc().syscall(ctypes.c_long(number), *arguments))


def _limit(which: int, value: int | None) -> None:
    if value is not None:
        resource.setrlimit(which, (value, value))
