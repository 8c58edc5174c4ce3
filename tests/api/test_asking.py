"""The doors of AuthZEN 1.0 and of asking people, over the simulator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from gateway.api.app import create_app
from gateway.api.asking import EVALUATIONS_MAX
from tests.api.conftest import as_subject
from tests.api.simulator import Simulator

ACTION = {"name": "stream"}
ICU = {"type": "dataset", "id": "clinic/icu"}
RESEARCH = {"purpose": "health-research"}
OTHER = {"type": "person", "id": "startup/ml"}
BATCH = "/access/v1/evaluations"


@pytest.fixture
def enforcing(gateway: Simulator) -> TestClient:
    return as_subject(TestClient(create_app(gateway)), "clinic/door")


def decisions(client: TestClient, **body: Any) -> list[bool]:
    reply = client.post(BATCH, json={"action": ACTION, "resource": ICU, **body})
    assert reply.status_code == 200, reply.text
    return [answer["decision"] for answer in reply.json()["evaluations"]]


QUESTIONS = [{"context": RESEARCH}, {"context": {}}, {"context": RESEARCH}]


@pytest.mark.parametrize(
    ("semantic", "answers"),
    [
        (None, [True, False, True]),
        ("execute_all", [True, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ],
)
def test_a_batch_is_answered_in_order_and_stops_where_it_was_told(
    trainer: TestClient, semantic: str | None, answers: list[bool]
) -> None:
    options = {"evaluations_semantic": semantic} if semantic else {}
    more = {"an_option_of_tomorrow": 1}
    assert decisions(trainer, evaluations=QUESTIONS, options={**options, **more}) == answers


def test_what_a_question_says_itself_precedes_the_defaults(trainer: TestClient) -> None:
    absent = {"resource": {"type": "dataset", "id": "clinic/none"}}
    reply = trainer.post(
        BATCH,
        json={"action": ACTION, "resource": ICU, "context": RESEARCH, "evaluations": [{}, absent]},
    ).json()["evaluations"]
    assert [answer["decision"] for answer in reply] == [True, False]
    assert reply[1]["context"]["error"]["status"] == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource": {"type": "table", "id": "clinic/icu"}},
        {"resource": {"type": "dataset", "id": "clinic/icu", "properties": {"public": True}}},
        {"subject": {**OTHER, "id": "clinic/owner"}},
        {"subject": {**OTHER, "properties": {"role": "owner"}}},
        {"action": {"name": "stream", "properties": {"x": 1}}},
    ],
)
def test_what_is_wrong_with_one_question_denies_that_one_alone(
    trainer: TestClient, wrong: dict[str, Any]
) -> None:
    good = {"context": RESEARCH}
    assert decisions(trainer, evaluations=[good, wrong, good]) == [True, False, True]


@pytest.mark.parametrize("body", [{}, {"evaluations": []}])
def test_without_questions_a_batch_is_one_question(
    trainer: TestClient, body: dict[str, Any]
) -> None:
    asked = {"action": ACTION, "resource": ICU, "context": RESEARCH, **body}
    assert trainer.post(BATCH, json=asked).json()["decision"] is True
    assert trainer.post(BATCH, json=body).status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"evaluations": [{}] * (EVALUATIONS_MAX + 1)}, 413),
        ({"evaluations": [{}], "options": {"evaluations_semantic": "any"}}, 422),
        ({"evaluations": [{}], "options": {"evaluations_semantic": ["execute_all"]}}, 422),
        ({"evaluations": [{"unknown": 1}]}, 422),
        ({"evaluations": {}}, 422),
        ({"evaluations": [None]}, 422),
        ({"evaluations": [{"context": {"clearance": 9}}]}, 422),
        ({"subject": "clinic/owner", "evaluations": [{}]}, 422),
    ],
)
def test_a_batch_of_another_shape_is_refused_whole(
    trainer: TestClient, gateway: Simulator, body: dict[str, Any], status: int
) -> None:
    asked = {"action": ACTION, "resource": ICU, **body}
    assert trainer.post(BATCH, json=asked).status_code == status
    assert gateway.durable == 0


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.text(max_size=12)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["subject", "action", "resource", "context", "evaluations", "options"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(NAMES, JSON, max_size=5), wrapped=st.booleans())
def test_no_body_of_strangers_is_an_accident(
    enforcing: TestClient, body: dict[str, Any], *, wrapped: bool
) -> None:
    sent = {"action": ACTION, "resource": ICU, "evaluations": [body]} if wrapped else body
    for path in (BATCH, "/access/v1/evaluation"):
        assert enforcing.post(path, json=sent).status_code in (200, 403, 404, 422)


def test_others_are_asked_about_by_enforcement_points_alone(
    trainer: TestClient, owner: TestClient, enforcing: TestClient
) -> None:
    other = {"subject": OTHER, "action": ACTION, "resource": ICU, "context": RESEARCH}
    assert owner.post("/access/v1/evaluation", json=other).status_code == 403
    reply = enforcing.post("/access/v1/evaluation", json=other)
    assert (reply.json()["decision"], reply.json()["context"]["subject"]) == (True, "startup/ml")


def test_a_request_id_comes_back_and_nothing_else_of_a_header(
    trainer: TestClient, http: TestClient
) -> None:
    asked = {"action": ACTION, "resource": ICU}
    for given_, back in (("bfe9eb29", "bfe9eb29"), ("two words", None), ("x" * 256, None)):
        for body in (asked, {"broken": 1}):
            reply = trainer.post(
                "/access/v1/evaluation", json=body, headers={"X-Request-ID": given_}
            )
            assert reply.headers.get("x-request-id") == back
    elsewhere = http.get("/healthz", headers={"X-Request-ID": "a"})
    assert "x-request-id" not in elsewhere.headers


def test_the_decision_point_says_where_it_is(http: TestClient) -> None:
    found = http.get("/.well-known/authzen-configuration").json()
    base = found["policy_decision_point"]
    assert found == {
        "policy_decision_point": base,
        "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{base}/access/v1/evaluations",
    }


def test_a_request_to_people_is_made_seen_and_answered_once(
    trainer: TestClient, owner: TestClient
) -> None:
    refused = trainer.post("/v1/access-requests", json={"dataset": "clinic/icu"})
    assert refused.status_code == 403
    asked = {"dataset": "clinic/icu", "purpose": "safety", "columns": ["age"], "reason": "IRB"}
    made = trainer.post("/v1/access-requests", json=asked)
    assert made.status_code == 201
    path = made.headers["location"]
    assert owner.get("/v1/access-requests?pending=true").json()["items"][0] == made.json()
    assert trainer.get(path).json()["state"] == "pending"
    yes = {"decision": "approve", "valid": "14d"}
    assert trainer.post(f"{path}/approvals", json=yes).status_code == 403
    assert owner.post(f"{path}/approvals", json={"decision": "maybe"}).status_code == 422
    assert owner.post(f"{path}/approvals", json=yes).json()["state"] == "approved"
    assert owner.post(f"{path}/approvals", json=yes).status_code == 409
    assert owner.get(f"{path}/explanation").json()["sentences"] == ["it is approved"]
    assert owner.get("/v1/access-requests?pending=true").json()["items"] == []
    assert owner.get("/v1/access-requests?state=pending").status_code == 422
