"""Every field of every kind of policy file: a mistake in it is refused at its line and column.

Each file is written out here with all its fields, one a line. The mistakes are then made line by
line: another type, the name twice, a name nobody knows, a value that means nothing, nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle
from gateway.policy.schema import read_schema
from gateway.policy.suite import run_suites
from gateway.shards.fixture_rows import visible

RULES = """\
format: gateway-policy/v1
rules:
  - id: clinic.icu.research
    kind: allow
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [health-research]
    splits: [train]
    when: subject.clearance >= 2
    accepts: [recipient]
    expires: 2027-03-31
    explain: requester
    public: false
    columns: [age, born]
    tags: [public]
    masks:
      age: x-bucket:5
    tag_masks:
      pii.date: truncate-to-year
    where: age > 17
    limits:
      max_rows: 5_000
      max_epochs: 3
      max_bytes: 2GiB
      valid: 14d
    obligations:
      no_redistribution: true
      delete_after: P30D
      min_group_size: 5
      region_lock: eu, ch
    combinable: true
    owner: dpo@clinic.example
    ticket: IRB-1
    description: why
"""
SUITE = """\
format: gateway-policy-test/v1
now: 2026-12-01T12:00:00Z
subjects:
  job:
    id: startup/ml
    type: job
    roles: [trainer]
    attributes:
      clearance: 3
datasets:
  icu:
    ref: clinic/icu@1
    splits: [train]
    suspended: false
    attributes:
      region: eu
    columns:
      age:
        type: int64
        tags: [pii.indirect]
    rows:
      - age: 40
tests:
  - name: research
    subjects: [job]
    datasets: [icu]
    actions: [stream]
    purpose: health-research
    split: train
    run: r1
    columns: [age]
    context:
      ticket: T-1
    expected:
      - subject: job
        dataset: icu
        action: stream
        effect: allow
        columns: [age]
        masks:
          age: x-bucket:5
        where: age > 17
        reasons: [rule-allows]
        rules: [clinic.icu.research]
        rows:
          - age: 40
  - name: what is denied
    subjects: [job]
    actions: [export]
    expected:
      - subject: job
        action: export
        effect: deny
        advice: ask somebody
"""
SCHEMA = """\
format: gateway-policy-schema/v1
attributes:
  subject.site:
    type: string
    authority: recipient
    values: [a, b]
    description: where somebody works
obligations:
  be_kind:
    type: bool
    level: declared
    description: to others
