"""The small training centre in which the documentation's examples play."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from gateway.crypto.identity_keys import IdentityKey
from gateway.demo.stage import Stage

PEOPLE = {
    "clinic/owner": ("person", "owner"),
    "clinic/auditor": ("person", "auditor"),
    "clinic/dpo": ("person", "person-auditor"),
    "startup/ml": ("job", "trainer"),
}
RULES = """\
format: gateway-policy/v0
rules:
  - id: clinic.icu.research
    kind: allow
    description: the startup's jobs learn from it for health research
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [discover, describe, stream]
    purpose: [health-research]
    explain: requester
    columns: [age, hr, label]
    masks: {age: "x-bucket:10"}
"""


def furnish(page: Any) -> Stage:
    """Start a gateway with tenants and people; write `icu.csv` and `rules/`; nothing registered."""
    from gateway.client import GatewayClient
    from gateway.policy import packs

    stage = Stage(page.base)
    stage.data = page.work
    stage.gateway("operator", "init")
    url = stage.start()
    keys = page.base / "config"
    operator = GatewayClient(url, key_file=keys / "operator/dataset-gateway/operator.json")
    for tenant in ("clinic", "startup"):
        operator.tenants.add(tenant)
    for person, (kind, role) in PEOPLE.items():
        path = keys / person.replace("/", "-") / "dataset-gateway" / "identity.json"
        key = IdentityKey.create(path, person)
        operator.identities.add(person, public_key=key.public_text, roles=[role], type=kind)
    operator.close()
    patients(page.work / "icu.csv")
    rules = page.work / "rules"
    rules.mkdir()
    for name, text in {**packs.load("tenant", "clinic"), "icu.yaml": RULES}.items():
        (rules / name).parent.mkdir(exist_ok=True)
        (rules / name).write_text(text, "utf-8")
    return stage


def patients(path: Path, rows: int = 4_000) -> None:
    """A generated table; nobody's data."""
    chance = random.Random(7)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "age", "hr", "diagnosis", "label"])
        for number in range(rows):
            age, rate = chance.randint(18, 95), chance.randint(45, 160)
            label = int(age + rate + chance.gauss(0, 20) > 170)
            writer.writerow([number // 2, age, rate, chance.choice("ABCD"), label])
