"""Arrow Flight over loopback, plain or TLS: `do_get` of what an Arrow file in memory holds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_arrow
import pyarrow as pa
import turns
from pyarrow import flight

_SERVE = "--serve"


class Server(flight.FlightServerBase):
    """Hands out one mapped Arrow file."""

    def __init__(self, path: str, keys: str | None = None) -> None:
        """Serve `path` on a free port of loopback; `keys`: the directory of certificate and key."""
        if keys is None:
            super().__init__("grpc://127.0.0.1:0")
        else:
            pair = tuple((Path(keys) / name).read_bytes() for name in ("tls.crt", "tls.key"))
            super().__init__("grpc+tls://localhost:0", tls_certificates=[pair])
        self._path = path

    def do_get(self, context: Any, ticket: Any) -> Any:
        """All batches, by the fastest way there is in pyarrow."""
        reader = pa.ipc.open_file(pa.memory_map(self._path))
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
        return flight.GeneratorStream(reader.schema, batches)


def serve(path: str, keys: str | None = None) -> None:
    server = Server(path, keys)
    print(server.port, flush=True)
    server.serve()


def tokens(directory: Path) -> turns.Pass:
    port = _served(directory)
    return _read(flight.connect(f"grpc://127.0.0.1:{port}"))


def tokens_under_tls(directory: Path) -> turns.Pass:
    port = _served(directory, str(directory))
    roots = (directory / "tls.crt").read_bytes()
    return _read(flight.connect(f"grpc+tls://localhost:{port}", tls_root_certs=roots))


def _served(directory: Path, *keys: str) -> int:
    peer_arrow.ipc_tokens(directory)
    path = str(directory / "ipc-tokens" / "tokens.arrow")
    child = subprocess.Popen(
        [sys.executable, __file__, _SERVE, path, *keys],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    return int(child.stdout.readline())


def _read(client: Any) -> turns.Pass:
    def one() -> Iterator[np.ndarray]:
        for chunk in client.do_get(flight.Ticket(b"")):
            yield chunk.data.column(0).flatten().to_numpy()

    return one


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == _SERVE:
        threading.Thread(target=end_with_parent, daemon=True).start()
        serve(*sys.argv[2:])
    loaders = {"flight": tokens, "flight-tls": tokens_under_tls}
    turns.take(loaders, f"pyarrow {pa.__version__} Flight")
