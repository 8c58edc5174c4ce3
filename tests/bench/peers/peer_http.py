"""A naive gateway over HTTP: FastAPI streams Arrow IPC of what pyarrow decrypts and decodes."""

from __future__ import annotations

import http.client
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fastapi
import fastapi.responses
import numpy as np
import peer_arrow
import pyarrow as pa
import pyarrow.parquet as pq
import turns
import uvicorn
from pyarrow.parquet import encryption as pe

_SERVE = "--serve"


def app(path: str) -> fastapi.FastAPI:
    found = fastapi.FastAPI()

    @found.get("/rows")
    def rows() -> fastapi.responses.StreamingResponse:
        return fastapi.responses.StreamingResponse(_messages(path))

    return found


def _messages(path: str) -> Iterator[bytes]:
    opened = pe.create_decryption_properties(footer_key=peer_arrow.KEY)
    with pq.ParquetFile(path, decryption_properties=opened) as file:
        sink = io.BytesIO()
        out = pa.ipc.new_stream(sink, file.schema_arrow)
        for batch in file.iter_batches(batch_size=peer_arrow.BATCH):
            out.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
        out.close()
        yield sink.getvalue()


def serve(path: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    server = uvicorn.Server(uvicorn.Config(app(path), log_config=None, access_log=False))
    server.run([listening])


def tokens(directory: Path) -> turns.Pass:
    peer_arrow.LOADERS["pme-fsl"](directory)
    path = str(directory / "pme-fsl" / "tokens.parquet")
    child = subprocess.Popen(
        [sys.executable, __file__, _SERVE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    port = int(child.stdout.readline())

    def one() -> Iterator[np.ndarray]:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/rows")
        with pa.ipc.open_stream(connection.getresponse()) as reader:
            for batch in reader:
                yield batch.column(0).flatten().to_numpy()
        connection.close()

    return one


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == _SERVE:
        threading.Thread(target=end_with_parent, daemon=True).start()
        serve(sys.argv[2])
    turns.take(
        {"naive-http": tokens}, f"fastapi {fastapi.__version__}, uvicorn {uvicorn.__version__}"
    )
