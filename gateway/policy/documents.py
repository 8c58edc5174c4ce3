"""Read policy files: a small, strict subset of YAML in which every value knows its place.

No anchors, aliases, tags, merges, duplicate keys, several documents, control or invisible
characters, and no implicit types: a scalar is text until a field says what it must be, so
`no`, `1e3` and `2026-01-01` mean what their field means. Hostile text is refused with
PolicyError at a file, line and column; nothing here recurses over its input.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import yaml

from gateway.errors import InvalidInput, PolicyError

FILE_CHARS_MAX = 256 << 10
DEPTH_MAX = 10
NODES_MAX = 30_000
_BLANKS = ("\n", "\t", "\r")
_INTEGER = re.compile(r"-?[0-9](?:_?[0-9]){0,18}\Z")

T = TypeVar("T")


class Place(NamedTuple):
    """Where something stands; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def refuse(self, message: str, advice: str | None = None) -> PolicyError:
        """The error to raise about what stands here; one line, whatever it quotes."""
        file = _visible(self.file)
        return PolicyError(
            f"{file}:{self.line}:{self.column}: {_visible(message)}",
            advice=advice,
            file=file,
            line=self.line,
            column=self.column,
        )


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Scalar(NamedTuple):
    """Text; `exact` when a character's offset in it is its offset in the file."""

    text: str
    place: Place
    plain: bool
    exact: bool = False

    def at(self, offset: int) -> Place:
        """The place of the character at `offset`, or of the scalar when folding hid it."""
        if not self.exact:
            return self.place
        return Place(self.place.file, self.place.line, self.place.column + offset)


class Sequence(NamedTuple):
    """A list of nodes."""

    items: tuple[Node, ...]
    place: Place


class Mapping(NamedTuple):
    """Named nodes in the order written; `keys` holds the place of each name."""

    entries: dict[str, Node]
    keys: dict[str, Place]
    place: Place


Node = Scalar | Sequence | Mapping


def read_document(text: str, file: str) -> Mapping:
    """Parse one file whose top is a mapping; raises PolicyError for anything else."""
    _check_text(text, file)
    loader = yaml.CSafeLoader(text)
    try:
        node = _Builder(file).build(iter(loader.get_event, None))
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark or cause.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        raise place.refuse(f"this is not YAML: {cause.problem or 'unreadable'}") from cause
    except (yaml.YAMLError, ValueError, IndexError, RecursionError) as cause:
        raise Place(file).refuse("this is not YAML") from cause
    finally:
        loader.dispose()
    if not isinstance(node, Mapping):
        raise Place(file).refuse("a policy file is a mapping", "start with `format: …`")
    return node


