"""The real things that plugs are tested against: SoftHSM2, and AWS as moto serves it over HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so",
           "/opt/homebrew/lib/softhsm/libsofthsm2.so")  # fmt: skip
PIN = "1234"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",  # the key that AWS's manual prints everywhere
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def softhsm(directory: Path) -> str:
    """A new token in the directory; the URI of the plug. Skips where SoftHSM2 is not installed.

    One process loads the module once: `SOFTHSM2_CONF` stays as it was at the first call.
    """
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed (apt-get install softhsm2)")
    if "SOFTHSM2_CONF" not in os.environ:
        (directory / "tokens").mkdir()
        (directory / "softhsm2.conf").write_text(
            f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n"
        )
        os.environ["SOFTHSM2_CONF"] = str(directory / "softhsm2.conf")
    label = f"test{time.monotonic_ns()}"
    command = ["softhsm2-util", "--init-token", "--free", "--label", label]
    subprocess.run([*command, "--pin", PIN, "--so-pin", PIN], check=True, capture_output=True)
    pin = directory / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    return f"pkcs11:token={label}?module-path={module}&pin-source=file:{pin}"


class Moto:
    """A moto server as its own process: it can die, be silent, and come back with its state."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", "0", "-H", "127.0.0.1"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stderr
        for line in self._process.stderr:
            if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
                self.url = found[1]
                break
        self._draining = threading.Thread(target=self._drain, daemon=True)
        self._draining.start()
        with urllib.request.urlopen(f"{self.url}/moto-api/") as reply:  # noqa: S310
            assert reply.status == 200

    def _drain(self) -> None:
        assert self._process.stderr
        for _ in self._process.stderr:
            pass

    def reset(self) -> None:
        """Forget everything."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._draining.join()
        assert self._process.stderr
        self._process.stderr.close()


class Door:
    """A port in front of a server that can be shut (connections refused) and opened again."""

    def __init__(self, url: str) -> None:
        self._to = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._port = 0
        self.cuts_after: int | None = None  # the next answer breaks off after so many bytes
        self.is_silent = False  # takes connections and passes nothing on
        self.unlock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def unlock(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._listener, self._port = listener, listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        assert self._listener
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            self._open |= {near, far}
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b, a is far), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                while self.is_silent:
                    time.sleep(0.02)
                if is_answer and self.cuts_after is not None:
                    self.cuts_after -= len(data)
                    if self.cuts_after < 0:
                        self.cuts_after = None
                        break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()
