"""Write the vectors of policy-v1 (run it after a change of the format)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from gateway.policy import packs  # noqa: E402
from tests.policy.scene import deny, restrict, rule, text_of  # noqa: E402
from tests.policy.vectors import answer  # noqa: E402

COLUMNS = [  # name, Arrow type, tags
    ["age", "int64", "pii.indirect"],
    ["income", "double", "pii.indirect"],
    ["email", "string", "pii.direct"],
    ["born", "date32[day]", "pii.date"],
    ["site", "string", "public"],
    ["notes", "string"],
    ["diagnosis", "string", "health.special"],
]
RULE = {
    "purpose": ["health-research"],
    "explain": "requester",
    "columns": ["age", "income", "born", "notes", "site"],
    "masks": {"income": "x-bucket:1000"},
    "where": "site in ('a', 'b') and (age >= 18 or notes is not null)",
    "limits": {"max_rows": 1000, "valid": "14d"},
    "obligations": {"no_redistribution": True},
}
NARROW = restrict(
    scope="tag:pii",
    tag_masks={"pii.date": "truncate-to-year", "pii.direct": "x-drop", "pii": "x-bucket:300"},
    where="age < 90",
)


def asked(**changes: Any) -> dict[str, Any]:
    base = {
        "subject": "startup/ml", "type": "job", "roles": ["trainer"], "attributes": {},
        "action": "stream", "dataset": "clinic/icu@1", "purpose": "health-research",
        "columns": None, "split": None, "context": {}, "splits": ["train", "test"],
        "dataset_columns": COLUMNS, "now": 1_800_000_000,
    }  # fmt: skip
    return {**base, **changes}


GOOD: dict[str, tuple[dict[str, str], list[dict[str, Any]]]] = {
    "ok-one-allow": (
        {"rules.yaml": text_of(rule(**RULE))},
        [
            asked(),
            asked(columns=["age", "email", "nothing"]),
            asked(columns=["email"]),
            asked(purpose="disease-research", split="train"),
            asked(purpose="marketing"),
            asked(purpose=None),
            asked(roles=[]),
            asked(action="export"),
        ],
    ),
    "ok-allow-and-restrict": (
        {"a.yaml": text_of(rule(**RULE)), "b.yaml": text_of(NARROW)},
        [asked(), asked(columns=["born", "income"])],
    ),
    "ok-two-allows-meet": (
        {
            "rules.yaml": text_of(
                rule(columns=["age", "site"], masks={"age": "x-bucket:4"}),
                rule(id="clinic.icu.two", columns=["age", "born"], masks={"age": "x-bucket:6"}),
            )
        },
        [asked()],
    ),
    "ok-three-values": (
        {
            "rules.yaml": text_of(
                rule(when="subject.clearance >= 2 or subject.type == 'job'", accepts=["recipient"]),
                deny(when="subject.country == 'xx'", accepts=["recipient"]),
            )
        },
        [
            asked(),
            asked(attributes={"clearance": 1, "country": "ch"}),
            asked(attributes={"clearance": 2, "country": "xx"}),
            asked(attributes={"clearance": 2}),
            asked(attributes={"clearance": True, "country": "ch"}),
        ],
    ),
    "ok-health-pack": (
        {**packs.load("health", "clinic"), "own.yaml": text_of(rule(**RULE))},
        [asked(), asked(purpose="marketing")],
    ),
    "ok-says-v0": (
        {"rules.yaml": text_of(rule(**RULE)).replace("policy/v1", "policy/v0")},
        [asked()],
    ),
    "ok-nothing": ({}, [asked(), asked(action="describe", purpose=None)]),
}
BAD = {
    "bad-policy-invalid-kind": text_of(rule(kind="Allow")),
    "bad-policy-invalid-id-twice": text_of(rule(), rule()),
    "bad-policy-invalid-foreign-scope": text_of(rule(scope="dataset:startup/x")),
    "bad-policy-invalid-breakout": text_of(rule(when="False) || (True")),
    "bad-policy-invalid-unknown-attribute": text_of(rule(when="subject.colour == 'red'")),
    "bad-policy-invalid-unaccepted-attribute": text_of(rule(when="subject.clearance >= 2")),
    "bad-policy-invalid-anchor": "format: &f gateway-policy/v1\n",
    "bad-policy-invalid-key-twice": "format: gateway-policy/v1\nformat: gateway-policy/v1\n",
    "bad-policy-invalid-invisible": "format: gateway-policy/v1\n# zero\u200bwidth\n",
    "bad-policy-invalid-filter": text_of(rule(where="age = (select 1)")),
    "bad-policy-invalid-mask": text_of(rule(masks={"age": "rot13"})),
    "bad-policy-invalid-obligation": text_of(rule(obligations={"be_nice": True})),
    "bad-policy-invalid-no-columns": text_of(rule(columns=None)),
    "bad-policy-invalid-restricted-tag": text_of(rule(tags=["restricted"])),
    "bad-policy-invalid-everybody": text_of(rule(principals=["*"])),
}


def main() -> None:
    """Write every file; what they say is checked by tests/policy/test_vectors.py."""
    for name, (files, questions) in GOOD.items():
        vector = {"tenant": "clinic", "files": files, "questions": questions}
        write(name, {**vector, "answers": answer(vector)})
    for name, text in BAD.items():
        vector = {"tenant": "clinic", "files": {"rules.yaml": text}}
        write(name, {**vector, "refusal": answer({**vector, "questions": []})})


def write(name: str, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True)
    (HERE / "policy-v1" / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
