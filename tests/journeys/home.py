"""A whole gateway in a temporary directory: started, killed, restarted as people do it.

    home = Home.make(tmp_path)          # gateway init
    home.start()                        # gateway serve; the same port at every start
    home.client().datasets.list()
    home.kill("control")                # SIGKILL; the tree mends itself, or `home.revive()`
    home.stop()                         # SIGTERM, and nobody is left

Processes are found by the session that `gateway serve` leads, so that orphans are seen too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.client import GatewayClient
from gateway.config import Settings
from gateway.errors import Unavailable
from gateway.process.directory import read_server_file

START_SECONDS_MAX = 90.0
END_SECONDS_MAX = 15.0
KINDS = {
    "gateway.api.control": "control",
    "gateway.delivery.worker": "worker",
    "gateway.lineage.main": "lineage",
    "gateway.lineage.sandbox": "sandbox",
    "gateway.shards.parser": "parser",
    "gateway.shards.sealer": "sealer",
    "gateway.shards.decoder": "decoder",
    "gateway.shards.counter": "counter",
    "gateway.journal.file_spans": "verifier",
    "gateway.lineage.file_rows": "projector",
}


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a home."""

    pid: int
    kind: str  # `parent` or a value of KINDS

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


@dataclass(slots=True)
class Home:
    """One installation; at most one server of it runs."""

    root: Path
    port: int
    workers: int = 1
    variables: dict[str, str] = field(default_factory=dict)  # of every command, besides
    sessions: list[int] = field(default_factory=list)  # leaders of all servers so far
    parent: subprocess.Popen[bytes] | None = None
    _starting: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def make(cls, root: Path, *, workers: int = 1, variables: dict[str, str] | None = None) -> Home:
        """`gateway init` in an empty directory."""
        home = cls(root, _free_port(), workers, variables or {})
        home.run("init")
        return home

    @property
    def settings(self) -> Settings:
        """Where everything of this home is."""
        return Settings(
            state_dir=self.root / "state" / "dataset-gateway",
            config_dir=self.root / "config" / "dataset-gateway",
            runtime_dir=self.root / "run" / "dataset-gateway",
            server=f"http://127.0.0.1:{self.port}",
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find this home and no other."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            **self.variables,
        }

    def run(self, *words: str, expect: int = 0) -> str:
        """`gateway WORDS…`; its standard output."""
        done = subprocess.run(
            [*_COMMAND, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, f"{words} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def client(
        self, key_file: Path | None = None, *, patience_seconds: int = 60, delivery: str = "auto"
    ) -> GatewayClient:
        """A client of this home's server, as its owner or as whoever has the key."""
        settings = replace(self.settings, patience_seconds=patience_seconds, delivery=delivery)
        return GatewayClient(settings=settings, key_file=key_file)

    @property
    def log(self) -> Path:
        """Standard error of all servers of this home."""
        return self.root / "serve.log"

    def start(self) -> None:
        """`gateway serve`, until it serves."""
        words = ("serve", "--port", str(self.port), "--data-workers", str(self.workers))
        with self.log.open("ab") as log:
            self.parent = subprocess.Popen(
                [*_COMMAND, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.sessions.append(self.parent.pid)
        self._wait_serving()

    @contextlib.contextmanager
    def serving(self, *flags: str) -> Iterator[GatewayClient]:
        """`gateway serve FLAGS` at some free port, under TLS say, until the block ends."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*_COMMAND, "serve", "--port", "0", *flags],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.sessions.append(process.pid)

        def is_up() -> bool:
            assert process.poll() is None, self._last_words()
            with contextlib.suppress(Unavailable):
                return bool(read_server_file(self.settings.runtime_dir)["pid"] == process.pid)
            return False

        try:
            wait(is_up, START_SECONDS_MAX, "the server does not serve")
            yield GatewayClient(settings=replace(self.settings, server=None))
        finally:
            process.terminate()
            process.wait(30)

    def _wait_serving(self) -> None:
        parent = self.parent
        assert parent is not None

        def serves() -> bool:
            assert parent.poll() is None, f"the server ended: {self._last_words()}"
            with contextlib.suppress(Unavailable):
                facts = read_server_file(self.settings.runtime_dir)
                assert facts["pid"] != parent.pid or facts["url"] == self.settings.server
                return facts["pid"] == parent.pid and self.is_ready
            return False

        wait(serves, START_SECONDS_MAX, "the server does not serve")

    @property
    def is_ready(self) -> bool:
        """Whether the API answers /readyz with 200."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as sock:
                sock.settimeout(2)
                sock.sendall(
                    b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
                )
                return sock.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    @property
    def is_up(self) -> bool:
        """Whether the parent lives."""
        return self.parent is not None and self.parent.poll() is None

    def revive(self) -> None:
        """Wait until it serves again; start it again when its parent is gone."""
        with self._starting:
            if self.is_up:
                wait(lambda: self.is_ready or not self.is_up, START_SECONDS_MAX, "not ready")
            if not self.is_up:
                self.start()

    def processes(self) -> list[Process]:
        """Everybody alive of every server this home ever had."""
        return [
            Process(pid, _kind(pid, leaders=self.sessions))
            for pid, session in _alive()
            if session in self.sessions
        ]

    def find(self, kind: str) -> Process | None:
        """A living process of that kind."""
        return next((p for p in self.processes() if p.kind == kind), None)

    def kill(self, kind: str) -> Process | None:
        """SIGKILL one process of that kind; None when there is none."""
        found = self.find(kind)
        if found is not None:
            found.kill()
            if kind == "parent" and self.parent is not None:
                self.parent.wait()
        return found

    def await_orphans_end(self) -> None:
        """Everybody ends when the parent is gone."""
        assert not self.is_up
        wait(lambda: not self.processes(), END_SECONDS_MAX, f"orphans: {self.processes()}")

    def stop(self) -> None:
        """SIGTERM; nobody may be left."""
        if self.parent is not None and self.is_up:
            self.parent.terminate()
            code = self.parent.wait(30)
            assert code == 0, f"the server ended with {code}: {self._last_words()}"
        self.await_orphans_end()

    def end(self) -> None:
        """Clean up whatever happened."""
        for process in self.processes():
            process.kill()
        if self.parent is not None:
            self.parent.wait()

    def _last_words(self) -> str:
        return self.log.read_text("utf-8", "replace")[-2000:]


_COMMAND = (sys.executable, "-m", "gateway.cli.main")


def wait(is_so: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Poll until it is so; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _alive() -> list[tuple[int, int]]:
    """(pid, session) of every process that is not a zombie."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (entry / "stat").read_text("ascii", "replace")
                state, _, _, session = stat.rpartition(")")[2].split()[:4]
                if state != "Z":
                    found.append((int(entry.name), int(session)))
    return found


def _kind(pid: int, leaders: list[int]) -> str:
    if pid in leaders:
        return "parent"
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        spec = words[words.index(b"gateway.process.child") + 1]
        return KINDS.get(json.loads(spec)["module"], json.loads(spec)["module"])
    return "starting"
