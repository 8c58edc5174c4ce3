"""A real PostgreSQL server of the test's own: not root, one password, gone at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Postgres:
    """`uri` has no password; libpq finds it in `passfile`."""

    uri: str
    passfile: Path
    bin: Path
    as_user: dict[str, Any]

    def psql(self, sql: str) -> str:
        done = subprocess.run(
            [self.bin / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", self.uri],
            input=sql,
            env={"PGPASSWORD": PASSWORD, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Skips where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = found[-1] if found else Path(shutil.which("initdb") or "/nowhere")
    if not initdb.exists():
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if not os.geteuid() else {}
    base = Path(tempfile.mkdtemp(prefix="gateway-pg-"))
    secret = base / "password"
    secret.write_text(PASSWORD)
    if as_user:
        for path in (base, secret):
            shutil.chown(path, as_user["user"], as_user["group"])
    run: dict[str, Any] = {"cwd": base, "stdout": subprocess.DEVNULL, **as_user}
    data = base / "data"
    options = ["-U", "owner", "-A", "scram-sha-256", "--pwfile", secret, "--no-sync", "-E", "UTF8"]
    subprocess.run([initdb, "-D", data, *options], check=True, **run)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", base]
    server = subprocess.Popen(
        [initdb.with_name("postgres"), "-D", data, "-p", str(port), *settings],
        stderr=subprocess.DEVNULL,
        **run,
    )
    try:
        _wait(port)
        passfile = base / "pgpass"
        passfile.write_text(f"127.0.0.1:{port}:*:owner:{PASSWORD}\n")
        passfile.chmod(0o600)
        uri = f"postgresql://owner@127.0.0.1:{port}/postgres"
        yield Postgres(uri, passfile, initdb.parent, as_user)
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(base, ignore_errors=True)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
