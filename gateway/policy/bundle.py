"""A tenant's policy files, read and checked as one value; all or nothing.

A bundle is the unit of publication: its digest names it, its files are stored under that
digest, and a file that cannot be read refuses the whole bundle, so that a truncated deny rule
never disappears quietly.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.domain.access import digest_of
from gateway.domain.dataset import parse_name
from gateway.policy.conditions import Node
from gateway.policy.documents import Fields, Place, read_document, word
from gateway.policy.index import Part
from gateway.policy.rules import Rule, read_rule
from gateway.policy.schema import Schema, default_schema
from gateway.policy.version import check_format

RULES = "gateway-policy"
DIGEST_FORMAT = "gateway-policy/v0"  # what digests are made over; it never moves
SUITE_SUFFIX = "_test.yaml"
SETTINGS_PATH = "bundle.yaml"
SETTINGS = "gateway-policy-bundle"
FILES_MAX = 1_000
BUNDLE_CHARS_MAX = 1 << 20
_PATH = re.compile(r"(?:[a-z0-9][a-z0-9_.-]{0,62}/){0,3}[a-z0-9][a-z0-9_.-]{0,95}\.yaml\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBundle:
    """What one tenant publishes: files, and the rules read from them."""

    tenant: str
    files: Mapping[str, str]
    rules: Sequence[Rule]  # a tuple, or read when they are needed (compiled.py)
    digest: str  # SHA-256 hex over tenant and files
    second_person: bool = False  # whoever pushes in its place needs another's approval
    _made: list[Part] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def part(self) -> Part:
        """The ways to its rules, made at the first use: a push makes those of one bundle anew."""
        if not self._made:
            self._made.append(Part(self.rules))
        return self._made[0]

    @classmethod
    def read(
        cls, files: Mapping[str, str], tenant: str, schema: Schema | None = None
    ) -> PolicyBundle:
        """Read a bundle; files that end in `_test.yaml` are suites, not rules.

        Raises:
            PolicyError: with `file`, `line` and `column` of what is wrong.
        """
        parse_name(tenant, what="tenant")
        _check_files(files)
        with collector_at_rest():
            rules = _read_rules(files, tenant, schema or default_schema())
        return cls(
            tenant=tenant,
            files=dict(files),
            rules=rules,
            digest=bundle_digest(tenant, files),
            second_person=SETTINGS_PATH in files and _second_person(files[SETTINGS_PATH]),
        )


def bundle_digest(tenant: str, files: Mapping[str, str]) -> str:
    """SHA-256 hex over the canonical JSON of format, tenant and files."""
    return digest_of({"format": DIGEST_FORMAT, "tenant": tenant, "files": dict(files)})


def _check_files(files: Mapping[str, str]) -> None:
    for path in files:
        if not _PATH.match(path) or ".." in path:
            raise Place(path[:80]).refuse(
                "this cannot name a policy file", "use lower-case paths that end in `.yaml`"
            )
    if len(files) > FILES_MAX or sum(map(len, files.values())) > BUNDLE_CHARS_MAX:
        longest = max(files, key=lambda path: len(files[path]))
        raise Place(longest).refuse(
            f"with it the bundle has more than {FILES_MAX} files or {BUNDLE_CHARS_MAX} characters",
            "merge or remove rules",
        )


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No garbage collection: what is read has no cycles, and looking for some costs two thirds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_rules(files: Mapping[str, str], tenant: str, schema: Schema) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    seen: dict[str, Place] = {}
    known: dict[str, Node] = {}
    for path in sorted(files):
        if path == SETTINGS_PATH or path.endswith(SUITE_SUFFIX):
            continue
        for rule in _read_file(path, files[path], tenant, schema, known):
            if rule.id in seen:
                first = seen[rule.id]
                raise rule.place.refuse(
                    f"rule `{rule.id}` is also at {first.file}:{first.line}",
                    "give every rule an id of its own",
                )
            seen[rule.id] = rule.place
            rules.append(rule)
    return tuple(rules)


def _second_person(text: str) -> bool:
    """The one setting that a bundle has of itself."""
    top = Fields(read_document(text, SETTINGS_PATH), "the settings of a bundle")
    check_format(top, SETTINGS)
    found = word(top.required("second_person"), ("true", "false"))
    top.finish()
    return found == "true"


def _read_file(
    path: str, text: str, tenant: str, schema: Schema, known: dict[str, Node]
) -> list[Rule]:
    top = Fields(read_document(text, path), "a policy file")
    check_format(top, RULES)
    rules = [read_rule(node, tenant, schema, known) for node in top.items("rules")]
    top.finish()
    return rules