"""
SETTINGS = """\
format: gateway-policy-bundle/v1
second_person: true
"""


def _read_rules(text: str) -> None:
    PolicyBundle.read({"a.yaml": text}, "clinic")


def _read_settings(text: str) -> None:
    PolicyBundle.read({"bundle.yaml": text}, "clinic")


def _read_suite(text: str) -> None:
    run_suites(PolicyBundle.read({"a_test.yaml": text}, "clinic"), show=visible)


FILES: dict[str, tuple[str, Callable[[str], object]]] = {
    "rules": (RULES, _read_rules),
    "suite": (SUITE, _read_suite),
    "schema": (SCHEMA, read_schema),
    "settings": (SETTINGS, _read_settings),
}
# What its author names: any name may stand there.
NAMED = ["masks", "rows", "context", "attributes", "columns", "subjects", "datasets"]
FREE = {("rules", "tag_masks"), ("schema", "obligations")}
FIELD = re.compile(r"( *(?:- )?)([a-z_.]+):(?: (.*))?\Z")


def refused_at(text: str, read: Callable[[str], object]) -> tuple[int, int]:
    with pytest.raises(PolicyError) as caught:
        read(text)
    facts = caught.value.facts
    assert caught.value.message.startswith(f"{facts['file']}:{facts['line']}:{facts['column']}: ")
    assert caught.value.advice
    return facts["line"], facts["column"]


def _fields(text: str) -> Iterator[tuple[int, int, str, str | None, str | None]]:
    """Line from 0, column of the name from 0, name, value, and the name it stands below."""
    above: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        found = FIELD.match(line)
        assert found, line
        column = len(found[1])
        above = [(at, name) for at, name in above if at < column]
        yield number, column, found[2], found[3], above[-1][1] if above else None
        above.append((column, found[2]))


ALL = [
    pytest.param(kind, number, column, name, value, id=f"{kind}-{number + 1}-{name}")
    for kind, (text, _) in FILES.items()
    for number, column, name, value, _ in _fields(text)
]


@pytest.mark.parametrize("kind", FILES)
def test_the_files_that_are_broken_below_are_whole_before(kind: str) -> None:
    text, read = FILES[kind]
    read(text)


@pytest.mark.parametrize(("kind", "number", "column", "name", "value"), ALL)
def test_a_field_of_another_type_is_refused_at_its_value(
    kind: str, number: int, column: int, name: str, value: str | None
) -> None:
    text, read = FILES[kind]
    lines = text.splitlines()
    below = lines[number + 1 :]
    while value is None and below and (len(below[0]) - len(below[0].lstrip(" -"))) > column:
        below.pop(0)
    wrong = "[[x]]" if value is None else "{a: {b: c}}"
    broken = [*lines[:number], f"{lines[number].partition(':')[0]}: {wrong}", *below]
    line, found = refused_at("\n".join(broken) + "\n", read)
    start = column + len(name) + 3
    assert (line, found) in {(number + 1, start), (number + 1, start + 1)}  # list, or its item


@pytest.mark.parametrize(("kind", "number", "column", "name", "value"), ALL)
def test_a_name_that_stands_twice_is_refused_at_the_second(
    kind: str, number: int, column: int, name: str, value: str | None
) -> None:
    del value
    text, read = FILES[kind]
    lines = text.splitlines()
    head = lines[number][:column]
    lines[number] = " " * column + lines[number][column:]
    broken = [*lines[:number], f"{head}{name}: x", *lines[number:]]
    assert refused_at("\n".join(broken) + "\n", read) == (number + 2, column + 1)


UNKNOWN = [
    pytest.param(kind, number, column, id=f"{kind}-{number + 1}-beside-{name}")
    for kind, (text, _) in FILES.items()
    for number, column, name, _, above in _fields(text)
    if above not in NAMED and (kind, above) not in FREE
]


@pytest.mark.parametrize(("kind", "number", "column"), UNKNOWN)
def test_a_name_that_nobody_knows_is_refused_where_it_stands(
    kind: str, number: int, column: int
) -> None:
    text, read = FILES[kind]
    lines = text.splitlines()
    head = lines[number][:column]
    lines[number] = " " * column + lines[number][column:]
    broken = [*lines[:number], f"{head}nonsense: x", *lines[number:]]
    assert refused_at("\n".join(broken) + "\n", read) == (number + 1, column + 1)


@pytest.mark.parametrize(
    ("kind", "name", "start"),
    [
        ("rules", "format", 2), ("rules", "id", 3), ("rules", "kind", 3), ("rules", "scope", 3),
        ("rules", "principals", 3), ("rules", "actions", 3), ("rules", "accepts", 3),
        ("suite", "format", 2), ("suite", "now", 1), ("suite", "ref", 12), ("suite", "name", 24),
    ],
)  # fmt: skip
def test_a_field_that_must_be_there_is_missed_at_what_needs_it(
    kind: str, name: str, start: int
) -> None:
    text, read = FILES[kind]
    number, column = next((n, c) for n, c, found, _, _ in _fields(text) if found == name)
    lines = text.splitlines()
    head = lines.pop(number)[:column]
    if "-" in head:
        lines[number] = head + lines[number][column:]
    line, _ = refused_at("\n".join(lines) + "\n", read)
    assert line == {"format": 1}.get(name, start)


@pytest.mark.parametrize(
    ("kind", "field", "wrong", "offset"),
    [
        ("rules", "format: gateway-policy/v1", "gateway-policy/v9", 0),
        ("rules", "id: clinic.icu.research", "evil.icu.research", 0),
        ("rules", "kind: allow", "Allow", 0),
        ("rules", "principals: [startup/role:trainer]", "[startup/role:a, nobody]", 17),
        ("rules", "scope: dataset:clinic/icu", "dataset:clinic", 0),
        ("rules", "scope: dataset:clinic/icu", "tenant:startup", 0),
        ("rules", "actions: [stream]", "[stream, Stream]", 9),
        ("rules", "actions: [stream]", "[stream, stream]", 9),
        ("rules", "purpose: [health-research]", "[research, profit]", 11),
        ("rules", "splits: [train]", "[Train]", 1),
        ("rules", "when: subject.clearance >= 2", "subject.clearance >= 'x'", 21),
        ("rules", "when: subject.clearance >= 2", "true and subject.nope == 2", 9),
        ("rules", "accepts: [recipient]", "[gateway]", 1),
        ("rules", "expires: 2027-03-31", "2027-02-30", 0),
        ("rules", "explain: requester", "everybody", 0),
        ("rules", "public: false", "maybe", 0),
        ("rules", "columns: [age, born]", "[]", 0),
        ("rules", "tags: [public]", "[PII]", 1),
        ("rules", "tags: [public]", "[public, restricted]", 9),
        ("rules", "age: x-bucket:5", "rot13", 0),
        ("rules", "pii.date: truncate-to-year", "truncate", 0),
        ("rules", "where: age > 17", "age > (select 1)", 6),
        ("rules", "max_rows: 5_000", "0", 0),
        ("rules", "max_epochs: 3", "1e3", 0),
        ("rules", "max_bytes: 2GiB", "2GB", 0),
        ("rules", "valid: 14d", "2w", 0),
        ("rules", "no_redistribution: true", "yes", 0),
        ("rules", "delete_after: P30D", "30 days", 0),
        ("rules", "min_group_size: 5", "0", 0),
        ("rules", "region_lock: eu, ch", "' , '", 1),
        ("rules", "combinable: true", "yes", 0),
        ("suite", "format: gateway-policy-test/v1", "gateway-policy/v1", 0),
        ("suite", "now: 2026-12-01T12:00:00Z", "2026-12-01", 0),
        ("suite", "id: startup/ml", "ml", 0),
        ("suite", "type: job", "robot", 0),
        ("suite", "ref: clinic/icu@1", "clinic", 0),
        ("suite", "splits: [train]", "[Train]", 1),
        ("suite", "suspended: false", "no", 0),
        ("suite", "tags: [pii.indirect]", "[PII]", 1),
        ("suite", "subjects: [job]", "[job, nobody]", 6),
        ("suite", "datasets: [icu]", "[nothing]", 1),
        ("suite", "actions: [stream]", "[stream, fly]", 9),
        ("suite", "purpose: health-research", "profit", 0),
        ("suite", "effect: allow", "maybe", 0),
        ("suite", "age: x-bucket:5", "rot13", 0),
        ("suite", "where: age > 17", "age >", 5),
        ("schema", "type: string", "text", 0),
        ("schema", "authority: recipient", "anybody", 0),
        ("schema", "values: [a, b]", "[a, a]", 4),
        ("schema", "level: declared", "wished", 0),
        ("settings", "second_person: true", "yes", 0),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_refused_at_its_character(
    kind: str, field: str, wrong: str, offset: int
) -> None:
    text, read = FILES[kind]
    name = field.partition(":")[0]
    number, line = next(
        (n, line) for n, line in enumerate(text.splitlines(), 1) if line.endswith(field)
    )
    broken = text.replace(line, line[: -len(field)] + f"{name}: {wrong}", 1)
    start = len(line) - len(field) + len(name) + 2
    assert refused_at(broken, read) == (number, start + offset + 1)
