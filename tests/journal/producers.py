"""A process that records events from many threads until it is killed; run by test_crashes.py.

Prints `<index> <route number>` for every event that was acknowledged as durable.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

from gateway.errors import Unavailable
from gateway.journal.journal import Journal
from tests.journal.places import opened, refused_request

THREADS = 8


def produce(journal: Journal, start: int) -> None:
    number = start
    while True:
        try:
            index = journal.append(refused_request(number, tenant=f"t{number % 5}"))
            journal.wait_durable(index)
        except Unavailable:
            return
        os.write(1, b"%d %d\n" % (index, number))
        number += THREADS


def main() -> int:
    base, file_bytes_max = Path(sys.argv[1]), int(sys.argv[2])
    journal = opened(base, segment_bytes=20_000 if file_bytes_max == 0 else 1 << 30)
    if file_bytes_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
    start = journal.size * 1000
    threads = [threading.Thread(target=produce, args=(journal, start + n)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 7  # only a journal that failed comes here


if __name__ == "__main__":
    sys.exit(main())
