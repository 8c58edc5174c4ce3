"""Compiled rules are the rules that were read: equal, in their order, and they decide alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from gateway.errors import IntegrityError, PolicyError
from gateway.policy import compiled, packs
from gateway.policy.bundle import PolicyBundle
from gateway.policy.compiled import CompiledRules
from gateway.policy.explain import Explanation
from gateway.policy.judge import Judge
from gateway.policy.rules import moves
from gateway.policy.schema import default_schema
from tests.policy.test_properties import CHECK, REQUESTS, RULES, essence, read

from . import scene
from .loader_fuzz import sound
from .scene import ICU, NOW, ask, bundle, restrict, rule


def again(known: PolicyBundle) -> CompiledRules:
    packed = compiled.pack(known.tenant, known.digest, known.rules, second_person=False)
    return compiled.unpack(packed, known.tenant, known.digest, default_schema())[0]


def explained(judge: Judge, **wanted: Any) -> Explanation:
    return judge.explain(scene.request(**wanted), ICU, NOW)


def test_what_is_no_block_of_this_bundle_is_refused() -> None:
    known = bundle(rule())
    data = compiled.pack("clinic", known.digest, known.rules, second_person=False)
    schema = default_schema()
    for bad, tenant, digest in (
        (data, "startup", known.digest),
        (data, "clinic", "0" * 64),
        (data[:-1], "clinic", known.digest),
        (data + b" ", "clinic", known.digest),
        (b"", "clinic", known.digest),
        (data[:8], "clinic", known.digest),
        (b"\xff" * 99, "clinic", known.digest),
        (len(b"[]").to_bytes(8, "big") + b"[]", "clinic", known.digest),
    ):
        with pytest.raises(IntegrityError):
            compiled.unpack(bad, tenant, digest, schema)


@pytest.mark.parametrize("number", range(len(sound())))
def test_every_field_comes_back(number: int) -> None:
    tenant, files = sound()[number]
    known = PolicyBundle.read(files, tenant)
    found = again(known)
    assert list(found) == list(known.rules)
    assert [found[at] for at in range(len(found))] == list(known.rules)
    assert len(found) == len(known.rules)
    assert compiled.comes_back(known.rules, default_schema())
    assert found.moving == {one.id for one in known.rules if moves(one)}
    for back, one in zip(found, known.rules, strict=True):
        assert repr(back) == repr(one)  # types too: to Python 1 == True


LONG = ", ".join(f"'u{number}'" for number in range(198))
WIDE = " or ".join(f"s{number:05}{'x' * 60} between 1 and 2" for number in range(20))
DEEP = "not " * 31 + "resource.split not in ('train')"


@pytest.mark.parametrize(
    "wanted", [{"when": f"subject.id not in ({LONG}) and true"}, {"where": WIDE}, {"when": DEEP}]
)
def test_what_could_not_be_read_again_is_known_before(wanted: dict[str, str]) -> None:
    known = bundle(rule(**wanted))
    with pytest.raises(PolicyError):
        list(again(known))
    assert not compiled.comes_back(known.rules, default_schema())


def test_numbers_beyond_64_bits_and_names_of_any_script_come_back() -> None:
    known = bundle(
        rule(limits={"max_bytes": "999999999999999TiB"}, description="größe 東京", owner="ß"),
        restrict(masks={"größe": "x-drop"}),
    )
    assert list(again(known)) == list(known.rules)


@CHECK
@given(RULES, REQUESTS)
def test_compiled_rules_decide_and_explain_as_those_that_were_read(
    rules: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    known = read(rules)
    one = Judge.build([known])
    other = Judge.build([replace(known, rules=again(known))])
    assert one.digest == other.digest
    assert essence(ask(one, **wanted)) == essence(ask(other, **wanted))
    assert explained(one, **wanted) == explained(other, **wanted)
    subject = wanted["subject"]
    assert one.outlook(subject, ICU, NOW) == other.outlook(subject, ICU, NOW)
    assert one.is_visible(subject, ICU, NOW) is other.is_visible(subject, ICU, NOW)


def test_bundles_of_both_kinds_meet_in_one_scope() -> None:
    platform = PolicyBundle.read(
        {"p.yaml": scene.text_of(scene.deny(id="platform.stop"))}, "platform"
    )
    clinic = bundle(rule())
    for mixed in (
        [clinic, replace(platform, rules=again(platform))],
        [replace(clinic, rules=again(clinic)), platform],
        [replace(clinic, rules=again(clinic)), replace(platform, rules=again(platform))],
    ):
        assert ask(Judge.build(mixed)).rules == ("platform.stop",)
    assert ask(Judge.build([replace(clinic, rules=again(clinic))])).is_allowed


def test_only_what_a_request_comes_near_is_read() -> None:
    known = bundle(rule(), rule(id="clinic.other", scope="dataset:clinic/other"))
    lazy = again(known)
    assert ask(Judge.build([replace(known, rules=lazy)])).is_allowed
    assert set(lazy._groups) == {"dataset:clinic/icu"}


def test_a_group_that_cannot_be_read_denies_and_no_other() -> None:
    known = bundle(rule(), rule(id="clinic.other", scope="dataset:clinic/other"))
    data = compiled.pack("clinic", known.digest, known.rules, second_person=False)
    at = data.index(b'"clinic.icu.research"')
    broken = data[:at] + b"!" + data[at + 1 :]
    lazy, _ = compiled.unpack(broken, "clinic", known.digest, default_schema())
    judge = Judge.build([replace(known, rules=lazy)])
    assert scene.codes(ask(judge)) == ["error"]
    assert lazy.group("dataset:clinic/other")


def test_other_code_and_other_attributes_have_other_digests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    schema = default_schema()
    assert compiled.schema_digest(schema) != compiled.schema_digest(replace(schema, attributes={}))
    for name in ("policy", "domain"):
        (tmp_path / name).mkdir()
    (tmp_path / "policy" / "compiled.py").write_text("one")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "policy" / "compiled.py"))
    compiled.code_digest.cache_clear()
    first = compiled.code_digest()
    (tmp_path / "domain" / "masks.py").write_text("two")
    compiled.code_digest.cache_clear()
    assert compiled.code_digest() != first
    compiled.code_digest.cache_clear()


def test_the_packs_that_ship_come_back() -> None:
    for name in ("health", "text"):
        known = PolicyBundle.read(packs.load(name, "clinic"), "clinic")
        assert list(again(known)) == list(known.rules)


def test_a_new_snapshot_indexes_only_the_bundle_that_changed() -> None:
    clinic, platform = bundle(rule()), PolicyBundle.read({}, "platform")
    before = Judge.build([clinic, platform])
    part = clinic.part
    pushed = PolicyBundle.read(
        {"p.yaml": scene.text_of(scene.deny(id="platform.stop"))}, "platform"
    )
    after = Judge.build([clinic, pushed])
    assert clinic.part is part
    assert (ask(before).is_allowed, ask(after).rules) == (True, ("platform.stop",))
    assert replace(clinic, rules=()).part is not part
    assert clinic == replace(clinic)
