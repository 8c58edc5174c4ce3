"""The memory of a ring: slots that this process fills and one client reads.

A memfd without a name: it is gone with its last descriptor or mapping, however the processes
end. Sealed so that nobody can cut or grow it under the reader, and so that nobody but us, who
mapped it before, can ever write to it: F_SEAL_FUTURE_WRITE (Linux 5.1; memfd_create(2)).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Set as AbstractSet

import numpy as np

from gateway.domain.lease import CHUNK_BYTES_MAX
from gateway.errors import Unavailable
from gateway.wire.ring import SLOTS

_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h; the standard library has no name for it


class RingMemory:
    """SLOTS slots of CHUNK_BYTES_MAX bytes each."""

    def __init__(self) -> None:
        """Make and seal it; Unavailable where the system has no such memory."""
        try:
            fd = os.memfd_create("gateway-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except (AttributeError, OSError) as cause:
            raise Unavailable("this system has no sealed memory") from cause
        try:
            os.ftruncate(fd, SLOTS * CHUNK_BYTES_MAX)
            mapped = mmap.mmap(fd, SLOTS * CHUNK_BYTES_MAX)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _SEAL_FUTURE_WRITE
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
            self.descriptor = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as cause:
            raise Unavailable("this system cannot seal memory against writing") from cause
        finally:
            os.close(fd)
        facts = os.fstat(self.descriptor)
        self.name = f"{facts.st_dev}:{facts.st_ino}"
        self._bytes = np.frombuffer(mapped, dtype=np.uint8)
        self._used: set[int] = set()  # slots that may not be zero

    def slot(self, number: int) -> memoryview:
        """Return a slot to be filled."""
        start = number * CHUNK_BYTES_MAX
        self._used.add(number)
        return self._bytes.data[start : start + CHUNK_BYTES_MAX]

    def zero(self, number: int) -> None:
        """Overwrite a slot, unless it is zero."""
        if number in self._used:
            start = number * CHUNK_BYTES_MAX
            self._bytes[start : start + CHUNK_BYTES_MAX].fill(0)
            self._used.remove(number)

    def zero_all_but(self, kept: AbstractSet[int]) -> None:
        """Overwrite every slot that was filled and not yet zeroed, but for those in `kept`."""
        for number in self._used - kept:
            self.zero(number)

    def close_descriptor(self) -> None:
        """Close our copy of what the client was given."""
        os.close(self.descriptor)