class Fields:
    """Take named fields out of a mapping, then `finish` refuses what was not taken."""

    def __init__(self, node: Node, what: str) -> None:
        """`what` names the thing in messages, as in `a rule`."""
        if not isinstance(node, Mapping):
            raise node.place.refuse(f"{what} is a mapping of fields")
        self.what = what
        self.place = node.place
        self._node = node
        self._taken: set[str] = set()

    def node(self, name: str) -> Node | None:
        """The field as written; None when absent."""
        self._taken.add(name)
        return self._node.entries.get(name)

    def scalar(self, name: str) -> Scalar | None:
        """One piece of text; None when absent."""
        node = self.node(name)
        return None if node is None else _scalar(node, f"`{name}`")

    def text(self, name: str, default: str = "") -> str:
        """The text of a field."""
        found = self.scalar(name)
        return default if found is None else found.text

    def required(self, name: str) -> Scalar:
        """A field that must be there."""
        found = self.scalar(name)
        if found is None:
            raise self.place.refuse(f"{self.what} needs `{name}`")
        return found

    def scalars(self, name: str) -> tuple[Scalar, ...]:
        """A list of texts without repetition; a single text counts as a list of one."""
        node = self.node(name)
        if node is None:
            return ()
        items = node.items if isinstance(node, Sequence) else (node,)
        found = tuple(_scalar(item, f"each of `{name}`") for item in items)
        seen: set[str] = set()
        for item in found:
            if item.text in seen:
                raise item.place.refuse(f"`{item.text[:80]}` stands twice in `{name}`")
            seen.add(item.text)
        if not found:
            raise node.place.refuse(f"`{name}` is empty", "leave the field out")
        return found

    def needed(self, name: str) -> tuple[Scalar, ...]:
        """`scalars` of a field that must be there."""
        found = self.scalars(name)
        if not found:
            raise self.place.refuse(f"{self.what} needs `{name}`")
        return found

    def items(self, name: str) -> tuple[Node, ...]:
        """A list of nodes; () when absent."""
        node = self.node(name)
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            raise node.place.refuse(f"`{name}` is a list")
        return node.items

    def pairs(self, name: str) -> tuple[tuple[str, Place, Node], ...]:
        """The entries of a mapping field as (key, place of the key, value)."""
        node = self.node(name)
        if node is None:
            return ()
        if not isinstance(node, Mapping):
            raise node.place.refuse(f"`{name}` is a mapping")
        return tuple((key, node.keys[key], value) for key, value in node.entries.items())

    def one_of(self, name: str, allowed: Iterable[str], default: str) -> str:
        """A word of a closed list."""
        found = self.scalar(name)
        return default if found is None else word(found, allowed)

    def finish(self) -> None:
        """Refuse the first field that nobody took."""
        for name, place in self._node.keys.items():
            if name not in self._taken:
                known = ", ".join(sorted(self._taken))
                raise place.refuse(f"`{name[:80]}` is no field of {self.what}", f"known: {known}")


def word(scalar: Scalar, allowed: Iterable[str]) -> str:
    """The scalar's text when it is one of `allowed`."""
    words = tuple(allowed)
    if scalar.text not in words:
        raise scalar.place.refuse(
            f"`{scalar.text[:80]}` is none of the words that may stand here",
            f"use one of: {', '.join(words)}",
        )
    return scalar.text


def whole_number(scalar: Scalar) -> int:
    """A 64-bit integer; `_` may group digits."""
    value = int(scalar.text) if scalar.plain and _INTEGER.match(scalar.text) else None
    if value is None or abs(value) >= 2**63:
        raise scalar.place.refuse(f"`{scalar.text[:80]}` is not a whole number")
    return value


def plain_value(node: Node) -> str | int | bool:
    """A scalar as a person means it: unquoted `true`, `false` and whole numbers, else text."""
    scalar = _scalar(node, "this value")
    if scalar.plain and scalar.text in ("true", "false"):
        return scalar.text == "true"
    if scalar.plain and _INTEGER.match(scalar.text):
        return whole_number(scalar)
    return scalar.text


def parsed(scalar: Scalar, parse: Callable[[str], T]) -> T:
    """Apply a parser of the domain and give its refusal a place."""
    try:
        return parse(scalar.text)
    except InvalidInput as cause:
        raise scalar.place.refuse(cause.message, cause.advice) from cause


def _scalar(node: Node, what: str) -> Scalar:
    if not isinstance(node, Scalar):
        raise node.place.refuse(f"{what} is text")
    if not node.text:
        raise node.place.refuse(f"{what} is empty", "write a value or leave the field out")
    return node


def _check_text(text: str, file: str) -> None:
    if len(text) > FILE_CHARS_MAX:
        raise Place(file).refuse(
            f"the file is longer than {FILE_CHARS_MAX} characters", "split it into several files"
        )
    if unicodedata.normalize("NFC", text) != text:
        raise _not_composed(text, file)
    for number, line in enumerate(text.split("\n"), 1):
        if line.isprintable():  # Unicode: none of Other and Separator but the ASCII space
            continue
        for position, character in enumerate(line, 1):
            if unicodedata.category(character)[0] in "CZ" and character not in (" ", *_BLANKS):
                raise Place(file, number, position).refuse(
                    f"the character U+{ord(character):04X} cannot be seen", "remove it"
                )


