"""A history whose months expire one after the other, and a process that projects it.

    python -m tests.lineage.expiring DIRECTORY

It says `begin` when it has opened the projection, goes on where that is, and says `end`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from gateway.lineage.projection import Projection
from tests.lineage.history import History

KEY = b"k" * 32
MONTHS, USES, BATCH = 4, 8, 20
_MONTH = 31 * 86_400


def history() -> History:
    """Months of use; in each, the one before the last expires. The same at every call."""
    made = History()
    made.version("clinic/icu")
    long = made.lease(
        made.decide("startup/ml", "clinic/icu", run="run-long", valid=MONTHS * _MONTH)
    )
    for month in range(MONTHS):
        for use in range(USES):
            grant = made.decide("startup/ml", "clinic/icu", run=f"run-{month}-{use}")
            made.token(grant)
            made.read(made.lease(grant), [0, 1], 100)
            made.read(long, [month * USES + use], 10)
        made.finish("startup", f"run-{month}-0", model=f"model-{month}")
        made.clock += _MONTH
        if month >= 2:
            gone = time.strftime("%Y-%m", time.gmtime(made.clock - 3 * _MONTH))
            made.add("MonthExpired", "clinic", tenant="clinic", month=gone)
    return made


def project(directory: Path) -> Projection:
    """From where it is to the end, a batch at a time."""
    made, told = Projection(directory, KEY), history()
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    while made.projected < len(told.events):
        made.append(told.pairs(made.projected, made.projected + BATCH))
    return made


if __name__ == "__main__":
    project(Path(sys.argv[1])).close()
    sys.stdout.write("end\n")
