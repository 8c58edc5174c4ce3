"""What others collected to break parsers: the doors answer all of it, and never with a 500."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from gateway.api.app import ACTS
from gateway.wire import codec
from tests.api.simulator import Simulator

JSON = {"content-type": "application/json"}
FORMS = {"content-type": "application/x-www-form-urlencoded"}
CLEAR = {200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 412, 413, 422}


def suite(corpora: Path, prefix: str) -> list[Path]:
    found = sorted((corpora / "json-test-suite").rglob(f"{prefix}_*.json"))
    assert found
    return found


def naughty(corpora: Path) -> list[str]:
    (path,) = (corpora / "naughty-strings").rglob("blns.json")
    found: list[str] = json.loads(path.read_text("utf-8"))
    return found


def test_what_is_not_json_is_refused(corpora: Path, owner: TestClient) -> None:
    for path in suite(corpora, "n"):
        reply = owner.post("/v1/lineage/query", content=path.read_bytes(), headers=JSON)
        assert reply.status_code == 422, path.name


def test_what_is_json_is_taken_or_clearly_refused(corpora: Path, owner: TestClient) -> None:
    taken = 0
    for path in (*suite(corpora, "y"), *suite(corpora, "i")):
        raw = path.read_bytes()
        for body in (raw, b'{"parameters":{"x":' + raw + b"}}"):
            reply = owner.post("/v1/lineage/questions/who-read", content=body, headers=JSON)
            assert reply.status_code in {200, 422}, path.name
            taken += reply.status_code == 200
    assert taken > 50


def acts_for(text: str, n: int) -> list[tuple[Any, str, bytes]]:
    """Requests that carry `text` in every place of some acts; all acts in turn."""
    found = []
    for act in ACTS[n % 23 :: 23]:
        path = act.path
        for place in ("{tenant}", "{name}", "{id}", "{n}", "{version}"):
            path = path.replace(place, quote(text, safe=""))
        query = "&".join(f"{name}={quote(text, safe='')}" for name in act.query)
        found.append((act, f"{path}?{query}" if query else path, body_of(act, text)))
    return found


def body_of(act: Any, text: str) -> bytes:
    if act.body is None:
        return b""
    return json.dumps(filled(act.body, text)).encode()


def filled(kind: type, text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = codec.hints_of(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            values[field.name] = filled(hint, text)  # type: ignore[arg-type]
        elif "dict" in str(hint):
            values[field.name] = {text: [text] if "tuple" in str(hint) else text}
        elif "tuple" in str(hint):
            values[field.name] = [text]
        elif "str" in str(hint):
            values[field.name] = text
    return values


def test_naughty_strings_in_every_place_are_answered_clearly(
    corpora: Path, owner: TestClient
) -> None:
    for n, text in enumerate(naughty(corpora)):
        for act, url, body in acts_for(text, n):
            reply = owner.request(act.method, url, content=body, headers=JSON if body else {})
            assert reply.status_code in CLEAR, (act.method, url, reply.text)


def test_naughty_strings_in_the_forms_of_oauth_are_answered_clearly(
    corpora: Path, http: TestClient
) -> None:
    for n, text in enumerate(naughty(corpora)):
        name = ("grant_type", "assertion", "authorization_details", text)[n % 4]
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", name: text}
        body = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in form.items())
        reply = http.post("/oauth/token", content=body, headers={**FORMS, "DPoP": "p"})
        assert reply.status_code in {400, 401}, text
        assert reply.json()["error"]


def test_naughty_strings_in_headers_are_answered_clearly(corpora: Path, owner: TestClient) -> None:
    for n, text in enumerate(naughty(corpora)):
        header = ("Idempotency-Key", "If-Match", "Content-Type", "Authorization")[n % 4]
        raw = text.encode("utf-8").replace(b"\n", b" ").replace(b"\r", b" ").replace(b"\0", b"")
        sent = {**JSON, header: raw.decode("latin-1")}
        reply = owner.put(
            "/v1/policies/clinic",
            content=b'{"files":{}}',
            headers=[(k.encode(), v.encode("latin-1")) for k, v in sent.items()],
        )
        assert reply.status_code in CLEAR


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(
    max_examples=settings.default.max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(act=st.sampled_from([a for a in ACTS if a.body]), data=st.data())
def test_no_body_of_any_shape_is_an_accident(
    act: Any, data: st.DataObject, owner: TestClient, gateway: Simulator
) -> None:
    """Real field names with any values: taken, or refused with a problem document."""
    names = [f.name for f in dataclasses.fields(act.body)]
    body = data.draw(st.dictionaries(st.sampled_from([*names, "extra"]), values))
    path = act.path.replace("{tenant}", "clinic").replace("{name}", "icu").replace("{id}", "x")
    reply = owner.request(act.method, path, content=json.dumps(body), headers=JSON)
    assert reply.status_code in CLEAR
    if reply.status_code >= 400:
        assert reply.json()["type"].startswith("/docs/reference/errors.md#")
