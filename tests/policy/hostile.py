"""Policy files as an attacker or a bad day writes them, and where each must be refused."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

HEAD = "format: gateway-policy/v1\nrules:\n"
BASE = """\
  - id: clinic.icu.deny
    kind: deny
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream]
    when: subject.project == 'x'
    accepts: [recipient]
"""


def _rule(old: str, new: str) -> str:
    assert old in BASE
    return HEAD + BASE.replace(old, new)


def _when(condition: str) -> str:
    """As a double-quoted scalar, which hides nothing from the parser."""
    return _rule("subject.project == 'x'", f'"{condition}"')


def _where(text: str) -> str:
    return _rule("when: subject.project == 'x'", f"where: {text}").replace("deny", "restrict")


def _bomb() -> str:
    """Nine lists, each of nine times the one before: 3 * 9^9 texts."""
    names = "abcdefghij"
    rows = [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(names)]
    return "a: &a [lol, lol, lol]\n" + "".join(rows)


NFD = unicodedata.normalize("NFD", "café")
# name -> (text of the file, line, column)
HOSTILE: dict[str, tuple[str, int, int]] = {
    "a bomb of aliases": (_bomb(), 1, 4),
    "an anchor": (_rule("kind: deny", "kind: &k deny"), 4, 11),
    "an alias": (_rule("kind: deny", "kind: *k"), 4, 11),
    "a merge": (_rule("    kind: deny", "    <<: {kind: deny}"), 4, 5),
    "a tag that makes objects": (_rule("kind: deny", "kind: !!python/name:os.system deny"), 4, 11),
    "a second document": (HEAD + BASE + "---\n" + HEAD, 10, 1),
    "a name twice": (_rule("kind: deny", "kind: deny\n    kind: allow"), 5, 5),
    "ten levels and more": (_rule("[stream]", "[" * 12 + "stream" + "]" * 12), 7, 21),
    "a list for a text": (_rule("kind: deny", "kind: [deny]"), 4, 11),
    "a mapping for a list": (_rule("[stream]", "{stream: true}"), 7, 14),
    "a text for a mapping": (HEAD + "  - deny everything\n", 3, 5),
    "a file of 10 MB": (HEAD + BASE * (10_000_000 // len(BASE)), 1, 1),
    "forty thousand lists": (HEAD + "  - [" + "[]," * 40_000 + "]\n", 3, 44_994),
    "a Cyrillic letter in a principal": (_rule("startup/role", "st\u0430rtup/role"), 5, 18),
    "a Cyrillic letter in an id": (_rule("clinic.icu.deny", "clinic.icu.d\u0435ny"), 3, 9),
    "a Greek letter in a kind": (_rule("kind: deny", "kind: d\u03b5ny"), 4, 11),
    "a wide letter in a condition": (_rule("subject.project", "\uff53ubject.project"), 8, 11),
    "a Cyrillic letter in a scope": (_rule("dataset:clinic", "dataset:cl\u0456nic"), 6, 12),
    "letters composed of two": (_rule("'x'", f"'{NFD}'"), 8, 34),
    "a zero-width space in a principal": (_rule("role:trainer", "role:tra\u200biner"), 5, 34),
    "a zero-width joiner as an escape": (_rule("startup/role:trainer", '"a\\u200d"'), 5, 18),
    "text that runs backwards": (_rule("'x'", "'\u202ex'"), 8, 31),
    "a byte order mark": ("\ufeff" + HEAD + BASE, 1, 1),
    "a no-break space": (_rule("kind: deny", "kind: deny\u00a0"), 4, 15),
    "a newline in an id": (_rule("clinic.icu.deny", '"clinic.icu.deny\\nclinic.b"'), 3, 9),
    "a newline at the end of an id": (_rule("clinic.icu.deny", '"clinic.icu.deny\\n"'), 3, 9),
    "a newline in a principal": (_rule("startup/role:trainer", '"startup/role:a\\np, b"'), 5, 18),
    "a comma in an id": (_rule("clinic.icu.deny", '"clinic.icu, clinic.evil"'), 3, 10),
    "a regular expression that never ends": (_when("regexMatch('aaaa!', '(a+)+$')"), 8, 12),
    "a pattern": (_when("subject.project like '(a+)+$'"), 8, 28),
    "a wildcard in a scope": (_rule("dataset:clinic/icu", "dataset:clinic/*"), 6, 12),
    # research: what an author can do through Casbin's `eval(p.sub_rule)`
    "out of the brackets": (_when("False) || (True"), 8, 19),
    "out of the brackets in our words": (_when("false) or (true"), 8, 17),
    "the rest commented out": (_when("True) #"), 8, 18),
    "the rest commented out in our words": (_when("true) #"), 8, 18),
    "the rest on a line of its own": (_when("true)\\n(0"), 8, 11),
    "brackets closed twice": (_when("False)) or ((True"), 8, 12),
    "a dict that is updated": (_when("r.sub.update(clearance=9)"), 8, 12),
    "an attribute that is updated": (_when("subject.project.update(x=9)"), 8, 12),
    "a method that is called": (_when("r.sub.delete_everything()"), 8, 12),
    "a text of gigabytes": (_when("'x'.ljust(300000000).replace('x','y')"), 8, 15),
    "a number of years": (_when("(3999999**200000)%7 == 1"), 8, 20),
    "a format of gigabytes": (_when("f'{1:>200000000}' == 'x'"), 8, 12),
    "a percent of gigabytes": (_when("'%0100000000d' % 1 == 'x'"), 8, 27),
    "three thousand nots": (_when("not " * 499 + "true"), 8, 12 + 4 * 32),
    "twenty thousand minuses": (_when("-" * 20_000 + "1 == 1"), 8, 12),
    "a dunder": (_when("subject.__class__ == 'x'"), 8, 12),
    "an import": (_when("__import__('os') == 'x'"), 8, 12),
    "a lambda": (_when("lambda: true"), 8, 18),
    "a walrus": (_when("(subject.project := 'x') == 'x'"), 8, 29),
    "SQL in a filter": (_where("age = 1; drop table x"), 8, 19),
    "a subquery in a filter": (_where("age in (select 1)"), 8, 20),
}  # fmt: skip
