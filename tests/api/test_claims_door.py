"""OpenLineage at the door: packed or plain, bounded before it is unpacked, never a 500."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.domain.claim import CLAIM_BYTES_MAX
from tests.api.simulator import Simulator
from tests.wire.test_openlineage import EVENT

PATH = "/api/v1/lineage"
RAW = json.dumps(EVENT).encode()
PLAIN = {"content-type": "application/json"}
PACKED = {**PLAIN, "content-encoding": "gzip"}


@pytest.mark.parametrize(("body", "headers"), [(RAW, PLAIN), (gzip.compress(RAW), PACKED)])
def test_an_event_is_taken_plain_and_packed(
    trainer: TestClient, body: bytes, headers: dict[str, str]
) -> None:
    reply = trainer.post(PATH, content=body, headers=headers)
    assert (reply.status_code, reply.json()) == (201, {"index": 1, "again": False})


def test_who_says_not_who_he_is_sends_nothing(http: TestClient, gateway: Simulator) -> None:
    assert http.post(PATH, content=RAW, headers=PLAIN).status_code == 401
    assert gateway.durable == 0


BOMB = gzip.compress(b" " * (CLAIM_BYTES_MAX + 1))
REFUSED = {
    "a bomb": (BOMB, PACKED, 413),
    "a bomb in a bomb": (gzip.compress(gzip.compress(b" " * (64 << 20))), PACKED, 422),
    "too large": (b" " * (CLAIM_BYTES_MAX + 1), PLAIN, 413),
    "cut off": (gzip.compress(RAW)[:-9], PACKED, 422),
    "two members": (gzip.compress(RAW) * 2, PACKED, 422),
    "something after it": (gzip.compress(RAW) + b"x", PACKED, 422),
    "not packed": (RAW, PACKED, 422),
    "packed otherwise": (zlib.compress(RAW), PACKED, 422),
    "another encoding": (RAW, {**PLAIN, "content-encoding": "br"}, 422),
    "another type": (RAW, {"content-type": "text/plain"}, 422),
    "nothing": (b"", PLAIN, 422),
    "a list of events": (b"[" + RAW + b"]", PLAIN, 422),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_a_typed_error_and_leaves_nothing(
    trainer: TestClient, gateway: Simulator, name: str
) -> None:
    body, headers, status = REFUSED[name]
    reply = trainer.post(PATH, content=body, headers=headers)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["advice"]
    assert gateway.durable == 0


def test_no_hostile_json_is_more_than_a_refusal(trainer: TestClient, corpora: Path) -> None:
    files = sorted((corpora / "json-test-suite").rglob("*.json"))
    assert files
    for path in files:
        reply = trainer.post(PATH, content=path.read_bytes(), headers=PLAIN)
        assert reply.status_code in (413, 422), path.name
