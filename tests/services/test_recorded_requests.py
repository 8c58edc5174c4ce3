"""Who may read what was asked and decided, and what it tells him."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import AccessDenied, NotFound
from gateway.services import grants, request_access
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from tests.services.simulator import add_rules, caller
from tests.services.test_access import ASK, OWNER, STRANGER, TRAINER, run, shared

__all__ = ["shared"]


def test_the_record_of_an_unseen_dataset_does_not_tell_its_asker_that_it_exists(
    shared: House,
) -> None:
    for name in ("clinic/icu", "clinic/nope"):
        with pytest.raises(NotFound):
            run(request_access.check(shared, STRANGER, Ask(dataset=name, purpose="research")))
    [found] = shared.catalog.decisions(owner="clinic", actor=None, limit=1)
    assert found.reasons == ("no-rule", "not-visible")
    with pytest.raises(NotFound):
        run(grants.decision(shared, STRANGER, found.id))
    assert run(grants.decision(shared, OWNER, found.id)).effect == "deny"


SECRET = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.cleared
    kind: allow
    principals: [startup/role:trainer, clinic/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [health-research]
    accepts: [recipient]
    when: subject.clearance >= 7
    columns: [age]
  - id: clinic.icu.blocked
    kind: deny
    principals: [startup/user:ml]
    scope: dataset:clinic/icu
    actions: [export]
"""


def denied(house: House, who: Caller) -> str:
    """The id of the denial of one request."""
    cleared = replace(who, subject=replace(who.subject, attributes={"clearance": 3}))
    decision = run(request_access.check(house, cleared, ASK))
    assert not decision.is_allowed
    return str(decision.id)


def test_who_was_denied_reads_codes_and_what_he_sent_and_no_rule(shared: House) -> None:
    run(add_rules(shared, "clinic", SECRET))
    for asker in (TRAINER, caller("clinic", "ana", "trainer")):
        told = run(grants.explain(shared, asker, denied(shared, asker)))
        assert (told.candidates, told.nearest, told.decision.advice) == ((), None, None)
        text = " ".join(told.sentences)
        assert "purpose = health-research, subject.clearance = 3" in text
        assert "no-rule" in text
        assert "7" not in text
        assert "clinic.icu" not in text


def test_colleagues_of_the_asker_read_it_only_if_they_may_see_the_dataset(shared: House) -> None:
    run(add_rules(shared, "clinic", SECRET))
    decision = denied(shared, TRAINER)
    told = run(grants.explain(shared, caller("startup", "eve", "trainer"), decision))
    assert (told.candidates, told.nearest) == ((), None)
    assert not any("clearance" in sentence for sentence in told.sentences)
    with pytest.raises(NotFound) as unseen:
        run(grants.explain(shared, caller("startup", "clerk", "clerk"), decision))
    with pytest.raises(NotFound) as absent:
        run(grants.explain(shared, STRANGER, "dec_" + decision[4:][::-1]))
    with pytest.raises(NotFound) as strange:
        run(grants.explain(shared, STRANGER, decision))
    texts = {str(e.value).replace(decision, "").replace("dec_" + decision[4:][::-1], "")
             for e in (unseen, absent, strange)}  # fmt: skip
    assert len(texts) == 1


def test_authors_and_auditors_of_the_owner_read_the_rules_and_others_of_it_do_not(
    shared: House,
) -> None:
    run(add_rules(shared, "clinic", SECRET))
    decision = denied(shared, TRAINER)
    for reader in (OWNER, caller("clinic", "eva", "auditor")):
        full = run(grants.explain(shared, reader, decision))
        assert [(c.rule, c.outcome) for c in full.candidates] == [("clinic.icu.cleared", "UNKNOWN")]
        assert full.nearest == {
            "rule": "clinic.icu.cleared",
            "changes": ["`subject.clearance >= 7` must hold"],
        }
        assert any("recipient says of itself" in sentence for sentence in full.sentences)
        assert not any("clearance = 3" in sentence for sentence in full.sentences)
    with pytest.raises(AccessDenied):
        run(grants.explain(shared, caller("clinic", "clerk", "clerk"), decision))


def test_changing_rules_does_not_ask_a_recorded_request_bit_by_bit(shared: House) -> None:
    def told(clearance: int) -> list[str]:
        attributes = {"clearance": clearance}
        asker = replace(TRAINER, subject=replace(TRAINER.subject, attributes=attributes))
        run(add_rules(shared, "clinic", SECRET.replace(">= 7", ">= 99")))
        decision = run(request_access.check(shared, asker, ASK)).id
        answers = []
        for bound in (1, 7, 11):
            run(add_rules(shared, "clinic", SECRET.replace(">= 7", f">= {bound}")))
            (found,) = run(grants.explain(shared, OWNER, decision)).candidates
            answers.append(found.outcome)
        return answers

    assert told(3) == told(12) == ["UNKNOWN"] * 3


def test_who_reviews_reads_decisions_that_the_catalogue_has_forgotten(
    shared: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(add_rules(shared, "clinic", SECRET))
    decision = denied(shared, TRAINER)
    monkeypatch.setattr(shared.catalog.state, "decisions", {})  # as after 10,000 newer ones
    full = run(grants.explain(shared, OWNER, decision))
    assert [candidate.rule for candidate in full.candidates] == ["clinic.icu.cleared"]
    for who in (TRAINER, STRANGER, caller("clinic", "clerk", "clerk")):
        with pytest.raises(NotFound):
            run(grants.explain(shared, who, decision))
    with pytest.raises(NotFound):
        run(grants.explain(shared, OWNER, "dec_" + decision[4:][::-1]))


def test_what_stands_in_the_way_of_an_allow_that_holds_is_named(shared: House) -> None:
    blocked = SECRET.replace("actions: [export]", "actions: [stream]").replace(">= 7", ">= 2")
    run(add_rules(shared, "clinic", blocked.replace("startup/user:ml", "clinic/user:ana")))
    decision = denied(shared, caller("clinic", "ana", "trainer"))
    assert run(grants.explain(shared, OWNER, decision)).nearest == {
        "rule": "clinic.icu.cleared",
        "changes": ["the deny `clinic.icu.blocked` must not hold"],
    }


def test_a_decision_about_ones_own_people_is_explained_with_all_they_sent(shared: House) -> None:
    run(add_rules(shared, "clinic", SECRET))
    full = run(grants.explain(shared, OWNER, denied(shared, caller("clinic", "ana", "trainer"))))
    assert [(c.rule, c.outcome) for c in full.candidates] == [("clinic.icu.cleared", "FALSE")]
