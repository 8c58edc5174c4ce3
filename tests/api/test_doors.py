"""What the doors refuse, then what they let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

import gateway.wire as W
from gateway.api.app import ACTS
from gateway.errors import InvalidInput
from gateway.wire import codec
from tests.api.simulator import Simulator

ASK = {"action": {"name": "stream"}, "resource": {"type": "dataset", "id": "clinic/icu"}}


def fill(path: str) -> str:
    for place, value in {
        "{tenant}": "clinic",
        "{name}": "icu" if "datasets" in path else "who-read",
        "{version}": "1",
        "{n}": "0",
        "{id}": "x",
    }.items():
        path = path.replace(place, value)
    return path


@pytest.mark.parametrize(
    "act", [a for a in ACTS if not a.is_public], ids=lambda a: f"{a.method} {a.path}"
)
def test_every_route_asks_who_it_is_before_it_reads_anything(act: Any, http: TestClient) -> None:
    reply = http.request(act.method, fill(act.path) + "?nonsense=1", content=b"{broken")
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("DPoP")
    assert reply.json()["type"].endswith("#not-authenticated")


def test_what_is_not_there_and_what_may_not_be_seen_look_the_same(owner: TestClient) -> None:
    bodies = []
    for path in ("/v1/datasets/clinic/none", "/v1/nothing", "/v1/grants/grant_x", "/a/../b"):
        reply = owner.get(path)
        assert reply.status_code == 404
        body = reply.json()
        assert reply.headers["request-id"] == body.pop("request_id")
        bodies.append(body)
    assert all(body == bodies[0] for body in bodies)


def test_a_wrong_method_names_all_the_right_ones(owner: TestClient) -> None:
    reply = owner.delete("/v1/datasets/clinic/icu/columns")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, PATCH")
    reply = owner.request("PROPFIND", "/v1/operations/op_x")
    assert (reply.status_code, reply.headers["allow"]) == (405, "DELETE, GET")


@pytest.mark.parametrize(
    "query", ["tag=a&tag=b", "tag=a&unknown=1", "limit=0", "limit=1001", "cursor=-1", "limit=١"]
)
def test_a_query_that_is_repeated_unknown_or_out_of_range_is_refused(
    query: str, owner: TestClient
) -> None:
    assert owner.get(f"/v1/datasets?{query}").status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b'{"tags":{"age":["a"]},"tags":{}}',
        b'{"tags":{"age":["a"],"age":["b"]}}',
        b'{"tags":{},"extra":1}',
        b'{"tags":NaN}',
        b'{"tags":{"age":[1]}}',
        b'{"tags":{"age":["\\ud800"]}}',
        b"[" * 200_000,
        b"",
        b"null",
        b"\xff\xfe",
    ],
)
def test_a_body_of_any_other_shape_is_refused(
    body: bytes, owner: TestClient, gateway: Simulator
) -> None:
    reply = owner.patch(
        "/v1/datasets/clinic/icu/columns",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert gateway.durable == 0


def test_a_body_over_its_limit_is_refused_before_it_is_kept(owner: TestClient) -> None:
    reply = owner.post(
        "/v1/lineage/query",
        content=b" " * (1 << 20) + b'{"sql":"select 1"}',
        headers={"content-type": "application/json"},
    )
    assert (reply.status_code, reply.json()["limit_bytes"]) == (413, 1 << 20)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_a_body_of_another_media_type_is_refused(
    headers: dict[str, str], owner: TestClient
) -> None:
    reply = owner.post("/v1/lineage/query", content=b'{"sql":"select 1"}', headers=headers)
    assert reply.status_code == 422


def test_a_request_without_a_body_may_not_bring_one(owner: TestClient) -> None:
    assert owner.request("GET", "/v1/datasets", content=b"x").status_code == 422


def test_two_authorization_headers_are_no_proof(http: TestClient) -> None:
    pair = ("authorization", "DPoP clinic/owner")
    reply = http.get("/v1/whoami", headers=[pair, pair, ("dpop", "p")])
    assert reply.status_code == 401


def test_an_accident_says_nothing_about_itself(
    owner: TestClient, gateway: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("patient 4711 is Jane Roe")

    gateway.datasets = broken  # type: ignore[assignment, method-assign]
    reply = owner.get("/v1/datasets")
    assert reply.status_code == 500
    assert "4711" not in reply.text
    assert reply.json()["request_id"] == reply.headers["request-id"]


def test_a_denial_names_its_decision_and_what_to_do(trainer: TestClient) -> None:
    reply = trainer.patch("/v1/datasets/clinic/icu/columns", json={"tags": {"age": ["pii"]}})
    assert reply.status_code == 403
    assert reply.json()["decision"] == "dec_x"
    assert reply.json()["advice"]


def test_only_the_callers_own_access_can_be_asked_for(trainer: TestClient) -> None:
    other = {**ASK, "subject": {"type": "person", "id": "clinic/owner"}}
    assert trainer.post("/access/v1/evaluation", json=other).status_code == 403
    forged = {**ASK, "subject": {"type": "person", "id": "startup/ml", "properties": {"role": 1}}}
    assert trainer.post("/access/v1/evaluation", json=forged).status_code == 422
    table = {**ASK, "resource": {"type": "table", "id": "clinic/icu"}}
    assert trainer.post("/access/v1/evaluation", json=table).status_code == 422


def test_a_check_answers_with_the_decision_and_the_plan(trainer: TestClient) -> None:
    denied = trainer.post("/access/v1/evaluation", json=ASK).json()
    assert denied["decision"] is False
    assert denied["context"]["advice"]
    wanted = {
        **ASK,
        "context": {"purpose": "health-research", "columns": ["age"], "at": "2026-12-24"},
    }
    allowed = trainer.post("/access/v1/evaluation", json=wanted).json()
    assert allowed["decision"] is True
    assert allowed["context"]["plan"]["columns"] == [{"name": "age", "mask": None}]
    explained = trainer.get(f"/v1/decisions/{allowed['context']['decision']}")
    assert explained.json()["decision"]["effect"] == "allow"


def test_a_revocation_must_select_something(owner: TestClient) -> None:
    assert owner.post("/v1/revocations", json={"reason": "x"}).status_code == 422
    assert owner.post("/v1/revocations", json={"dataset": "clinic/icu"}).json()["grants"] == 0


def test_a_bundle_is_published_only_over_the_one_that_was_read(owner: TestClient) -> None:
    put = "/v1/policies/clinic"
    files = {"files": {"a.yaml": "x"}}
    assert owner.put(put, json=files).status_code == 422
    assert owner.put(put, json=files, headers={"If-Match": '"ff"'}).status_code == 412
    etag = owner.get(put).headers["etag"]
    done = owner.put(put, json=files, headers={"If-Match": etag})
    assert done.status_code == 200
    assert done.headers["etag"] != etag
    assert owner.put(put, json=files, headers={"If-Match": etag}).status_code == 412


def test_a_dataset_is_changed_over_the_state_that_was_read(
    owner: TestClient, trainer: TestClient
) -> None:
    path = "/v1/datasets/clinic/icu"
    etag = owner.get(path).headers["etag"]
    assert trainer.patch(path, json={"suspended": True}).status_code == 403
    assert owner.patch(path, json={}).status_code == 422
    assert owner.patch(path, json={"cards": {}}).status_code == 422
    for match, status in (("unquoted", 422), ('"ff"', 412), (etag, 200), (etag, 412), ("*", 200)):
        changed = owner.patch(path, json={"contact": match}, headers={"If-Match": match})
        assert changed.status_code == status
    shown = owner.patch(path, json={"card": {"title": "ICU"}, "owners": ["clinic/role:owner"]})
    assert (shown.json()["card"], shown.json()["contact"]) == ({"title": "ICU"}, "*")
    assert owner.patch(path, json={"suspended": True}).json()["suspended"] is True
    assert owner.get(path).headers["etag"] != etag


def test_a_registration_goes_from_parts_to_an_operation(owner: TestClient) -> None:
    begun = owner.post(
        "/v1/registrations",
        json={"dataset": "clinic/new", "files": [{"name": "a.csv", "bytes": 5}]},
    )
    assert begun.status_code == 201
    here = begun.headers["location"]
    assert owner.post(f"{here}/commit").status_code == 409
    assert owner.put(f"{here}/parts/0?file=0", content=b"a,b\n1").json()["bytes"] == 5
    assert owner.put(f"{here}/parts/-1", content=b"").status_code == 422
    done = owner.post(f"{here}/commit")
    assert done.status_code == 202
    assert owner.get(done.headers["location"]).json()["state"] == "done"
    assert owner.get("/v1/datasets/clinic/new").json()["rows"] == 100


def test_a_retry_with_the_same_key_does_nothing_twice(
    owner: TestClient, trainer: TestClient, gateway: Simulator
) -> None:
    body = {"dataset": "clinic/new", "files": []}
    key = {"Idempotency-Key": "k1"}
    first = owner.post("/v1/registrations", json=body, headers=key)
    again = owner.post("/v1/registrations", json=body, headers=key)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len(gateway.registrations) == 1
    other = {**body, "append": True}
    assert owner.post("/v1/registrations", json=other, headers=key).status_code == 422
    assert owner.post("/v1/registrations", json=body).json()["id"] != first.json()["id"]
    assert trainer.post("/v1/registrations", json=body, headers=key).status_code == 403
    for bad in ("", "a b", "x" * 256):
        sent = owner.post("/v1/registrations", json=body, headers={"Idempotency-Key": bad})
        assert sent.status_code == 422


def test_a_failed_act_is_not_remembered_under_its_key(owner: TestClient) -> None:
    here = owner.post(
        "/v1/registrations", json={"dataset": "clinic/b", "files": [{"name": "a", "bytes": 1}]}
    ).headers["location"]
    key = {"Idempotency-Key": "k"}
    assert owner.post(f"{here}/commit", headers=key).status_code == 409
    owner.put(f"{here}/parts/0", content=b"a")
    assert owner.post(f"{here}/commit", headers=key).status_code == 202


def test_the_token_endpoint_speaks_oauth(http: TestClient) -> None:
    form = {"grant_type": "password", "username": "a"}
    reply = http.post("/oauth/token", data=form)
    assert reply.status_code == 400
    assert reply.json()["error"] == "unsupported_grant_type"
    twice = "grant_type=a&grant_type=b"
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert (
        http.post("/oauth/token", content=twice, headers=kind).json()["error"] == "invalid_request"
    )
    good = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "startup/ml",
    }
    reply = http.post("/oauth/token", data=good, headers={"DPoP": "p"})
    assert reply.json()["token_type"] == "DPoP"
    assert reply.headers["cache-control"] == "no-store"
    details = json.dumps([{"type": "dataset_access", "dataset": "clinic/icu"}])
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "startup/ml",
        "authorization_details": details,
    }
    denied = http.post("/oauth/token", data=exchange, headers={"DPoP": "p"})
    assert (denied.status_code, denied.json()["error"]) == (400, "access_denied")
    assert denied.json()["type"].endswith("#access-denied")
    assert denied.json()["decision"].startswith("dec_")


def test_columns_have_the_shape_that_marquez_clients_read(owner: TestClient) -> None:
    path = "/api/v1/column-lineage"
    for query in ("", "?nodeId=x&depth=0", "?nodeId=x&depth=21", "?nodeId=x&withDownstream=1"):
        assert owner.get(path + query).status_code == 422
    body = owner.get(f"{path}?nodeId=datasetField:a:b:c&withDownstream=true").json()
    (node,) = body["graph"]
    assert (node["type"], body["truncated"]) == ("DATASET_FIELD", True)
    assert node["data"]["inputFields"] == [{"dataset": "a", "field": "b"}]
    assert [edge["kind"] for edge in node["outEdges"]] == ["masked"]
    body = owner.get(f"{path}?nodeId=datasetField:a:b:c").json()
    assert body["graph"][0]["outEdges"] == []


def test_the_graph_has_the_shape_that_marquez_clients_read(owner: TestClient) -> None:
    assert owner.get("/api/v1/lineage").status_code == 422
    graph = owner.get("/api/v1/lineage?nodeId=clinic/icu@1&depth=3").json()["graph"]
    assert graph[0]["outEdges"] == [
        {"origin": "clinic/icu@1", "destination": "run:1", "kind": "read"}
    ]


def test_pages_end(owner: TestClient, gateway: Simulator) -> None:
    for n in range(5):
        gateway.sets[f"clinic/d{n}"] = gateway.sets["clinic/icu"]
    seen, cursor = 0, "0"
    while cursor:
        reply = owner.get(f"/v1/datasets?limit=2&cursor={cursor}").json()
        seen, cursor = seen + len(reply["items"]), reply["next"]
    assert seen == 6


def test_everyone_may_see_health_and_what_errors_mean(http: TestClient) -> None:
    assert http.get("/healthz").json() == {"alive": True}
    assert http.get("/readyz").json()["checks"]["journal"]["ok"] is True
    assert "## access-denied" in http.get("/docs/reference/errors.md").text
    assert http.get("/docs").status_code == http.get("/redoc").status_code == 404


def test_a_decoded_body_is_of_one_shape() -> None:
    with pytest.raises(InvalidInput):
        codec.loads(b'{"a":1,"a":2}')


def test_the_page_of_errors_is_the_one_the_server_shows(http: TestClient) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/reference/errors.md"
    assert page.read_text() == http.get("/docs/reference/errors.md").text


ARROW, JSON_TYPE = W.ARROW_STREAM, "application/json"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", JSON_TYPE), ("*/*", JSON_TYPE), ("application/*", JSON_TYPE), ("text/csv", JSON_TYPE),
        (f"{ARROW};q=0", JSON_TYPE), (f"{ARROW};q=much", JSON_TYPE), (f"{ARROW};q=-1", JSON_TYPE),
        (f"{JSON_TYPE}, {ARROW}", JSON_TYPE), (f"{ARROW};q=0.4, {JSON_TYPE};q=0.5", JSON_TYPE),
        (f"{ARROW};q=0.4, */*;q=0.5", JSON_TYPE), (f"{ARROW}x", JSON_TYPE), (",;,q=1", JSON_TYPE),
        (ARROW, ARROW), (ARROW.upper(), ARROW), (f"{ARROW}, */*", ARROW),
        (f"{ARROW};q=0.001", ARROW),
        (f"{JSON_TYPE};q=0.9, {ARROW}", ARROW), (f"text/html , {ARROW} ; q=1.0 , */*;q=0.1", ARROW),
    ],
)  # fmt: skip
def test_arrow_comes_only_to_whom_prefers_it(accept: str, kind: str, owner: TestClient) -> None:
    reply = owner.post("/v1/lineage/query", json={"sql": "select 1"}, headers={"accept": accept})
    assert (reply.status_code, reply.headers["content-type"]) == (200, kind)
    if kind == ARROW:
        table = pa.ipc.open_stream(reply.content).read_all()
        assert table.to_pydict() == {"n": [1, 2], "x": [None, 2.5]}
        assert "as_of_index" in json.loads(reply.headers[W.ANSWER_HEADER])


def test_a_refusal_is_a_problem_document_also_for_arrow(owner: TestClient) -> None:
    reply = owner.post("/v1/lineage/query", json={"sql": "DROP x"}, headers={"accept": ARROW})
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
