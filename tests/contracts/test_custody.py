"""A gateway over each key service: made, looked at, and refused without its secret."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import bootstrap
from gateway.cli.main import run
from gateway.config import Settings
from gateway.errors import KeyUnavailable
from gateway.process import status_page
from tests.contracts.machines import Moto

CUSTODY = {
    "file:": "0600 files",
    "passphrase": "opened by the passphrase",
    "pkcs11": "not extractable",
    "awskms": "AWS KMS in eu-central-1",
}


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", config_dir=tmp_path / "config", runtime_dir=tmp_path / "run"
    )


@pytest.mark.parametrize("scheme", CUSTODY)
def test_custody_is_said_by_init_doctor_and_config(
    scheme: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = scheme
    if scheme == "passphrase":
        uri = "passphrase:?from=env:GATEWAY_PASSPHRASE"
        monkeypatch.setenv("GATEWAY_PASSPHRASE", "correct horse")
    elif scheme == "pkcs11":
        uri = request.getfixturevalue("hsm").replace("?", ";object=custody?")
    elif scheme == "awskms":
        server: Moto = request.getfixturevalue("moto")
        server.reset()
        uri = f"awskms:?region=eu-central-1&endpoint={server.url}"
    for name in ("STATE", "CONFIG", "RUNTIME"):
        monkeypatch.setenv(f"GATEWAY_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("GATEWAY_KMS", uri)
    for words in (["init"], ["doctor"], ["config", "show"]):
        code = run(words)
        said = "".join(capsys.readouterr())
        assert code == 0, said
        assert CUSTODY[scheme] in " ".join(said.split())
        assert "correct horse" not in said


def test_a_gateway_without_its_passphrase_does_not_start(home: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    settings = Settings(
        state_dir=home.state_dir,
        config_dir=home.config_dir,
        runtime_dir=home.runtime_dir,
        kms=f"passphrase:?from=file:{secret}",
    )
    bootstrap.init(settings)
    house = bootstrap.build(
        settings, page=status_page.create(), url="http://localhost:1", on_failure=print
    )
    assert house.kms.generations("home") == (1,)
    asyncio.run(bootstrap.close(house))
    secret.write_text("battery staple\n")
    with pytest.raises(KeyUnavailable):
        bootstrap.build(
            settings, page=status_page.create(), url="http://localhost:1", on_failure=print
        )