def _not_composed(text: str, file: str) -> PolicyError:
    """At the first character that NFC would write otherwise."""
    place = Place(file)
    for number, line in enumerate(text.split("\n"), 1):
        composed = unicodedata.normalize("NFC", line)
        if composed != line:
            pairs = enumerate(zip(line, composed, strict=False))
            same = next((at for at, (one, other) in pairs if one != other), len(composed))
            place = Place(file, number, same + 1)
            break
    return place.refuse("the text is not in Unicode form NFC", "save it as NFC")


class _Builder:
    """Builds nodes from parser events with explicit stacks: depth and count are bounded."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._parts: list[Node] = []  # of the innermost list or mapping that is open
        self._outer: list[tuple[Place, list[Node]]] = []  # the places of the open ones, and around
        self._documents = 0

    def build(self, events: Iterable[Any]) -> Node | None:
        """The first, and only, document. Scalars come first in it: most events are one."""
        for count, event in enumerate(events, 1):
            mark = event.start_mark
            place = Place(self._file, mark.line + 1, mark.column + 1)
            if count > NODES_MAX:
                raise place.refuse(f"more than {NODES_MAX} nodes", "split the file")
            kind = type(event)
            if kind is yaml.ScalarEvent:
                if event.anchor is not None or event.tag is not None:
                    self._refuse_extras(event, place)
                self._parts.append(_read_scalar(event, place))
            elif kind in _ENDS:
                self._close(_ENDS[kind])
            else:
                self._refuse_extras(event, place)
                if kind in _STARTS:
                    self._open(place)
        return self._parts[0] if self._parts else None

    def _open(self, place: Place) -> None:
        if len(self._outer) >= DEPTH_MAX:
            raise place.refuse(f"nested deeper than {DEPTH_MAX} levels")
        self._outer.append((place, self._parts))
        self._parts = []

    def _close(self, make: Callable[[Place, list[Node]], Node]) -> None:
        place, around = self._outer.pop()
        around.append(make(place, self._parts))
        self._parts = around

    def _refuse_extras(self, event: Any, place: Place) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise place.refuse("anchors and aliases are not used here", "repeat the value")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1 or event.tags or event.version:
                raise place.refuse("one plain document per file", "remove `%` lines and `---`")
        elif getattr(event, "tag", None) is not None:
            raise place.refuse("YAML tags are not used here", "remove the `!…`")


def _read_scalar(event: Any, place: Place) -> Scalar:
    text = event.value
    if not (text.isascii() and text.isprintable()):
        _check_escaped(text, place)
    plain = not event.style  # libyaml says "", PyYAML says None
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column
    if start.line != end.line or width != len(text) + (0 if plain else 2):
        return Scalar(text, place, plain)
    if not plain:
        place = Place(place.file, place.line, place.column + 1)
    return Scalar(text, place, plain, True)


def _check_escaped(text: str, place: Place) -> None:
    """Escapes can spell what the raw text must not hold."""
    for character in "" if text.isprintable() else text:
        if unicodedata.category(character)[0] in "CZ" and character not in " \n\t":
            raise place.refuse(f"the character U+{ord(character):04X} cannot be seen")
    if unicodedata.normalize("NFC", text) != text:
        raise place.refuse("the text is not in Unicode form NFC", "save it as NFC")


def _sequence(place: Place, parts: list[Node]) -> Sequence:
    return Sequence(tuple(parts), place)


def _mapping(place: Place, parts: list[Node]) -> Mapping:
    entries: dict[str, Node] = {}
    keys: dict[str, Place] = {}
    for key, value in zip(parts[::2], parts[1::2], strict=True):
        if not isinstance(key, Scalar) or not key.text or (key.plain and key.text == "<<"):
            raise key.place.refuse("a name in a mapping is text")
        if key.text in entries:
            raise key.place.refuse(f"`{key.text[:80]}` stands twice", "keep one of them")
        entries[key.text] = value
        keys[key.text] = key.place
    return Mapping(entries, keys, place)


_STARTS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_ENDS: dict[type, Callable[[Place, list[Node]], Node]] = {
    yaml.SequenceEndEvent: _sequence,
    yaml.MappingEndEvent: _mapping,
}
