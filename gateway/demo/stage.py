"""Where the demo plays: its directories, its server process, and each person's command line.

Everything lies under one directory; nothing outside it is read or written. People are told
apart by their key files alone, as in real life: each has a configuration directory of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import home_environment, load
from gateway.demo.steps import StepFailed

_START_SECONDS, _STOP_SECONDS, _COMMAND_SECONDS = 30.0, 15.0, 120.0
_GATEWAY = (sys.executable, "-c", "from gateway.cli.main import main; main()")


def default_home() -> Path:
    """Beside the state directory of a real server, never inside it."""
    return load().state_dir.with_name("dataset-gateway-demo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command printed, and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output of a command called with `--json`."""
        return json.loads(self.out)


class Stage:
    """One demo: a home directory, a server, and people."""

    def __init__(self, home: Path) -> None:
        """Name the home directory; nothing is made yet."""
        self.home = home
        self.data = home / "data"
        self.objects = home / "state" / "dataset-gateway" / "objects"
        self._server: subprocess.Popen[bytes] | None = None
        self._programs: list[subprocess.Popen[str]] = []
        self._pid_file = home / "server.pid"

    def clear(self) -> None:
        """Stop what an earlier demo left running, and remove what it left lying."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def prepare(self) -> None:
        """Make the directories, for this user only."""
        self.data.mkdir(mode=0o700, parents=True)

    def environment(self, person: str) -> dict[str, str]:
        """The variables under which `person` types; `operator` is who starts the server."""
        base = self.home
        own = {
            "XDG_CONFIG_HOME": str(base / "config" / person),
            "XDG_STATE_HOME": str(base / "state"),
            "XDG_RUNTIME_DIR": str(base / "run"),
            "XDG_CACHE_HOME": str(base / "cache"),
        }
        kept = {k: v for k, v in home_environment().items() if not k.startswith(("XDG", "GATEWAY"))}
        return {**kept, **own}

    def gateway(self, person: str, *words: str | Path, expect_exit: int = 0) -> Said:
        """Run `gateway …` as `person`; any other exit code than the expected one fails the step."""
        done = subprocess.run(
            [*_GATEWAY, *map(str, words)],
            env=self.environment(person),
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != expect_exit:
            typed = " ".join(map(str, words))
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise StepFailed(f"`gateway {typed}` ended with {done.returncode}: {' '.join(last)}")
        return Said(exit_code=done.returncode, out=done.stdout, err=done.stderr)

    def start(self) -> str:
        """Start `gateway serve` and wait until it is ready; returns its URL."""
        with (self.home / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [*_GATEWAY, "serve", "--port", "0"],
                env=self.environment("operator"),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo, which stops the server in order
            )
        self._pid_file.write_text(str(self._server.pid))
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                raise StepFailed(f"the server ended at once; see {self.home / 'server.log'}")
            with contextlib.suppress(OSError, ValueError, KeyError):
                return self._ready_url()
            time.sleep(0.05)
        raise StepFailed(f"the server did not become ready in {_START_SECONDS:.0f} s")

    def _ready_url(self) -> str:
        import urllib.request

        place = self.home / "run" / "dataset-gateway" / "server.json"
        url = str(json.loads(place.read_text("utf-8"))["url"])
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as reply:  # noqa: S310
            reply.read()
        return url

    def stop(self) -> None:
        """Stop every program and the server, also one that an earlier demo left running."""
        for program in self._programs:
            program.kill()
            program.wait()
        self._programs.clear()
        pid = self._server.pid if self._server else self._left_running()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _is_alive(pid, self._server) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _is_alive(pid, self._server):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)
        self._server = None

    def _left_running(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
            directory = Path(f"/proc/{pid}/cwd").readlink()
        except (OSError, ValueError):
            return None
        return pid if directory == self.home.resolve() else None  # else: the pid is someone else's

    def program(self, person: str, module: str, job: Mapping[str, Any]) -> subprocess.Popen[str]:
        """Start one of the demo's own programs as `person`: a JSON job in, JSON lines out."""
        with (self.home / f"{person}.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(job)],
                env=self.environment(person),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._programs.append(started)
        return started

    def shards(self) -> dict[Path, int]:
        """Every stored object with its size, as a storage administrator sees them."""
        return {p: p.stat().st_size for p in sorted(self.objects.rglob("*")) if p.is_file()}


def _is_alive(pid: int, child: subprocess.Popen[bytes] | None) -> bool:
    if child is not None:
        return child.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answer_of(program: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait for a program; its JSON lines. Raises StepFailed when it ended badly, or never."""
    try:
        out, _ = program.communicate(timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired as late:
        program.kill()
        program.wait()
        raise StepFailed(f"the program did not end within {_COMMAND_SECONDS:.0f} s") from late
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if program.returncode:
        raise StepFailed(f"the program ended with {program.returncode}: {lines[-1:]}")
    return lines


def command(words: Sequence[str | Path]) -> str:
    """A command as one would type it."""
    return " ".join(["gateway", *(str(w) if not isinstance(w, Path) else w.name for w in words)])
