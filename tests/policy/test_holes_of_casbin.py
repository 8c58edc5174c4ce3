"""Each measured way in which a stock Casbin set-up lets somebody in: here it does not.

Every test is named after a hole; the sentence below it says what happens elsewhere.
"""

from __future__ import annotations

import logging
import logging.config
import threading
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import casbin
import pytest

from gateway.domain.access import Subject
from gateway.errors import ConfigError, PolicyError
from gateway.policy import enforcer
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge

from .scene import ICU, TRAINER, ask, bundle, codes, deny, judge, rule, text_of


def with_attributes(**values: Any) -> Subject:
    return replace(TRAINER, attributes=values)


def test_empty_policy_evaluates_its_matcher_over_empty_texts() -> None:
    """Elsewhere: an empty policy allows a request whose fields are all empty."""
    loop = enforcer.Loop(lambda _context, _rule: True)
    assert not loop.allows((None, ("",), ("",), ""), [])
    assert not ask(
        Judge.build([]), subject=Subject(id="", tenant="", type=""), action=""
    ).is_allowed


def test_deny_override_without_a_match_allows() -> None:
    """Elsewhere: `!some(where deny)` allows whatever nobody denied."""
    assert codes(ask(judge(deny(actions=["export"])))) == ["no-rule"]


@pytest.mark.parametrize("kind", ["Deny", "DENY", "denied", "", '"deny"', "deny ", "dеny"])
def test_a_misspelt_effect_disappears(kind: str) -> None:
    """Elsewhere: the row is skipped in silence and the deny is gone."""
    with pytest.raises(PolicyError):
        bundle(rule(), deny(kind=kind))


@pytest.mark.parametrize("name", ["rule", "Rules", "rules2", "ru\u200bles"])
def test_a_misspelt_section_disappears(name: str) -> None:
    """Elsewhere: a ptype `P` or `p2` is dropped in silence."""
    with pytest.raises(PolicyError):
        PolicyBundle.read({"r.yaml": text_of(deny()).replace("rules:", f"{name}:")}, "clinic")


def test_one_bad_rule_takes_everything_down() -> None:
    """Elsewhere: a row of another length makes every request raise; here the bundle is refused."""
    with pytest.raises(PolicyError):
        bundle(rule(), {"id": "clinic.x"})


@pytest.mark.parametrize(
    "text",
    ["False) || (True", "True) #", "True)\n(0", "False)) or ((True", "true) or (true", "1 == 1"],
)
def test_text_of_a_rule_breaks_out_of_the_matcher(text: str) -> None:
    """Elsewhere: `eval(p.sub_rule)` splices it and another tenant's dataset opens."""
    with pytest.raises(PolicyError):
        bundle(rule(when=text))


def test_no_text_of_a_rule_is_in_what_casbin_evaluates() -> None:
    judged = judge(rule(when="subject.type == 'job'", description="r.sub && p.eft"))
    model = judged._loop._base.model
    assert model["m"]["m"].value.count("(") == 2  # the disjunction and holds(…)
    assert "eval" not in model["m"]["m"].value


@pytest.mark.parametrize(
    "text",
    ["r.sub.update(clearance=9)", "subject.delete_everything()", "subject.attributes.x == 1",
     "regexMatch('aaaa!','(a+)+$')", "'x'.ljust(300000000) == 'x'", "(3999999**200000)%7 == 1",
     "f'{1:>200000000}' == 'x'", "'%0100000000d' % 1 == 'x'", "not " * 3000 + "true",
     "-" * 20000 + "1 == 1"],
)  # fmt: skip
def test_a_rule_calls_changes_or_exhausts_the_server(text: str) -> None:
    """Elsewhere: seconds of CPU, gigabytes, or the caller's request changed for later rules."""
    with pytest.raises(PolicyError):
        bundle(rule(when=text))


def test_a_missing_attribute_aborts_the_whole_decision() -> None:
    """Elsewhere: a rule of another dataset that reads it raises, and yours with it."""
    broken = rule(id="clinic.icu.needs", when="subject.clearance > 3", accepts=["recipient"])
    assert ask(judge(broken, rule())).is_allowed
    assert ask(judge(rule(), broken)).is_allowed


