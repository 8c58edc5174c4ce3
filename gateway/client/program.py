"""Which program streams: the digest of its code and its framework, told when a lease is opened."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FRAMEWORKS = ("torch", "jax", "tensorflow", "sklearn")  # the first that is loaded
FILES_MAX = 2000
BYTES_MAX = 64 << 20
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,64}\Z")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@cache
def code_digest() -> str | None:
    """SHA-256 hex over the program's own code, as it is loaded when it first streams.

    The main file and every module that was imported from its directory or below, but for
    installed packages: of each, in the order of their names, the name (UTF-8), a zero byte, and
    the SHA-256 of its bytes. None where there is no main file (a notebook), or too much of it.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:
        return None
    try:
        return _digest(Path(main).absolute())
    except OSError:
        return None


def _digest(main: Path) -> str | None:
    beneath = str(main.parent / "_")[:-1]
    found = (Path(name) for name in _loaded() if name.startswith(beneath))
    files = {path.relative_to(main.parent).as_posix(): path for path in (main, *found)}
    sizes = sum(path.stat().st_size for path in files.values())
    if len(files) > FILES_MAX or sizes > BYTES_MAX:
        return None
    whole = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes()).digest()
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + content)
    return whole.hexdigest()


def _loaded() -> Iterator[str]:
    """Absolute names of the source files of modules, but for Python's own and installed ones."""
    library = sysconfig.get_path("stdlib")
    for module in tuple(sys.modules.values()):
        # Of its own, not by asking: a lazy module would load itself.
        name = getattr(module, "__dict__", {}).get("__file__")
        if (
            isinstance(name, str)
            and name.endswith(".py")
            and not any(part in name for part in (library, *_INSTALLED))
        ):
            yield name


def framework() -> str | None:
    """Name and version of the training framework that is loaded, as `torch-2.13.0`."""
    for name in FRAMEWORKS:
        version = str(getattr(sys.modules.get(name), "__version__", ""))
        if _VERSION.match(version):
            return f"{name}-{version}"
    return None
