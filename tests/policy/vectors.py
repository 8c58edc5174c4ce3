"""How a vector of policy-v1 is read: a bundle, questions, and what the judge answers."""

from __future__ import annotations

from typing import Any

from gateway.domain.access import AccessRequest, Resource, Subject
from gateway.domain.dataset import Column, DatasetRef
from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge


def answer(vector: dict[str, Any]) -> dict[str, Any]:
    """What this gateway makes of a vector: digest and decisions, or the refusal."""
    try:
        bundle = PolicyBundle.read(vector["files"], vector["tenant"])
    except PolicyError as error:
        return {"code": error.code, **error.facts}
    judge = Judge.build([bundle])
    return {
        "digest": bundle.digest,
        "rules": [rule.id for rule in bundle.rules],
        "decisions": [_decision(judge, question) for question in vector["questions"]],
    }


def _decision(judge: Judge, question: dict[str, Any]) -> dict[str, Any]:
    ref = DatasetRef.parse(question["dataset"])
    resource = Resource(
        tenant=ref.tenant,
        dataset=ref,
        columns=tuple(
            Column(field_id=number, name=name, type=kind, tags=tuple(tags))
            for number, (name, kind, *tags) in enumerate(question["dataset_columns"], 1)
        ),
        splits=tuple(question["splits"]),
    )
    who = question["subject"]
    request = AccessRequest(
        subject=Subject(
            id=who,
            tenant=who.partition("/")[0],
            type=question["type"],
            roles=tuple(question["roles"]),
            attributes=question["attributes"],
        ),
        action=question["action"],
        dataset=ref,
        tenant=ref.tenant,
        purpose=question["purpose"],
        columns=None if question["columns"] is None else tuple(question["columns"]),
        split=question["split"],
        context=question["context"],
    )
    found = judge.decide(
        request,
        resource,
        decision_id="dec_vector",
        now=question["now"],
        policy_epoch=0,
        catalog_index=0,
    )
    return {
        "effect": found.effect.value,
        "reasons": [reason.code for reason in found.reasons],
        "rules": list(found.rules),
        "advice": found.advice,
        "plan": found.plan.to_dict() if found.plan else None,
    }
