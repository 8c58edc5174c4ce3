"""Connectors to AWS say what they lack before anything is asked of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from connectors.kms.aws import connect as keys
from connectors.stores.s3 import connect as objects
from gateway.errors import ConfigError, ConnectorError

CONNECTORS = [(objects, "s3://bucket/sealed", "`s3:`"), (keys, "awskms:", "`awskms:`")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("connect", "uri", "named"), CONNECTORS)
def test_without_boto3_it_says_what_to_install(
    connect: Callable[..., Any], uri: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConnectorError, match=named) as refused:
        connect(urlsplit(uri))
    assert "dataset-gateway[aws]" in str(refused.value.advice)


@pytest.mark.parametrize("query", ["region=not%20a%20region", "endpoint=nowhere"])
@pytest.mark.parametrize(("connect", "uri", "named"), CONNECTORS)
def test_a_region_or_an_endpoint_that_cannot_be_is_a_fault_of_the_settings(
    connect: Callable[..., Any], uri: str, named: str, query: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        connect(urlsplit(f"{uri}?{query}"))


def test_one_room_knows_boto3() -> None:
    knowing = [
        path.relative_to(ROOT).as_posix()
        for room in ("connectors", "gateway")
        for path in (ROOT / room).rglob("*.py")
        if "import boto3" in path.read_text()
    ]
    assert knowing == ["connectors/aws.py"]
