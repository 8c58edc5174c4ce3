"""A gateway that listens beyond this machine: refused when unsafe, and whole under TLS."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.client import GatewayClient
from gateway.errors import Unavailable
from tests.journeys.home import Home

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what these tests are about
SERVE = (sys.executable, "-m", "gateway.cli.main", "serve", "--port", "0", "--bind", EVERYWHERE)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ((), "there is no TLS"),
        (("--tls-auto",), "default keyring"),
    ],
)
def test_an_unsafe_public_bind_is_refused_with_the_way_out(
    home: Home, flags: tuple[str, ...], word: str
) -> None:
    done = subprocess.run(
        [*SERVE, *flags], env=home.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert word in done.stderr
    assert "; use " in done.stderr


def test_a_dataset_is_registered_allowed_and_read_under_tls(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": range(1000)}), source)
    with home.serving("--bind", EVERYWHERE, "--tls-auto", "--accept-local-keys") as gateway:
        assert gateway.transport.server.startswith("https://localhost:")
        gateway.datasets.register("home/x", str(source))
        home.run(
            "policy", "new", "home/x", "--allow", "stream", "--to", "role:trainer",
            "--purpose", "research", "--columns", "id", "--push", "--dir", str(tmp_path / "rules"),
        )  # fmt: skip
        rows = [len(batch["id"]) for batch in gateway.stream("home/x", purpose="research")]
        assert sum(rows) == 1000
        stranger = GatewayClient(
            settings=replace(home.settings, server=None, runtime_dir=tmp_path / "elsewhere"),
            server=gateway.transport.server,
        )
        with pytest.raises(Unavailable):
            stranger.whoami()  # nobody told it to trust this certificate
