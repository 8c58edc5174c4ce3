"""OpenLineage in: by whom, once, bounded, sealed, and never as a fact of the gateway."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.crypto import jws
from gateway.crypto.identity_keys import IdentityKey
from gateway.domain.claim import CLAIM_BYTES_MAX
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import AccessDenied, InvalidInput, LimitExceeded, NotAuthenticated, TooLarge
from gateway.services import claims, issued_tokens
from gateway.services.claims import EVENTS_PER_MINUTE, Pace
from gateway.services.gateway import Gateway
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.tokens import LINEAGE_PATH
from tests.services.conftest import open_house
from tests.services.simulator import add_tenant, caller
from tests.services.test_access import OWNER, TRAINER, run, shared
from tests.wire.test_openlineage import EVENT, changed

__all__ = ["shared"]
NOBODY = caller("clinic", "nobody")


def claim(house: House, event: Any = EVENT, who: Caller = TRAINER) -> W.ClaimReceipt:
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    return run(claims.take(house, who, raw))


def recorded(house: House) -> list[Any]:
    return [e for e in house.journal.read(0) if e.kind is EventKind.LineageClaimed]


def test_who_has_no_role_in_his_tenant_claims_nothing(shared: House) -> None:
    with pytest.raises(AccessDenied):
        claim(shared, who=NOBODY)
    assert recorded(shared) == []


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", InvalidInput),
        (b"null", InvalidInput),
        (b"\xff", InvalidInput),
        (b"[" * 100_000, InvalidInput),
        (b'{"run":1,"run":2}', InvalidInput),
        (json.dumps(changed("inputs.0.name", 7)).encode(), InvalidInput),
        (json.dumps(EVENT).encode().replace(b'"http://p"', b'"\\ud800"', 1), InvalidInput),
        (json.dumps(EVENT).encode().replace(b'"http://p"', b"NaN", 1), InvalidInput),
    ],
)
def test_what_is_no_event_is_refused_and_not_recorded(
    shared: House, raw: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        claim(shared, raw)
    assert recorded(shared) == []


def test_an_event_that_no_journal_keeps_is_refused(shared: House) -> None:
    named = [{"namespace": "s3://b", "name": f"{n:0>500}"} for n in range(500)]
    with pytest.raises(TooLarge, match="larger than the journal keeps"):
        claim(shared, changed("inputs", named))
    noise = base64.b64encode(bytes(range(256)) * 2 + (b"%d" % 7) * 3).decode()
    assert len(noise) < CLAIM_BYTES_MAX
    assert recorded(shared) == []


def test_the_same_event_twice_is_recorded_once_even_after_a_restart(
    shared: House, settings: Any
) -> None:
    first = claim(shared)
    spelled = json.dumps(EVENT, indent=1, sort_keys=True).encode()
    assert claim(shared, spelled) == W.ClaimReceipt(index=first.index, again=True)
    other = claim(shared, changed("eventType", "START"))
    assert not other.again
    assert len(recorded(shared)) == 2
    shared.journal.close()
    anew = open_house(settings)
    assert claim(anew).again
    anew.journal.close()


def test_another_tenants_same_event_is_his_own(shared: House) -> None:
    assert not claim(shared).again
    assert not claim(shared, who=OWNER).again
    assert [event.owner_tenant for event in recorded(shared)] == ["startup", "clinic"]


def test_names_of_jobs_and_the_event_itself_are_sealed(shared: House) -> None:
    claim(shared, changed("job.name", "patient-smith-cohort"))
    (event,) = recorded(shared)
    in_clear = json.dumps(event.envelope())
    assert "patient-smith" not in in_clear
    assert "airflow" not in in_clear
    assert "s3://lake" in in_clear
    raw = zlib.decompress(base64.b64decode(event.details["event"]))
    assert json.loads(raw)["job"]["name"] == "patient-smith-cohort"
    assert list(event.details["jobs"].values()) == [["airflow", "patient-smith-cohort"]]


def test_a_tenant_that_sends_too_many_is_told_when_to_come_back(shared: House) -> None:
    shared.pace.taken = {"startup": (EVENTS_PER_MINUTE, 0)}
    shared.pace.minute = int(shared.now()) // 60
    with pytest.raises(LimitExceeded) as refused:
        claim(shared)
    assert 0 < refused.value.facts["retry_after_seconds"] <= 60
    claim(shared, who=OWNER)  # another tenant's pace is its own


def test_the_pace_is_of_a_minute() -> None:
    pace = Pace()
    for _ in range(EVENTS_PER_MINUTE):
        pace.take("a", 1, 60.0)
    with pytest.raises(LimitExceeded, match="6000 events"):
        pace.take("a", 1, 119.9)
    pace.take("a", 1, 120.0)
    with pytest.raises(LimitExceeded, match="bytes"):
        pace.take("a", 64 << 20, 120.0)


# The key


@pytest.fixture
def key(house: House, tmp_path: Path) -> IdentityKey:
    made = IdentityKey.create(tmp_path / "job.json", "startup/job")
    run(add_tenant(house, "startup", ("ml", "trainer")))
    facts = {
        "identity": "startup/job",
        "type": "job",
        "roles": ["trainer"],
        "thumbprint": made.thumbprint,
        "public_key": made.public_text,
    }
    house.record(EventDraft(kind=EventKind.IdentityAdded, owner_tenant="startup", facts=facts))
    return made


def bearer(house: House, text: str, path: str = LINEAGE_PATH, method: str = "POST") -> Caller:
    url = house.issuer + path
    caller: Caller = run(Gateway(house).authenticate(method, url, f"Bearer {text}", None))
    return caller


def test_a_lineage_key_stands_for_its_identity_at_that_one_route(
    house: House, key: IdentityKey
) -> None:
    text = key.lineage_key(house.issuer + LINEAGE_PATH, house.now, 3600)
    for _ in range(2):
        assert bearer(house, text).subject.id == "startup/job"
    for path, method in (("/v1/datasets", "GET"), (LINEAGE_PATH, "GET"), ("/api/v1/x", "POST")):
        with pytest.raises(NotAuthenticated):
            bearer(house, text, path, method)


def test_a_key_for_elsewhere_expired_or_of_nobody_opens_nothing(
    house: House, key: IdentityKey, tmp_path: Path
) -> None:
    here, now = house.issuer + LINEAGE_PATH, house.now
    stranger = IdentityKey.create(tmp_path / "other.json", "startup/job")
    unknown = IdentityKey.create(tmp_path / "who.json", "startup/who")
    assertion = key.assertion(house.issuer, now, "thumb" * 8)
    good = key.lineage_key(here, now, 3600)
    refused = [
        key.lineage_key("https://elsewhere" + LINEAGE_PATH, now, 3600),
        key.lineage_key(house.issuer, now, 3600),
        key.lineage_key(here, lambda: now() - 7200, 3600),
        key.lineage_key(here, lambda: now() + 600, 3600),
        stranger.lineage_key(here, now, 3600),
        unknown.lineage_key(here, now, 3600),
        assertion,
        good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        good.rpartition(".")[0] + ".",
        "", "x", jws.b64url(b"{}"),
    ]  # fmt: skip
    for text in refused:
        with pytest.raises(NotAuthenticated):
            bearer(house, text)
    with pytest.raises(InvalidInput, match="a lineage key lives"):
        key.lineage_key(here, now, 367 * 86_400)


def test_a_lineage_key_is_revoked_by_its_own_identity_and_ends_with_it(
    house: House, key: IdentityKey
) -> None:
    text = key.lineage_key(house.issuer + LINEAGE_PATH, house.now, 3600)
    other = caller("startup", "ml", "trainer")
    run(issued_tokens.revoke_token(house, other, text))
    own = bearer(house, text)
    run(issued_tokens.revoke_token(house, own, text))
    with pytest.raises(NotAuthenticated, match="revoked"):
        bearer(house, text)
    second = key.lineage_key(house.issuer + LINEAGE_PATH, house.now, 3600)
    bearer(house, second)
    house.record(
        EventDraft(
            kind=EventKind.IdentityDisabled,
            owner_tenant="startup",
            facts={"identity": "startup/job"},
        )
    )
    with pytest.raises(NotAuthenticated):
        bearer(house, second)