def test_signs_inside_a_literal_are_rewritten() -> None:
    """Elsewhere: `a!b` becomes `anot b`, `r.x` becomes `r_x`, `#` cuts: the deny is bypassed."""
    for text in ("a!b", "a&&b", "a||b", "http://r.example.com", "x # y", "p.eft", "a,b", "(", "'"):
        quoted = text.replace("'", "''")
        judged = judge(rule(), deny(when=f"subject.project == '{quoted}'", accepts=["recipient"]))
        assert codes(ask(judged, subject=with_attributes(project=text))) == ["denied-by-rule"]
        assert ask(judged, subject=with_attributes(project="other")).is_allowed


def test_nan_is_greater_smaller_and_a_match() -> None:
    """Elsewhere: NaN is truthy in a matcher, and `!(x > 5)` holds for it."""
    judged = judge(rule(), deny(when="not subject.clearance > 5", accepts=["recipient"]))
    for value in (float("nan"), float("inf"), -float("inf"), 9.0, "9", True):
        assert codes(ask(judged, subject=with_attributes(clearance=value))) == ["denied-by-rule"]


def test_two_absent_attributes_are_equal() -> None:
    """Elsewhere: None == None allows."""
    judged = judge(rule(when="subject.region == resource.region", accepts=["recipient"]))
    assert not ask(judged).is_allowed
    assert ask(
        judged, replace(ICU, attributes={"region": "eu"}), subject=with_attributes(region="eu")
    ).is_allowed


def test_true_passes_as_one_and_a_method_as_an_attribute() -> None:
    """Elsewhere: True >= 1, and `items`, `keys`, `title` of the object win over the key."""
    judged = judge(rule(when="subject.clearance >= 1", accepts=["recipient"]))
    assert not ask(judged, subject=with_attributes(clearance=True)).is_allowed
    with pytest.raises(PolicyError):
        bundle(rule(when="subject.items == 'x'"))


@pytest.mark.parametrize(
    "value", ["cafe\u0301", "café ", " café", "caf\u00e9\u200b", "café\n", "CAFÉ\x00"]
)
def test_another_spelling_of_a_text_bypasses_a_deny(value: str) -> None:
    """Elsewhere: NFD, a blank or an invisible sign makes `==` false and the deny is bypassed."""
    judged = judge(rule(), deny(when="subject.project == 'café'", accepts=["recipient"]))
    assert codes(ask(judged, subject=with_attributes(project=value))) == ["denied-by-rule"]


def test_a_user_named_like_a_role_is_that_role() -> None:
    """Elsewhere: users and roles share one namespace, and a user `admin` is the role."""
    judged = judge(rule(principals=["startup/role:admin"]))
    named = Subject(id="startup/admin", tenant="startup", type="person")
    assert not ask(judged, subject=named).is_allowed
    assert not ask(judged, subject=replace(named, id="startup/role:admin")).is_allowed


def test_asking_about_strangers_fills_the_memory() -> None:
    """Elsewhere: every unknown subject asked about stays in the role graph for ever."""
    judged = judge(rule())
    before = len(judged._index)
    for number in range(300):
        ask(judged, subject=Subject(id=f"t{number}/x", tenant=f"t{number}", type="job"))
    assert len(judged._index) == before
    assert judged._loop._base.rm_map == {}


def test_a_reload_clears_the_rules_in_use() -> None:
    """Elsewhere: requests during `load_policy` were allowed to a banned user."""
    open_, banned = judge(rule()), judge(rule(), deny())
    current, wrong, stop = [banned], [], threading.Event()

    def serve() -> None:
        while not stop.is_set():
            snapshot = current[0]
            if ask(snapshot).is_allowed is not (snapshot is open_):
                wrong.append(snapshot)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(200):
        current[0] = open_ if number % 2 else banned
        ask(current[0])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_switch_turns_enforcement_off() -> None:
    """Elsewhere: `enable_enforce(False)` allows everything; no path of ours reaches it."""
    judged = judge(deny())
    assert judged._loop._base.enabled is True
    assert "enable_enforce" not in Path(enforcer.__file__).read_text("utf-8")


