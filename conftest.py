"""Run the code blocks of README.md and docs/ against a real gateway, one for each page.

`python` blocks run here, one after the other; `sh` blocks run in bash and must succeed, or end
with the code that `# exits N` in them names; `console`, `text` and others are only shown. A page
says who is typing in a comment that readers do not see:

    <!-- invisible-code-block: python
    act_as("clinic/owner")
    -->
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from gateway.errors import GatewayError

ROOT = Path(__file__).resolve().parent
_READY_SECONDS = 30.0
_EXIT = re.compile(r"# exits (\d+)")


class Page:
    """The world that one page's code runs in: directories, people, and a gateway on demand."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="gateway-docs-"))
        self._bases = [self.base]
        self.work = self.base / "work"
        self.work.mkdir()
        self._environment = dict(os.environ)
        self._directory = Path.cwd()
        os.chdir(self.work)
        self._stages: list[Any] = []
        self.act_as("me")

    def act_as(self, person: str) -> None:
        """From here on this person types: finds the keys of `person` and nobody else's."""
        own = self.base / "config" / person.replace("/", "-")
        for name, place in {
            "XDG_CONFIG_HOME": own,
            "XDG_STATE_HOME": self.base / "state",
            "XDG_RUNTIME_DIR": self.base / "run",
        }.items():
            os.environ[name] = str(place)
        for name in [n for n in os.environ if n.startswith("GATEWAY_")]:
            del os.environ[name]
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{self._environment['PATH']}"

    def training_centre(self) -> None:
        """A gateway with the tenants clinic, startup and audit, and a small table of patients."""
        from tests.docs_world import furnish

        self._stages.append(furnish(self))

    def another_machine(self) -> None:
        """From here on nothing is installed: no keys, no state, no server."""
        self._stop()
        self.base = Path(tempfile.mkdtemp(prefix="gateway-docs-"))
        self._bases.append(self.base)
        self.act_as("me")

    def start_gateway(self) -> None:
        """`gateway init` and `gateway serve`, as the text says."""
        self.shell("gateway init\ngateway serve --port 0 &")

    def shell(self, block: str) -> None:
        """Run one block in bash; `gateway serve &` is waited for."""
        out = (self.base / "shell.txt").open("w+b")
        with out:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                check=False,
            )
        if "gateway serve" in block:
            self._wait_until_ready()
        named = _EXIT.search(block)
        expected = int(named[1]) if named else 0
        said = (self.base / "shell.txt").read_text("utf-8")
        assert done.returncode == expected, f"exit {done.returncode}, not {expected}:\n{said}"

    def _wait_until_ready(self) -> None:
        from gateway.process.directory import read_server_file

        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(GatewayError):
                read_server_file(self.base / "run" / "dataset-gateway")
                return
            time.sleep(0.05)
        raise AssertionError((self.base / "shell.txt").read_text("utf-8"))

    def _stop(self) -> None:
        from gateway.process.directory import read_server_file

        for stage in self._stages:
            stage.stop()
        self._stages.clear()
        with contextlib.suppress(GatewayError, ProcessLookupError):
            pid = int(read_server_file(self.base / "run" / "dataset-gateway")["pid"])
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _READY_SECONDS
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)

    def close(self) -> None:
        """Stop what runs, forget everything."""
        self._stop()
        os.chdir(self._directory)
        os.environ.clear()
        os.environ.update(self._environment)
        for base in self._bases:
            shutil.rmtree(base, ignore_errors=True)


def _open(namespace: dict[str, Any]) -> None:
    page = Page()
    namespace.update(
        _page=page,
        act_as=page.act_as,
        training_centre=page.training_centre,
        another_machine=page.another_machine,
        start_gateway=page.start_gateway,
        here=page.work,
    )


def _close(namespace: dict[str, Any]) -> None:
    namespace["_page"].close()


def _run_shell(example: Example) -> None:
    example.namespace["_page"].shell(str(example.parsed))


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="sh", evaluator=_run_shell),
        SkipParser(),
    ],
    patterns=[
        "README.md",
        "docs/*.md",
        "docs/journeys/*.md",
        "docs/operate/*.md",
        "docs/reference/packs.md",
    ],
    path=str(ROOT),
    setup=_open,
    teardown=_close,
).pytest()
