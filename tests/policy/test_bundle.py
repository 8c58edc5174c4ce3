"""Reading bundles: hostile and mistaken text is refused with its place, never a crash."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle
from gateway.policy.schema import read_schema

from .scene import bundle, deny, restrict, rule, text_of

HEAD = "format: gateway-policy/v1\nrules:\n"


def read(text: str, path: str = "rules.yaml") -> PolicyBundle:
    return PolicyBundle.read({path: text}, "clinic")


def place(text: str) -> tuple[int, int]:
    with pytest.raises(PolicyError) as caught:
        read(text)
    assert caught.value.facts["file"] == "rules.yaml"
    assert caught.value.message.startswith("rules.yaml:")
    assert caught.value.advice
    return caught.value.facts["line"], caught.value.facts["column"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "x",
        "format: gateway-policy/v2\n",
        "rules: []\n",
        "format: gateway-policy/v1\nrules: {}\n",
        "format: gateway-policy/v1\nrules: [x]\n",
        "format: gateway-policy/v1\nextra: 1\n",
        "format: gateway-policy/v1\nformat: gateway-policy/v1\n",
        "format: gateway-policy/v1\n---\nformat: gateway-policy/v1\n",
        "%YAML 1.1\n---\nformat: gateway-policy/v1\n",
        "format: &a gateway-policy/v1\nrules: *a\n",
        "format: !!str gateway-policy/v1\n",
        "format: !!python/object/apply:os.system [id]\n",
        "format: gateway-policy/v1\n<<: {rules: []}\n",
        "format: gateway-policy/v1\n? [a]\n: b\n",
        "format: gateway-policy/v1\nrules: [" + "[" * 50 + "]" * 50 + "]\n",
        "format: gateway-policy/v1\nrules: " + "[" * 5000,
        "format: gateway-policy/v1\nrules: " + "{a: " * 5000,
        "format: 'gateway-policy/v1",
        "format: gateway-policy/v1\n\trules: []\n",
        "format: gateway-policy/v1\n# zero\u200bwidth\n",
        "format: gateway-policy/v1\n# right to left \u202e\n",
        "\ufeffformat: gateway-policy/v1\n",
        "format: gateway-policy/v1\n# cafe\u0301\n",
        "format: gateway-policy/v1\n# \x00\n",
        "format: gateway-policy/v1\n# \x85\n",
        "format: gateway-policy/v1\n# \ud800\n",
        "format: gateway-policy/v1\n#" + "x" * (256 << 10),
        'format: gateway-policy/v1\nrules: ["\\x00"]\n',
        'format: gateway-policy/v1\nrules: ["\\u200b"]\n',
        'format: gateway-policy/v1\nrules: ["\\u202e"]\n',
        'format: gateway-policy/v1\nrules: ["\\r"]\n',
        'format: gateway-policy/v1\nrules: ["e\\u0301"]\n',
        'format: gateway-policy/v1\n"ru\\u200bles": []\n',
        "format: gateway-policy/v1\nrules: [" + "a," * 40_000 + "]\n",
        "format: [gateway-policy/v1]\n",
    ],
)
def test_text_that_is_not_a_policy_file_is_refused_with_its_place(text: str) -> None:
    assert place(text) >= (1, 1)


def test_a_billion_laughs_are_refused_before_anything_grows() -> None:
    laughs = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*a, *a, *a]\n" for c in string.ascii_lowercase)
    assert place(laughs) == (1, 4)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None},
        {"id": "icu"},
        {"id": "evil.icu"},
        {"id": "clinic.Icu"},
        {"id": "clinic.icu\n"},
        {"id": "clinic.icu, clinic.evil"},
        {"id": "clinic." + "x" * 200},
        {"kind": None},
        {"kind": "Allow"},
        {"kind": "allowed"},
        {"kind": "DENY"},
        {"principals": None},
        {"principals": []},
        {"principals": ["*"]},
        {"principals": ["trainer"]},
        {"principals": ["role:trainer"]},
        {"principals": ["startup/trainer"]},
        {"principals": ["startup/role:"]},
        {"principals": ["startup/role:*"]},
        {"principals": ["*/role:trainer"]},
        {"principals": ["startup/group:x"]},
        {"principals": ["startup/role:trainer", "startup/role:trainer"]},
        {"principals": ["startup/role:trai\\u200bner"]},
        {"scope": None},
        {"scope": "clinic/icu"},
        {"scope": "dataset:clinic"},
        {"scope": "dataset:clinic/icu@1"},
        {"scope": "dataset:clinic/*"},
        {"scope": "tag:"},
        {"scope": "tag:PII"},
        {"scope": "everything"},
        {"actions": None},
        {"actions": ["read"]},
        {"actions": ["*"]},
        {"actions": ["Stream"]},
        {"purpose": ["profit"]},
        {"splits": ["Train"]},
        {"expires": "soon"},
        {"expires": "2027-02-30"},
        {"expires": "2027-02-03T12:00:00"},
        {"explain": "everybody"},
        {"columns": None},
        {"columns": []},
        {"tags": ["restricted"], "columns": None},
        {"tags": ["PII"]},
        {"masks": {"age": "rot13"}},
        {"masks": {"age": "x-bucket"}},
        {"masks": {"age": "x-bucket:0"}},
        {"masks": {"age": "x-bucket:-5"}},
        {"masks": {"age": "replace-with-null:1"}},
        {"masks": ["x-drop"]},
        {"masks": {"age": ["x-drop"]}},
        {"masks": {"age": ""}},
        {"tag_masks": {"PII": "x-drop"}},
        {"limits": {"max_rows": 0}},
        {"limits": {"max_rows": "many"}},
        {"limits": {"max_rows": 10**30}},
        {"limits": {"max_bytes": "2 GB"}},
        {"limits": {"valid": "1w"}},
        {"limits": {"rows": 5}},
        {"obligations": {"be_nice": True}},
        {"obligations": {"no_redistribution": "yes"}},
        {"obligations": {"delete_after": True}},
        {"obligations": {"delete_after": "30 days"}},
        {"obligations": {"min_group_size": 0}},
        {"obligations": {"region_lock": " , "}},
        {"colunms": ["age"]},
        {"public": "yes"},
        {"when": "subject.clearance >= 2"},
        {"where": "site = :subject.region"},
        {"accepts": ["everybody"]},
    ],
    ids=str,
)
def test_a_field_that_is_wrong_refuses_the_whole_bundle(fields: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as caught:
        bundle(rule(id="clinic.first"), rule(**fields))
    assert caught.value.facts["line"] == 4


@pytest.mark.parametrize(
    "one",
    [
        deny(columns=["age"]),
        deny(masks={"age": "x-drop"}),
        deny(where="age > 3"),
        deny(limits={"max_rows": 1}),
        deny(obligations={"no_redistribution": True}),
        restrict(),
        restrict(columns=["age"], where="age > 3"),
        restrict(actions=["discover"], where="age > 3"),
        rule(actions=["discover"]),
        rule(actions=["discover"], columns=None, where="age > 3"),
    ],
    ids=str,
)
def test_a_kind_takes_only_the_fields_that_mean_something_for_it(one: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        bundle(one)


@pytest.mark.parametrize("scope", ["dataset:startup/x", "tenant:startup", "global"])
@pytest.mark.parametrize("make", [rule, deny])
def test_a_tenant_writes_about_its_own_data_only(scope: str, make: Any) -> None:
    with pytest.raises(PolicyError):
        bundle(make(scope=scope))


def test_nobody_but_the_owner_allows_the_use_of_data() -> None:
    platform = {"id": "platform.x", "principals": ["platform/role:operator"]}
    for scope in ("dataset:clinic/icu", "tenant:clinic", "global", "tag:public"):
        for action in ("stream", "export", "publish", "classify", "approve", "discover"):
            columns = ["age"] if action in ("stream", "export") else None
            with pytest.raises(PolicyError):
                bundle(
                    rule(**platform, scope=scope, actions=[action], columns=columns),
                    tenant="platform",
                )
        found = bundle(
            rule(**platform, scope=scope, actions=["revoke", "operate"], columns=None),
            tenant="platform",
        )
        assert len(found.rules) == 1


def test_an_id_used_twice_is_refused_across_files() -> None:
    with pytest.raises(PolicyError) as caught:
        PolicyBundle.read({"a.yaml": text_of(rule()), "b.yaml": text_of(rule())}, "clinic")
    assert caught.value.facts["file"] == "b.yaml"
    assert "a.yaml:3" in caught.value.message


@pytest.mark.parametrize(
    "path", ["/etc/x.yaml", "../x.yaml", "x.yml", "A.yaml", "x\n.yaml", "a..b.yaml"]
)
def test_a_file_name_that_is_no_plain_path_is_refused(path: str) -> None:
    with pytest.raises(PolicyError):
        read(text_of(rule()), path)


def test_too_many_files_are_refused() -> None:
    with pytest.raises(PolicyError):
        PolicyBundle.read(
            {f"r{n}.yaml": "format: gateway-policy/v0\n" for n in range(1001)}, "clinic"
        )


def test_a_truncated_file_never_loses_its_deny_quietly() -> None:
    whole = text_of(rule(), deny())
    complete = len(PolicyBundle.read({"r.yaml": whole}, "clinic").rules)
    assert complete == 2
    for cut in range(len(text_of(rule())) + 1, len(whole) - 1):
        with pytest.raises(PolicyError):
            read(whole[:cut])


def test_an_error_in_a_condition_points_at_its_column() -> None:
    text = HEAD + (
        "  - id: clinic.a\n    kind: deny\n    principals: ['*']\n    scope: tenant:clinic\n"
        "    actions: ['*']\n    when: subject.type == 'robot'\n"
    )
    assert place(text) == (8, 27)
    assert place(text.replace("subject.type == 'robot'", "subject.colour == 'x'")) == (8, 11)
    assert place(text.replace("subject.type == 'robot'", '"subject.colour == 1"')) == (8, 12)


def test_the_digest_names_tenant_and_files() -> None:
    one = bundle(rule())
    assert one.digest == bundle(rule()).digest
    assert one.digest != bundle(rule(columns=["age"])).digest
    empty = {"rules.yaml": "format: gateway-policy/v0\n"}
    assert PolicyBundle.read(empty, "a").digest != PolicyBundle.read(empty, "b").digest


def test_every_field_is_read() -> None:
    found = bundle(
        rule(
            purpose=["HMB"],
            when="subject.clearance >= 2",
            accepts=["recipient", "requester"],
            expires="2027-12-31T12:00:00+02:00",
            explain="requester",
            tags=["public"],
            masks={"age": "x-bucket:5"},
            tag_masks={"pii.email": "x-hmac-tenant"},
            where="age > 17",
            limits={"max_rows": 5, "max_bytes": "2GiB", "max_epochs": 3, "valid": "8h"},
            obligations={"delete_after": "P30D", "no_redistribution": True},
            owner="dpo",
            ticket="T-1",
            description="why",
        )
    ).rules[0]
    assert found.purposes == ("health-research",)
    assert found.expires_at == 1_830_247_200
    assert found.limits.to_dict() == {"max_rows": 5, "max_bytes": 2 << 30, "max_epochs": 3}
    assert found.valid_seconds == 28_800
    assert found.obligations == (("delete_after", "P30D"), ("no_redistribution", True))
    assert found.explain
    assert (found.owner, found.ticket, found.description) == ("dpo", "T-1", "why")


@pytest.mark.parametrize(
    "text",
    [
        "format: x\n",
        "format: gateway-policy-schema/v0\nattributes: {subject.X: {}}\n",
        "format: gateway-policy-schema/v0\nattributes: {sub.x: {}}\n",
        "format: gateway-policy-schema/v0\nattributes: {subject.x: {type: text}}\n",
        "format: gateway-policy-schema/v0\nobligations: {x: {level: wished}}\n",
        "format: gateway-policy-schema/v0\nobligations: {x: {level: enforced}}\n",
        "format: gateway-policy-schema/v0\nobligations: {x: {type: period, level: tracked}}\n",
        "format: gateway-policy-schema/v0\nobligations: {delete_after: {level: tracked}}\n",
        "format: gateway-policy-schema/v0\nobligations: {'x y': {}}\n",
    ],
)
def test_a_schema_that_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        read_schema(text)


ALPHABET = st.sampled_from(
    [*"abk:-[]{}'\"#&*!|>%@`,\n \t\\?~.0", "\u0301", "\u200b", "é", "id", "kind: "]
)


@given(st.lists(ALPHABET, max_size=60).map("".join))
@example("- [\n- ]")
@example("? ? ?")
@example("a: |9\n x")
@example('"\\x00"')
@example('"\\ud800"')
def test_whatever_the_text_only_policy_errors_come_out(text: str) -> None:
    for candidate in (text, HEAD + "  - " + text):
        try:
            read(candidate)
        except PolicyError as error:
            assert error.facts["line"] >= 1  # noqa: PT017 - most, not all, are refused


def test_a_refusal_is_one_line_whatever_it_quotes() -> None:
    for path, text in (
        ("a\n\x1b[2J.yaml", "format: x"),
        ("a.yaml", 'format: gateway-policy/v1\nrules: [{kind: "a\\nb"}]'),
    ):
        with pytest.raises(PolicyError) as caught:
            PolicyBundle.read({path: text}, "clinic")
        assert caught.value.message.isprintable()
        assert "\\n" in caught.value.message
