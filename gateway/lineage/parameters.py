"""Typed parameters of named questions: what a value may look like, and its SQL value. Pure.

Values are always bound, never pasted into SQL. Times are ISO 8601 (UTC when no zone is
given) or an age such as `30d`, counted back from `now`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.domain.dataset import COLUMN_NAME_CHARS_MAX, DatasetRef, parse_name
from gateway.domain.purpose import parse_purpose
from gateway.errors import InvalidInput

_AGE = re.compile(r"([1-9][0-9]{0,5})([smhdw])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TAG = re.compile(r"[A-Za-z0-9_:=+/.-]{1,128}\Z")
_PERSON_TAG = re.compile(r"[0-9a-f]{32}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_WORD_CHARS_MAX = 200
PLACE_MAX = 1_000_000
LIMIT_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter: `type` is a key of `TYPES`."""

    name: str
    type: str
    text: str
    required: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON shape for the list of questions."""
        return {
            "name": self.name,
            "type": self.type,
            "text": self.text,
            "required": self.required,
        }


def bind(
    parameters: tuple[Parameter, ...], given: Mapping[str, Any], *, now: float
) -> dict[str, Any]:
    """SQL values for all parameters; one not given is NULL (`limit`: its maximum).

    Raises:
        InvalidInput: unknown or missing parameter, or a value not of its type.
    """
    require_known(parameters, given)
    bound: dict[str, Any] = {}
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is None and parameter.required:
            raise InvalidInput(f"`{parameter.name}` is missing", advice=parameter.text)
        bound.update(TYPES[parameter.type](parameter.name, value, now))
    _require_order(given, bound)
    return bound


def _require_order(given: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
    """A period that ends before it begins holds nothing, whatever happened: it is no question."""
    since = bound.get("since")
    for end in ("until", "as_of"):
        if since is not None and given.get(end) is not None and bound[end] < since:
            raise InvalidInput(
                f"`{end}` is before `since`", advice="name the earlier moment as `since`"
            )


def require_known(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a parameter that the question does not take, `tenant` aside."""
    known = {parameter.name for parameter in parameters}
    for name in given:
        if name not in {*known, "tenant"}:
            raise InvalidInput(
                f"`{str(name)[:80]}` is not a parameter of this question",
                advice=f"parameters: {', '.join(sorted(known)) or 'none'}",
            )


def parse_time(text: object, now: float) -> datetime:
    """Read ISO 8601 or an age before `now` (Unix seconds); returns naive UTC."""
    if isinstance(text, str) and (age := _AGE.match(text)):
        try:
            moment = _moment(now) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        except OverflowError as cause:
            raise InvalidInput(f"`{text[:40]}` is too long ago") from cause
        return moment
    try:
        moment = datetime.fromisoformat(str(text))
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as cause:  # OverflowError: not a year of UTC
        raise InvalidInput(
            f"`{str(text)[:40]}` is not a time", advice="write 2026-01-31, 2026-01-31T12:00Z or 30d"
        ) from cause
    return moment


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC).replace(tzinfo=None)


def _dataset(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    if value is None:
        return {name: None, f"{name}_version": None}
    ref = DatasetRef.parse(value)
    return {name: str(ref.unversioned), f"{name}_version": ref.version}


def _time(name: str, value: Any, now: float) -> dict[str, Any]:
    return {name: None if value is None else parse_time(value, now)}


def _until(name: str, value: Any, now: float) -> dict[str, Any]:
    """A state's moment: `now` when not given, so that SQL can always compare with it."""
    return {name: _moment(now) if value is None else parse_time(value, now)}


def _tag(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    if value is not None and not (isinstance(value, str) and _TAG.match(value)):
        raise InvalidInput(f"`{str(value)[:80]}` is not a subject's tag")
    return {name: value}


def _person(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    """Never the id: control puts the keyed tag in its place."""
    if not (isinstance(value, str) and _PERSON_TAG.match(value)):
        raise InvalidInput(f"`{name}` is not the tag of a person")
    return {name: value}


def _column(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    return {name: _text(name, value, COLUMN_NAME_CHARS_MAX)}


def _word(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    return {name: _text(name, value, _WORD_CHARS_MAX)}


def _purpose(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    return {name: None if value is None else parse_purpose(value)}


def _tenant(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    """Bound as NAME_name: `$tenant` itself is the asker."""
    return {f"{name}_name": None if value is None else parse_name(value, what="tenant")}


def _effect(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    if value not in (None, "allow", "deny"):
        raise InvalidInput(f"`{name}` is `allow` or `deny`")
    return {name: value}


def _bundle(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    if value is not None and not (isinstance(value, str) and _SHA256.match(value)):
        raise InvalidInput(f"`{name}` is a SHA-256 in hex")
    return {name: value}


def _model(name: str, value: Any, now: float) -> dict[str, Any]:
    """Bound without the `model:` that references carry."""
    text = _word(name, value, now)[name]
    return {name: None if text is None else text.removeprefix("model:")}


def _run(name: str, value: Any, now: float) -> dict[str, Any]:
    """Bound without the `run:` that references carry."""
    text = _word(name, value, now)[name]
    return {name: None if text is None else text.removeprefix("run:")}


def _place(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    return {name: _number(name, value, 0, PLACE_MAX)}


def _factor(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    return {name: _number(name, 10 if value is None else value, 1, 1_000_000)}


def _limit(name: str, value: Any, now: float) -> dict[str, Any]:  # noqa: ARG001 - all readers have one shape
    if value is None:
        return {name: LIMIT_MAX}
    return {name: _number(name, value, 1, LIMIT_MAX)}


def _number(name: str, value: Any, lowest: int, highest: int) -> int | None:
    if value is None:
        return None
    try:
        number = int(str(value))
    except ValueError as cause:
        raise InvalidInput(f"`{name}` is a whole number") from cause
    if not lowest <= number <= highest:
        raise InvalidInput(f"`{name}` is between {lowest} and {highest}")
    return number


def _text(name: str, value: Any, chars_max: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= chars_max:
        raise InvalidInput(f"`{name}` is text of 1 to {chars_max} characters")
    if "\0" in value or (
        not value.isascii()
        and value.encode("utf-8", "replace") != value.encode("utf-8", "surrogatepass")
    ):
        raise InvalidInput(f"`{name}` is not Unicode text")
    return value


TYPES: dict[str, Callable[[str, Any, float], dict[str, Any]]] = {
    "dataset": _dataset,
    "column": _column,
    "subject": _tag,
    "person": _person,
    "tenant": _tenant,
    "purpose": _purpose,
    "run": _run,
    "grant": _word,
    "question": _word,
    "bundle": _bundle,
    "model": _model,
    "place": _place,
    "factor": _factor,
    "word": _word,
    "effect": _effect,
    "time": _time,
    "state": _until,
    "limit": _limit,
}