def test_the_log_quotes_whole_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Elsewhere: every denial is logged with all its attributes."""
    judged = judge(rule())
    levels = {"casbin": {"level": "DEBUG"}, "casbin.enforcer": {"level": "DEBUG"}}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": levels})
    with caplog.at_level(logging.DEBUG):
        ask(judged, subject=with_attributes(project="secret-project"))
        ask(judge(rule(), deny()))
        ask(judged, replace(ICU, columns=("secret-column",)))  # type: ignore[arg-type]
    assert "secret" not in caplog.text
    assert "Request" not in caplog.text
    assert "a request could not be judged: AttributeError in" in caplog.text


def test_an_edited_model_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Elsewhere: whoever edits model.conf edits the law; ours is pinned by its digest."""
    text = enforcer.model_text()
    (tmp_path / "model.conf").write_text(text.replace("&& holds(r.ctx, p.id)", ""))
    enforcer.model_text.cache_clear()
    monkeypatch.setattr(enforcer, "files", lambda _package: tmp_path)
    try:
        with pytest.raises(ConfigError):
            enforcer.model_text()
    finally:
        monkeypatch.undo()
        enforcer.model_text.cache_clear()
    assert enforcer.model_text() == text


def test_the_explanation_names_the_wrong_rule() -> None:
    """Elsewhere: `enforce_ex` names the last row it looked at, not the one that allowed."""
    judged = judge(rule(), rule(id="clinic.icu.zzz", when="subject.type == 'person'"))
    assert ask(judged).rules == ("clinic.icu.research",)


@pytest.mark.parametrize("scope", ["dataset:clinic/*", "dataset:clinic/.*", "tag:pii.*", "/foo/*"])
def test_a_pattern_matches_more_than_was_meant(scope: str) -> None:
    """Elsewhere: `keyMatch`, `regexMatch` unanchored and `globMatch` cover what nobody meant."""
    with pytest.raises(PolicyError):
        bundle(rule(scope=scope))
    assert list(judge(rule())._loop._base.fm.get_functions()) == ["holds"]


def test_a_newline_in_a_field_becomes_a_second_rule() -> None:
    """Elsewhere: `save_policy` writes CSV, and the next load reads another rule."""
    text = "x\np, mallory, *, *, allow\n- id: clinic.more"
    with pytest.raises(PolicyError):
        bundle(rule(id=f"clinic.{text}"))
    named = bundle(rule(description="one line"), rule(id="clinic.x", ticket="p, mallory, *"))
    assert [one.id for one in named.rules] == ["clinic.icu.research", "clinic.x"]


def test_a_deny_through_many_roles_is_lost() -> None:
    """Elsewhere: the role graph ends without a word at ten links; here every role is a name."""
    many = replace(TRAINER, roles=("trainer", *(f"r{n}" for n in range(40))))
    judged = judge(rule(), deny(principals=["startup/role:r39"]))
    assert codes(ask(judged, subject=many)) == ["denied-by-rule"]
    assert "g" not in judged._loop._sections


def test_a_deny_for_everything_is_behind_the_key_of_the_filter() -> None:
    """Elsewhere: `FastEnforcer` by object never sees the deny whose object is `*`."""
    platform = PolicyBundle.read(
        {"p.yaml": text_of(deny(id="platform.stop", scope="global", principals=["*"]))}, "platform"
    )
    assert codes(ask(Judge.build([bundle(rule()), platform]))) == ["denied-by-rule"]


def test_two_requests_share_one_filter() -> None:
    """Elsewhere: `FastEnforcer` keeps the filter of a request where another thread finds it."""
    judged = judge(rule(), deny(id="clinic.stop", principals=["startup/user:banned"]))
    banned = replace(TRAINER, id="startup/banned")
    wrong: list[str] = []

    def serve(subject: Subject) -> None:
        for number in range(200):
            one = replace(subject, attributes={"clearance": number})  # none is remembered
            if ask(judged, subject=one).is_allowed is (subject is banned):
                wrong.append(subject.id)

    threads = [threading.Thread(target=serve, args=(who,)) for who in (TRAINER, banned) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_version_has_another_hook() -> None:
    """Elsewhere: `pip install -U` brings another decision loop or an evaluator with a hole."""
    known = {line.split(";")[0].strip() for line in metadata.requires("dataset-gateway") or []}
    assert metadata.version("pycasbin").startswith("2.8.")
    assert any(line.startswith("pycasbin==2.8.*") for line in known)
    assert any(line.startswith("simpleeval>=1.0.8") for line in known)


def test_casbin_still_has_the_private_hook_that_we_override() -> None:
    owner = next(one for one in casbin.Enforcer.__mro__ if "_get_expression" in vars(one))
    assert isinstance(vars(owner)["_get_expression"], staticmethod)
    assert [name for name in vars(enforcer.CompiledEnforcer) if not name.startswith("__")] == [
        "_get_expression"
    ]
