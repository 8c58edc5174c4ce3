"""A small world for policy tests: a clinic's dataset, a startup's job, and short ways to ask."""

from __future__ import annotations

from typing import Any

from gateway.domain.access import AccessRequest, Decision, Resource, Subject
from gateway.domain.dataset import Column, DatasetRef
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge

NOW = 1_800_000_000.0
REF = DatasetRef("clinic", "icu", 1)
COLUMNS = (
    Column(field_id=1, name="age", type="int64", tags=("pii.indirect",)),
    Column(field_id=2, name="income", type="double", tags=("pii.indirect",)),
    Column(field_id=3, name="diagnosis", type="string", tags=("health.special",)),
    Column(field_id=4, name="email", type="string", tags=("pii.direct",)),
    Column(field_id=5, name="site", type="string", tags=("public",)),
    Column(field_id=6, name="born", type="date32[day]", tags=("pii.date",)),
    Column(field_id=7, name="notes", type="string"),
)
TRAINER = Subject(id="startup/ml", tenant="startup", type="job", roles=("trainer",))
ICU = Resource(tenant="clinic", dataset=REF, columns=COLUMNS, splits=("train", "test"))


def rule(**fields: Any) -> dict[str, Any]:
    """An allow rule for the startup's trainers over age and site, changed by `fields`."""
    base: dict[str, Any] = {
        "id": "clinic.icu.research",
        "kind": "allow",
        "principals": ["startup/role:trainer"],
        "scope": "dataset:clinic/icu",
        "actions": ["stream"],
        "columns": ["age", "site"],
    }
    base.update(fields)
    return {key: value for key, value in base.items() if value is not None}


def deny(**fields: Any) -> dict[str, Any]:
    return rule(**{"id": "clinic.icu.deny", "kind": "deny", "columns": None, **fields})


def restrict(**fields: Any) -> dict[str, Any]:
    return rule(**{"id": "clinic.icu.restrict", "kind": "restrict", "columns": None, **fields})


def yaml_of(value: Any) -> str:
    """Flow YAML in which every text is quoted, so that nothing is implicit."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{yaml_of(k)}: {yaml_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(yaml_of, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def text_of(*rules: dict[str, Any]) -> str:
    lines = "".join(f"- {yaml_of(one)}\n" for one in rules)
    return f"format: gateway-policy/v1\nrules:\n{lines}" if rules else "format: gateway-policy/v1\n"


def bundle(*rules: dict[str, Any], tenant: str = "clinic") -> PolicyBundle:
    return PolicyBundle.read({"rules.yaml": text_of(*rules)}, tenant)


def judge(*rules: dict[str, Any]) -> Judge:
    return Judge.build([bundle(*rules)])


def request(**fields: Any) -> AccessRequest:
    base: dict[str, Any] = {
        "subject": TRAINER,
        "action": "stream",
        "dataset": REF,
        "tenant": "clinic",
        "purpose": "health-research",
    }
    return AccessRequest(**{**base, **fields})


def ask(judged: Judge, resource: Resource = ICU, now: float = NOW, **fields: Any) -> Decision:
    return judged.decide(
        request(**fields),
        resource,
        decision_id="dec_test",
        now=now,
        policy_epoch=7,
        catalog_index=9,
    )


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def names(decision: Decision) -> tuple[str, ...]:
    assert decision.plan is not None, decision
    return decision.plan.names


def masks(decision: Decision) -> dict[str, str | None]:
    assert decision.plan is not None, decision
    return {column.name: column.mask for column in decision.plan.columns}
