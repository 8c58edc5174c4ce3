"""The fast yes of `spelled` is never given to what `parse` refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import facts as f
from gateway.domain.events import FACTS, EventKind, canonical, parse
from gateway.domain.facts import INTEGER_MAX
from gateway.domain.spelled import links_of, spelled
from gateway.errors import InvalidInput

VECTORS = Path(__file__).resolve().parents[1] / "vectors/event-v0"
GOOD = {path.stem: path.read_bytes() for path in sorted(VECTORS.glob("ok-*.json"))}
BAD = sorted(VECTORS.glob("bad-*.json"))
PIECES = (b"", b"0", b"9", b"-", b'"', b",", b"\\", b"a", b"{}", b"null", b" ", b"\n", b"\xc3\xbc",
          b"\x7f", b"e1")  # fmt: skip


def said_yes(data: bytes) -> bool:
    index = re.search(rb'"index":([0-9]+)', data)
    node = re.search(rb'"node":"([^"]*)"', data)
    if index is None or node is None or int(index[1]) > 2**60:
        return False
    return spelled(data, int(index[1]), node[1]) is not None


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_no_bad_event_gets_a_yes(path: Path) -> None:
    assert not said_yes(path.read_bytes())


def test_an_event_at_another_place_or_of_another_node_gets_none() -> None:
    data = GOOD["ok-segment-intent"]
    event = parse(data)
    assert spelled(data, event.index, b"n1") is not None
    assert spelled(data, event.index + 1, b"n1") is None
    assert spelled(data, event.index, b"n2") is None


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_whatever_gets_a_yes_is_what_parse_takes(name: str, data: st.DataObject) -> None:
    """Bytes put in, taken out and changed, mostly those that mean something in JSON."""
    event = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(event) - 1))
        some = data.draw(st.sampled_from(PIECES))
        event[place : place + data.draw(st.integers(0, 2))] = some
    if said_yes(bytes(event)):
        parse(bytes(event))


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_fact_of_another_value_gets_a_yes_only_if_parse_takes_it(
    name: str, data: st.DataObject
) -> None:
    value = parse(GOOD[name]).envelope()
    facts = dict(value["facts"])
    if not facts:
        return
    fact = data.draw(st.sampled_from(sorted(facts)))
    others = [None, True, 0, -1, INTEGER_MAX, INTEGER_MAX + 1, 10**15, 9 * 10**15, "", "a b", "ü"]
    facts[fact] = data.draw(st.sampled_from([*others, [], {}, "x" * 2000, "bank/icu", [1, 2]]))
    if data.draw(st.booleans()):
        facts.pop(data.draw(st.sampled_from(sorted(facts))))
    changed = canonical({**value, "facts": facts})
    if said_yes(changed):
        parse(changed)
    else:
        assert GOOD[name] != changed or name not in FAST


FAST = {name for name, data in GOOD.items() if said_yes(data)}


def test_the_kinds_that_come_by_the_million_get_a_yes() -> None:
    for kind in ("segment-intent", "segments-confirmed", "segments-acknowledged", "tenant-heads",
                 "access-decided", "token-issued", "lease-opened", "lease-closed"):  # fmt: skip
        assert f"ok-{kind}" in FAST, kind
    assert len(FAST) > len(GOOD) // 2
    assert set(FACTS) == set(EventKind)


def test_the_chains_that_are_found_are_those_of_the_event() -> None:
    for name in FAST:
        event = parse(GOOD[name])
        found = spelled(GOOD[name], event.index, event.node.encode())
        assert found is not None
        links = links_of(found[1])
        assert {t.decode(): {"prev": p.decode(), "seq": int(s)} for t, p, s in links} == dict(
            event.chains
        )


@pytest.mark.parametrize("many", [0, 1, 2, 3, 5])
def test_however_many_chains_an_event_has_they_are_found_in_order(many: int) -> None:
    value = parse(GOOD["ok-segment-intent"]).envelope()
    chains = {f"{n:032x}": {"prev": f"{n:064x}", "seq": n} for n in range(many)}
    found = spelled(canonical({**value, "chains": chains}), value["index"], b"n1")
    assert found is not None
    assert links_of(found[1]) == [
        (f"{n:032x}".encode(), f"{n:064x}".encode(), b"%d" % n) for n in range(many)
    ]


def test_the_words_of_an_event_are_its_values() -> None:
    for name in FAST:
        event = parse(GOOD[name])
        value = event.envelope()
        found = spelled(GOOD[name], event.index, event.node.encode())
        assert found is not None
        form, words = found
        assert form.kind is event.kind
        assert set(form.facts) == set(FACTS[event.kind])
        for place, of in ((form.members, value), (form.facts, event.facts)):
            for member, at in place.items():
                word, is_text = words[at], isinstance(of.get(member), str)
                if of.get(member) is None:
                    assert word is None, member
                else:
                    text = f'"{word.decode()}"' if is_text else word.decode()  # type: ignore[union-attr]
                    assert text.encode() == canonical(of[member]), member


def test_a_record_that_lacks_a_member_gets_no_yes() -> None:
    record = f.record_of(column=f.TEXT | None, names_split=f.FLAG)
    pattern = re.compile(record.spelling)
    assert pattern.fullmatch('{"column":null,"names_split":true}')
    assert not pattern.fullmatch('{"names_split":true}')
    assert not record.holds({"names_split": True})


def test_chains_out_of_order_or_twice_get_no_yes() -> None:
    data = GOOD["ok-segment-intent"]
    one, two = re.findall(rb'"[0-9a-f]+":\{"prev":"[0-9a-f]+","seq":[0-9]+\}', data)
    for chains in (two + b"," + one, one + b"," + one):
        changed = data.replace(one + b"," + two, chains)
        assert changed != data
        assert not said_yes(changed)


def test_an_event_that_gets_no_yes_is_still_judged_by_parse() -> None:
    text = GOOD["ok-segment-intent"]
    assert not said_yes(text.replace(b'"first":0', b'"first":-1'))
    with pytest.raises(InvalidInput):
        parse(text.replace(b'"v":0', b'"v":1'))
