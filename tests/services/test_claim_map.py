"""What an issuer's claims say beside the name: attributes that rules read, and nobody invents."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, ConfigError, InvalidInput, NotFound, PlanChanged
from gateway.services import ask_person, down_scope, stream
from gateway.services.claim_map import ISSUER, ClaimMap
from gateway.services.exchange import GRANT_EXCHANGE
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from tests.crypto.provider import BUILD, CLUSTER, NOW, SPIFFE
from tests.services.conftest import open_house
from tests.services.simulator import add_rules
from tests.services.test_access import RULES, run, shared
from tests.services.test_exchange import DETAIL, TOKEN_URL, Job
from tests.services.test_issuers import KEY, TABLE, pod, present, table

__all__ = ["pod", "shared"]
MAP = """
[issuer.attributes]
"workload.namespace" = ["kubernetes.io", "namespace"]
"subject.region" = "region"
"subject.trained" = { claim = "groups", contains = "privacy-trained" }
"""
LOCKED = RULES.replace(
    "purpose:", "accepts: [recipient]\n    when: workload.namespace == 'ml'\n    purpose:"
)
REGIONAL = LOCKED.replace("workload.namespace == 'ml'", "subject.region == 'eu'")
ELSEWHERE = {**CLUSTER, "kubernetes.io": {"namespace": "web"}}
DETAILS = json.dumps([DETAIL])


@pytest.fixture
def mapped(pod: Job, tmp_path: Path) -> Job:
    """The pod of a cluster whose claims are mapped; the clinic lets in one namespace only."""
    house = pod.gateway.house
    house.issuers = table(tmp_path, TABLE + MAP)
    run(add_rules(house, "clinic", LOCKED))
    return pod


def named(said: Any, claims: dict[str, Any], name: str = "subject.region", **more: bool) -> Any:
    """The attribute that one line of the map makes of the claims."""
    attests = more.get("attests", False)
    made = ClaimMap.read("https://i.example", {name: said}, attests=attests)
    found = made.attributes_of(claims)
    assert found.pop(ISSUER) == "https://i.example"
    return found.get(name.removeprefix("subject."))


# what a claim becomes


@pytest.mark.parametrize(
    ("said", "claims", "name", "value"),
    [
        ("region", {"region": "eu"}, "subject.region", "eu"),
        (["a", "b.c"], {"a": {"b.c": "eu"}}, "subject.region", "eu"),
        ({"value": "eu"}, {"region": "us"}, "subject.region", "eu"),
        ({"claim": "o", "values": {"Bonn": "de"}}, {"o": "Bonn"}, "subject.country", "de"),
        ({"claim": "g", "contains": "x"}, {"g": ["x", "y"]}, "subject.trained", True),
        ({"claim": "g", "contains": "x"}, {"g": ["X"]}, "subject.trained", False),
        ("level", {"level": 3}, "subject.clearance", 3),
        ("kind", {"kind": "academic"}, "subject.org_type", "academic"),
        (["kubernetes.io", "namespace"], CLUSTER, "workload.namespace", "ml"),
        (
            ["kubernetes.io", "serviceaccount", "name"],
            CLUSTER,
            "workload.service_account",
            "trainer",
        ),
        ("repository", BUILD, "workload.repository", "startup/models"),
        ("ref", BUILD, "workload.ref", "refs/heads/main"),
        (
            {"claim": "sub", "values": {SPIFFE["sub"]: "eu"}},
            SPIFFE,
            "subject.region",
            "eu",
        ),
    ],
)
def test_a_claim_becomes_the_attribute_that_the_table_says(
    said: Any, claims: dict[str, Any], name: str, value: Any
) -> None:
    assert named(said, claims, name) == value


@pytest.mark.parametrize(
    ("said", "claims", "name"),
    [
        ("region", {}, "subject.region"),
        ("region", {"region": None}, "subject.region"),
        ("region", {"region": ["eu"]}, "subject.region"),
        ("region", {"region": " eu"}, "subject.region"),
        ("region", {"region": "eu\u200b"}, "subject.region"),
        ("region", {"region": "e\u0301u"}, "subject.region"),
        ("region", {"region": "x" * 1025}, "subject.region"),
        (["a", "b"], {"a": "b"}, "subject.region"),
        (["a", "b"], {"a.b": "eu"}, "subject.region"),
        ("level", {"level": "3"}, "subject.clearance"),
        ("level", {"level": True}, "subject.clearance"),
        ("level", {"level": 3.0}, "subject.clearance"),
        ("kind", {"kind": "ACADEMIC"}, "subject.org_type"),
        ("trained", {"trained": "true"}, "subject.trained"),
        ({"claim": "g", "contains": "x"}, {}, "subject.trained"),
        ({"claim": "g", "contains": "x"}, {"g": "xyz"}, "subject.trained"),
        ({"claim": "o", "values": {"Bonn": "de"}}, {"o": "bonn"}, "subject.country"),
        ({"claim": "o", "values": {"Bonn": "de"}}, {"o": ["Bonn"]}, "subject.country"),
    ],
)
def test_what_a_token_does_not_say_clearly_is_unknown(
    said: Any, claims: dict[str, Any], name: str
) -> None:
    assert named(said, claims, name) is None


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("x", "subject.id"),  # the gateway's own
        ("x", "subject.tenant"),
        ("x", ISSUER),
        ("x", "context.mfa"),
        ("x", "resource.region"),  # the owner's
        ("x", "workload.region"),  # an attestation
        ("x", "subject.nobody"),
        ("x", "purpose"),
        (7, "subject.region"),
        ([], "subject.region"),
        (["a", 7], "subject.region"),
        ("", "subject.region"),
        ({}, "subject.region"),
        ({"claim": "x", "value": "eu"}, "subject.region"),
        ({"value": "eu", "contains": "x"}, "subject.region"),
        ({"value": 7}, "subject.region"),
        ({"value": "other"}, "subject.org_type"),
        ({"claim": "x", "contains": "y"}, "subject.region"),
        ({"claim": "x", "contains": 7}, "subject.trained"),
        ({"claim": "x", "values": {"a": 7}}, "subject.region"),
        ({"claim": "x", "values": "a"}, "subject.region"),
        ({"claim": "x", "values": {"a": True}, "contains": "y"}, "subject.trained"),
        ({"claim": "x", "jwks": "y"}, "subject.region"),
    ],
)
def test_a_map_that_says_more_than_it_may_is_refused(said: Any, name: str) -> None:
    with pytest.raises(InvalidInput):
        named(said, {}, name)


def test_only_an_issuer_that_attests_speaks_of_the_machine() -> None:
    assert named({"value": "eu"}, {}, "workload.region", attests=True) == "eu"
    for name in ("subject.id", ISSUER, "resource.region", "context.mfa"):
        with pytest.raises(InvalidInput):
            named("x", {}, name, attests=True)


@pytest.mark.parametrize("said", ["attests = 1\n", 'attributes = "x"\n', "attributes = 7\n"])
def test_a_row_with_a_wrong_map_stops_the_start(tmp_path: Path, said: str) -> None:
    with pytest.raises(ConfigError):
        table(tmp_path, TABLE.replace('tenant = "startup"\n', f'tenant = "startup"\n{said}'))


# what rules make of it


def test_a_rule_lets_in_whom_the_cluster_vouches_for(mapped: Job) -> None:
    with pytest.raises(AccessDenied):
        present(mapped, KEY.token(ELSEWHERE), authorization_details=DETAILS)
    assert present(mapped, KEY.token(CLUSTER), authorization_details=DETAILS).grant


def api_token(job: Job, claims: dict[str, Any]) -> Caller:
    """The caller behind the API token that a foreign token gives."""
    token, url = present(job, KEY.token(claims)).access_token, "http://localhost:1/v1/whoami"
    proof = job.dpop.proof(
        "GET", url, access_token=token, now=lambda: NOW, nonce=job.gateway.house.nonce
    )
    caller: Caller = run(job.gateway.authenticate("GET", url, f"DPoP {token}", proof))
    return caller


def exchange(job: Job, claims: dict[str, Any], detail: dict[str, Any]) -> Any:
    """What a client does: an API token first, then a dataset token of it."""
    form = {
        "grant_type": GRANT_EXCHANGE,
        "subject_token": present(job, KEY.token(claims)).access_token,
        "authorization_details": json.dumps([detail]),
    }
    proof = job.dpop.proof("POST", TOKEN_URL, now=lambda: NOW, nonce=job.gateway.house.nonce)
    return run(job.gateway.token(form, TOKEN_URL, proof))


def test_what_was_vouched_for_stays_with_the_token_that_came_of_it(mapped: Job) -> None:
    vouched = {ISSUER: CLUSTER["iss"], "workload.namespace": "ml", "region": "eu"}
    caller = api_token(mapped, {**CLUSTER, "region": "eu"})
    assert caller.subject.attributes == vouched
    assert run(mapped.gateway.whoami(caller)).attributes == vouched
    assert exchange(mapped, CLUSTER, DETAIL).grant
    with pytest.raises(AccessDenied):
        exchange(mapped, ELSEWHERE, DETAIL)


def test_a_key_file_vouches_for_nothing(mapped: Job, shared: House) -> None:
    import time

    shared.now = time.time
    with pytest.raises(AccessDenied):
        mapped.dataset_token()


def test_a_client_cannot_say_its_attributes_itself(mapped: Job) -> None:
    for more in ({"attributes": {"workload.namespace": "ml"}}, {"workload.namespace": "ml"}):
        with pytest.raises(InvalidInput):
            exchange(mapped, ELSEWHERE, {**DETAIL, **more})
    for claim in ("workload.namespace", "namespace", "attributes"):
        with pytest.raises(AccessDenied):
            exchange(mapped, {**ELSEWHERE, claim: "ml"}, DETAIL)


def test_attributes_are_recorded_sealed_and_never_in_clear(mapped: Job) -> None:
    house = mapped.gateway.house
    exchange(mapped, CLUSTER, DETAIL)
    kinds = {EventKind.TokenIssued: 2, EventKind.AccessDecided: 1}
    events = [e for e in house.journal.read(0) if e.kind in kinds][-3:]
    told = [e.details.get("attributes") or e.details["subject"]["attributes"] for e in events[:2]]
    assert told == [{ISSUER: CLUSTER["iss"], "workload.namespace": "ml"}] * 2
    assert "attributes" not in events[2].details, "a Grant has its own"
    for event in events:
        assert CLUSTER["iss"] not in json.dumps(dict(event.facts))


# and judged again


def test_a_grant_is_judged_again_by_what_was_vouched_for_it(mapped: Job) -> None:
    house = mapped.gateway.house
    grant_id = exchange(mapped, {**CLUSTER, "region": "eu"}, DETAIL).grant
    grant = house.catalog.grant(grant_id)
    assert run(stream.judge_again(house, grant)) == house.catalog.policy_epoch
    run(add_rules(house, "clinic", REGIONAL))
    assert run(stream.judge_again(house, grant)) == house.catalog.policy_epoch
    run(add_rules(house, "clinic", REGIONAL.replace("'eu'", "'us'")))
    with pytest.raises(AccessDenied):
        run(stream.judge_again(house, grant))


def test_a_standing_grant_gives_no_token_when_the_issuer_says_otherwise_now(mapped: Job) -> None:
    house = mapped.gateway.house
    detail = {"type": "dataset_access", "grant": exchange(mapped, CLUSTER, DETAIL).grant}
    assert exchange(mapped, {**CLUSTER, "region": "eu"}, detail).grant == detail["grant"]
    start = house.journal.durable_size
    with pytest.raises((AccessDenied, PlanChanged)):
        exchange(mapped, ELSEWHERE, detail)
    kinds = [event.kind for event in house.journal.read(start)]
    assert EventKind.AccessDecided in kinds, "the denial is recorded"


def test_what_is_vouched_for_survives_a_restart(mapped: Job) -> None:
    house = mapped.gateway.house
    caller = api_token(mapped, CLUSTER)
    grant = exchange(mapped, CLUSTER, DETAIL).grant
    run(house.settled())
    house.journal.close()
    again = open_house(house.settings)
    assert again.catalog.vouched(caller.jti) == caller.subject.attributes
    assert again.catalog.grant(grant).attributes == caller.subject.attributes
    assert run(stream.judge_again(again, again.catalog.grant(grant)))
    again.journal.close()


def test_ranks_share_a_grant_when_the_issuer_says_the_same_of_them(mapped: Job) -> None:
    detail = {**DETAIL, "run": "r1"}
    first = exchange(mapped, CLUSTER, detail).grant
    assert exchange(mapped, {**CLUSTER, "jti": "other"}, detail).grant == first
    assert exchange(mapped, {**CLUSTER, "region": "eu"}, detail).grant != first


def test_what_is_vouched_for_is_forgotten_with_its_token(mapped: Job) -> None:
    house = mapped.gateway.house
    early = api_token(mapped, CLUSTER)
    state = house.catalog.state
    state.vouched[early.jti] = replace(state.vouched[early.jti], expires_at=1)
    late = api_token(mapped, CLUSTER)
    assert house.catalog.vouched(early.jti) == {}
    assert house.catalog.vouched(late.jti)


def test_who_asks_a_person_is_judged_by_what_was_vouched_for_then(mapped: Job) -> None:
    house = mapped.gateway.house
    run(add_rules(house, "clinic", LOCKED.replace("[stream]", "[stream, request]") + APPROVED))
    ask = Ask(dataset="clinic/icu", purpose="health-research")
    caller = api_token(mapped, CLUSTER)
    asked = run(ask_person.ask(house, caller, ask, valid=None, reason="a study"))
    assert ask_person.again(house, asked).subject == caller.subject
    other = api_token(mapped, {**CLUSTER, "region": "eu"})
    assert run(ask_person.ask(house, other, ask, valid=None, reason="a study")).id != asked.id


APPROVED = "    obligations: {require_approval: true}\n"


def test_a_narrower_grant_has_the_attributes_of_its_own_asking(mapped: Job) -> None:
    house = mapped.gateway.house
    wide = exchange(mapped, CLUSTER, DETAIL).grant
    detail = {"type": "dataset_access", "parent": wide, "columns": ["hr"]}
    narrow = house.catalog.grant(exchange(mapped, CLUSTER, detail).grant)
    assert narrow.attributes["workload.namespace"] == "ml"
    with pytest.raises((AccessDenied, NotFound)):
        exchange(mapped, ELSEWHERE, detail)
    assert down_scope.own_grant(house, api_token(mapped, CLUSTER).subject, narrow.id)
