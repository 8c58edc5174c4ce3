"""A real OpenID provider (npm `oidc-provider`), and a person with a browser, both scripted.

with RealProvider.started(seconds=3600) as provider:   # its tokens live so long
    provider.issuer
    log_in(url_that_gateway_login_printed)     # what a person clicks
    provider.job_token()                       # client credentials: a JWT access token
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urljoin

import pytest

HERE = Path(__file__).parent
MODULES = HERE.parents[2] / ".venv" / "openid"  # where .ci/run puts them
RESOURCE = "https://gateway.example"


def require_provider() -> None:
    """Skip, with the command that installs it, where it is not here."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the real OpenID provider cannot run")
    if not (MODULES / "node_modules" / "oidc-provider").is_dir():
        how = f"cp tests/journeys/openid/package*.json {MODULES} && npm ci --prefix {MODULES}"
        pytest.skip(f"oidc-provider is not installed: mkdir -p {MODULES} && {how}")


@dataclass(frozen=True, slots=True)
class RealProvider:
    """A provider that runs."""

    issuer: str

    @classmethod
    @contextmanager
    def started(cls, *, seconds: int = 3600) -> Iterator[RealProvider]:
        require_provider()
        options = json.dumps({"seconds": seconds})
        with subprocess.Popen(
            ["node", HERE / "provider.mjs", MODULES, options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            yield cls(json.loads(process.stdout.readline())["issuer"])
            process.kill()

    def job_token(self) -> str:
        """What a workload gets with its client's secret."""
        form = {
            "grant_type": "client_credentials",
            "client_id": "nightly-job",
            "client_secret": "of-a-test",
            "resource": RESOURCE,
        }
        asked = urllib.request.Request(f"{self.issuer}/token", urlencode(form).encode())  # noqa: S310
        with urllib.request.urlopen(asked) as reply:  # noqa: S310 - http to this machine
            return str(json.load(reply)["access_token"])


def log_in(url: str, name: str = "ana") -> str:
    """Open the URL as a person does: log in, consent; what the last page says."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(jar)
    page = browser.open(url)
    for _ in range(2):
        text = page.read().decode()
        action, kind = (
            re.search(r'action="([^"]+)"', text),
            re.search(r'"prompt" value="(\w+)"', text),
        )
        assert action is not None, text
        assert kind is not None, text
        form = {"prompt": kind[1], "login": name, "password": "any"}
        page = browser.open(urljoin(page.geturl(), action[1]), urlencode(form).encode())
    return str(page.read().decode())
