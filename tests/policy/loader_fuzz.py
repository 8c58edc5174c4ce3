"""Policy files with something wrong in them: PolicyError with a place, or rules that decide.

    python -m tests.policy.loader_fuzz --inputs 100000 --seed 1

Sound files are changed by bytes, lines, words and whole values; the alphabet is what readers
of YAML, of Unicode and of numbers stumble over. What is accepted is indexed, judged and
linted: no decision may end in an accident. Prints the number of each input before it is tried,
so that a watcher sees a hang, and stops at the first broken promise with the input.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gateway.domain.access import Effect
from gateway.errors import PolicyError
from gateway.policy import packs
from gateway.policy.bundle import FILES_MAX, PolicyBundle
from gateway.policy.judge import Judge
from gateway.policy.lint import lint
from gateway.policy.suite import run_suites
from tests.policy import scene
from tests.policy.scene import ICU, NOW

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "policy-v1"
MEMORY_BYTES_MAX = 1 << 30
REPORT_EVERY = 250
SUITES_EVERY = 20  # a suite decides dozens of requests: slow, and not what is looked for
Files = dict[str, str]

# Words that some reader takes for something else.
WORDS = (
    "null", "~", "yes", "no", "on", "off", ".inf", "-.inf", ".nan", "0x10", "0o7", "1_000", "1e999",
    "-0", "9" * 19, "9" * 400, "2026-01-01", "9999-12-31", "0001-01-01T00:00:00+23:59", "12:30:45",
    "<<", "*", "&a", "*a", "!!python/object/apply:os.system", "!!binary", "!t", "? ", "|", ">-",
    "%YAML 1.2", "---", "...", "@", "`", "{", "}", "[", "]", "'", '"', "''", "#", ": ", "- ", "\t",
    "*:*", "clinic/*", "/", "//", "clinic/role:", "clinic/user:*", "dataset:clinic/../x",
    "dataset:clinic/icu@1", "tag:", "tag:a..b", "tenant:*", "global", "deny", "allow", "restrict",
    "export", "$tenant", "x-drop", "x-bucket:0", "x-bucket:1e9", "truncate[-1]", "x-hmac-tenant:",
    "1d", "0d", "99999d", "1 KiB", "200GiB", "true", "True", "(a+)+$", "%s%s%n", "{{7*7}}",
    "r.sub.attributes['x']", "__import__('os')", "eval(1)", "a\nb", "\\u0000", "\\x00", "\\uD800",
)  # fmt: skip
# Characters that look like nothing, like something else, or like two.
CHARACTERS = (
    "\u200b", "\u200d", "\ufeff", "\u202e", "\u2066", "\u00a0", "\u2028", "\u2029", "\u0085",
    "\u00ad", "e\u0301", "\u0430", "\uff41", "\u017f", "\u0130", "\u0131", "\ufb01", "\u1e9e",
    "\U000e0041", "\U0001f600", "\ud800", "\udfff", "\x00", "\x07",
    "\x1b", "\x7f", "\r", "\v", "\f", "\t",
)  # fmt: skip
CONDITIONS = (
    "subject.clearance >= ", "not " * 40, "(" * 40, "purpose within 'research'", "has ", "in ()",
    "context.time < timestamp'2030-01-01T00:00:00Z'", "subject.type == 'job' and ", "== 'x'",
    "age > :subject.clearance", "age IN (1, NULL)", "age IS NOT NULL OR ", "age = 1e400", "'\\'",
)  # fmt: skip


def sound() -> list[tuple[str, Files]]:
    """Bundles to start from: the packs, the vectors, and small ones with every field."""
    found = [("clinic", packs.load(name, "clinic")) for name in ("tenant", "health", "text")]
    found.append(("platform", packs.load("platform", "platform")))
    for path in sorted(VECTORS.glob("ok-*.json")):
        vector = json.loads(path.read_text("utf-8"))
        found.append((vector["tenant"], vector["files"]))
    whole = scene.rule(
        masks={"age": "x-bucket:10"},
        where="age >= 18 and site in ('a', 'b')",
        when="subject.type == 'job' and not has subject.clearance",
        limits={"max_rows": 1_000, "max_bytes": "2GiB", "max_epochs": 3, "valid": "14d"},
        accepts=["recipient"],
        obligations={"delete_after": "P30D", "min_group_size": 5, "region_lock": "eu, ch"},
        expires="2030-01-01",
        owner="a",
        ticket="b",
        description="c",
    )
    found += [("clinic", {"a.yaml": scene.text_of(whole), "b.yaml": scene.text_of(scene.deny())})]
    return [(tenant, dict(files)) for tenant, files in found if files]


def _place(text: str, chance: random.Random) -> int:
    return chance.randrange(len(text) + 1)


def _words(text: str, chance: random.Random) -> str:
    """Put a word of a list in the place of one of the text."""
    parts = text.split(" ")
    parts[chance.randrange(len(parts))] = chance.choice((*WORDS, *CONDITIONS))
    return " ".join(parts)


def _characters(text: str, chance: random.Random) -> str:
    at = _place(text, chance)
    return text[:at] + chance.choice(CHARACTERS) + text[at:]


def _bytes(text: str, chance: random.Random) -> str:
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(chance.choice((1, 1, 2, 8))):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    return data.decode("utf-8", chance.choice(("replace", "surrogateescape", "ignore")))


def _cut(text: str, chance: random.Random) -> str:
    start, end = sorted((_place(text, chance), _place(text, chance)))
    return text[:start] + text[end:] if chance.random() < 0.5 else text[:end]


def _again(text: str, chance: random.Random) -> str:
    """The same part many times: depth, width, repetition."""
    start = _place(text, chance)
    part = text[start : start + chance.choice((1, 2, 5, 40))]
    return text[:start] + part * chance.choice((2, 3, 50, 2_000)) + text[start:]


def _lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    how = chance.randrange(5)
    if how == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif how == 1:
        lines.insert(one, lines[other])
    elif how == 2:
        del lines[one]
    else:
        blanks = chance.choice(("", " ", "  ", "    ", "\t", "- ", "# ", "? ", ": "))
        lines[one] = blanks + lines[one].lstrip() if how == 3 else lines[one] + blanks
    return "\n".join(lines)


def _values(text: str, chance: random.Random) -> str:
    """Another kind of value behind the colon of a line."""
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    name, colon, _ = lines[at].partition(":")
    if colon:
        word = chance.choice(WORDS)
        shape = chance.choice(
            ("{w}", "[{w}]", "{{{w}: {w}}}", "[[{w}]]", "'{w}'", '"{w}"', "", "[]")
        )
        lines[at] = f"{name}: {shape.format(w=word)}"
    return "\n".join(lines)


def _other(text: str, chance: random.Random) -> str:
    """Nothing that was ever a policy."""
    del text
    kind = chance.randrange(4)
    if kind == 0:
        return "[" * chance.choice((1, 11, 1_000, 100_000))
    if kind == 1:
        return "".join(chance.choice((*CHARACTERS, *WORDS)) for _ in range(chance.randrange(60)))
    if kind == 2:
        bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
        return f"a0: &a0 x\n{bomb}\n"
    return "- " * chance.choice((1, 20, 5_000)) + "x"


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    _words, _words, _characters, _bytes, _cut, _again, _lines, _lines, _values, _values, _values,
    _other,
)  # fmt: skip
PATHS = (
    "../x.yaml",
    "/etc/x.yaml",
    "a.yml",
    "A.yaml",
    "a\n.yaml",
    "",
    "bundle.yaml",
    "x_test.yaml",
)


def mutant(files: Files, chance: random.Random) -> Files:
    """The files with one to three things changed."""
    changed = dict(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        path = chance.choice(sorted(changed))
        changed[path] = chance.choice(MUTATIONS)(changed[path], chance)
    if chance.random() < 0.02:
        changed[chance.choice(PATHS)] = chance.choice(("", "x: 1", changed[min(changed)]))
    return changed


def attempt(tenant: str, files: Files, *, is_whole: bool) -> str:
    """Read and use one input; returns what became of it, AssertionError for a broken promise."""
    try:
        bundle = PolicyBundle.read(files, tenant)
        judge = Judge.build([bundle])
        if is_whole:
            run_suites(bundle)
    except PolicyError as error:
        _check_refusal(error)
        return "refused"
    decision = scene.ask(judge, ICU)
    assert [reason.code for reason in decision.reasons] != ["error"], decision
    if decision.effect is Effect.ALLOW:
        assert decision.plan is not None
    lint(bundle, now=NOW)
    return "accepted"


def _check_refusal(refusal: PolicyError) -> None:
    """It says where, why and what to do, in one line of a terminal."""
    facts = refusal.facts
    assert facts["file"] is not None, facts
    assert min(facts["line"], facts["column"]) >= 1, facts
    assert refusal.message.isprintable(), refusal.message
    assert 0 < len(refusal.message) < 1_000, refusal.message
    assert refusal.advice, refusal.message


def campaign(inputs: int, seed: int, say: Callable[[str], None]) -> Counter[str]:
    """Try so many inputs; raises AssertionError, with the input, at the first broken promise."""
    start, done = sound(), Counter[str]()
    for number in range(inputs):
        chance = random.Random(f"{seed}/{number}")
        tenant, files = chance.choice(start)
        made = mutant(files, chance)
        if number % REPORT_EVERY == 0:
            say(f"{number} of {inputs}: {dict(done)}")
        try:
            done[attempt(tenant, made, is_whole=number % SUITES_EVERY == 0)] += 1
        except (Exception, MemoryError) as cause:
            shown = json.dumps({"tenant": tenant, "files": made})[:20_000]
            message = f"input {number} of seed {seed}: {type(cause).__name__}: {cause}\n{shown}"
            raise AssertionError(message) from cause
    assert len(made) <= FILES_MAX
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    done = campaign(args.inputs, args.seed, lambda text: print(text, flush=True))
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
