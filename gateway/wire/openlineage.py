"""Read one OpenLineage event (spec 2-0-2): a RunEvent, a JobEvent or a DatasetEvent. Strict.

Taken: who is named, what came of what, between datasets (inputs and outputs, the `lineage` facet
of a dataset or job) and between columns (`columnLineage` 1-2-0, `lineage` 1-0-0), and the version
of our own datasets. Every other facet is checked for what the specification requires of all
facets, and means nothing to us. Refused: what the specification's JSON Schema refuses, a time
that is none, and more than the limits of domain/claim.py.

Our datasets are called `dataset-gateway` (or `dataset-gateway://HOST:PORT` of this gateway) by
their namespace and `tenant/name` or `tenant/name@3` by their name. Every other name is foreign.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from gateway.domain.claim import COLUMNS_MAX, EDGES_MAX, NAME_CHARS_MAX, THINGS_MAX
from gateway.domain.dataset import DatasetRef
from gateway.domain.facts import is_text
from gateway.errors import InvalidInput, TooLarge
from gateway.wire import codec

NAMESPACE = "dataset-gateway"
STATES = ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}\Z")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,8}\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Place = int  # in `things`
Value = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Thing:
    """A dataset, a job or a run. `namespace` is None for datasets of this gateway and runs."""

    kind: str
    namespace: str | None
    name: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnEdge:
    """One column that another came of; `target_column` None: it shaped every column."""

    source: Place
    source_column: str
    target: Place
    target_column: str | None
    type: str | None = None
    subtype: str | None = None
    masking: bool = False


@dataclass(slots=True, kw_only=True)
class Claimed:
    """What one event says."""

    type: str  # `run`, `job` or `dataset`
    state: str | None
    at_us: int  # Unix microseconds
    about: Place | None = None
    things: list[Thing] = field(default_factory=list)
    edges: dict[tuple[Place, Place], None] = field(default_factory=dict)
    columns: dict[ColumnEdge, None] = field(default_factory=dict)


def read(value: Any, authority: str) -> Claimed:
    """What the event says.

    Args:
        value: parsed JSON.
        authority: `host:port` of this gateway.

    Raises:
        InvalidInput: it is no OpenLineage event; the message names the member.
        TooLarge: it names more than one claim may hold.
    """
    event = _object(value, "the event")
    for name in ("producer", "schemaURL"):
        _text(event, name, "the event", chars_max=4096)
    kind = _kind(event)
    state = event.get("eventType") if kind == "run" else None
    if state not in STATES and "eventType" in event and kind == "run":  # absent, but never null
        _refuse("eventType", f"one of {', '.join(STATES)}")
    claimed = Claimed(type=kind, state=state, at_us=_microseconds(event.get("eventTime")))
    _Reader(claimed, authority).read(event)
    return claimed


def _kind(event: Value) -> str:
    """Which of the three; the schema's `oneOf` leaves no event to be two of them."""
    if "job" in event and "run" in event:
        return "run"
    if "job" in event and "dataset" not in event:
        return "job"
    if "dataset" in event and "job" not in event:
        return "dataset"
    raise InvalidInput(
        "the event is none of RunEvent, JobEvent and DatasetEvent",
        advice="send `run` and `job`, `job` alone, or `dataset` alone",
    )


class _Reader:
    """Collects things and edges into a Claimed."""

    def __init__(self, claimed: Claimed, authority: str) -> None:
        self._claimed = claimed
        self._namespaces = (NAMESPACE, f"{NAMESPACE}://{authority}")
        self._places: dict[Thing, Place] = {}
        self._own_job: Thing | None = None

    def read(self, event: Value) -> None:
        claimed = self._claimed
        if claimed.type == "dataset":
            self._dataset(event["dataset"], "dataset")
            return
        job = _object(event["job"], "job")
        name = Thing("job", _name(job, "namespace", "job"), _name(job, "name", "job"))
        self._own_job = name
        facets = _facets(job, "facets", "job")
        if claimed.type == "run":
            claimed.about = self._place(Thing("run", None, _run(event["run"], "run")))
            _facets(event["run"], "facets", "run")
            self._place(name)  # by its tag the runs of one job are found
        else:
            claimed.about = self._place(name)
        for member, is_input in (("inputs", True), ("outputs", False)):
            for number, dataset in enumerate(_list(event, member, "the event")):
                place = self._dataset(dataset, f"{member}[{number}]")
                self._edge(*((place, claimed.about) if is_input else (claimed.about, place)))
        if "lineage" in facets:
            self._entries(facets["lineage"], "job.facets.lineage")

    def _dataset(self, value: Any, at: str) -> Place:
        given = _object(value, at)
        facets = _facets(given, "facets", at)
        for name in ("inputFacets", "outputFacets"):
            _facets(given, name, at)
        version = facets.get("version", {}).get("datasetVersion")
        place = self._named(given, at, version if isinstance(version, str) else None)
        if "columnLineage" in facets:
            self._column_lineage(place, facets["columnLineage"], f"{at}.facets.columnLineage")
        if "lineage" in facets:
            self._into(place, facets["lineage"], f"{at}.facets.lineage")
        return place

    def _named(self, given: Value, at: str, version: str | None = None) -> Place:
        namespace, name = _name(given, "namespace", at), _name(given, "name", at)
        if namespace in self._namespaces:
            try:
                ref = DatasetRef.parse(name)
            except InvalidInput:
                return self._place(Thing("dataset", namespace, name))
            told = int(version) if version and _VERSION.match(version) else None
            return self._place(
                Thing("dataset", None, f"{ref.tenant}/{ref.name}", ref.version or told)
            )
        return self._place(Thing("dataset", namespace, name))

    # `columnLineage`: https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json

    def _column_lineage(self, target: Place, facet: Value, at: str) -> None:
        fields = _object(facet.get("fields"), f"{at}.fields")
        for column, value in fields.items():
            here = f"{at}.fields"
            entry = _object(value, here)
            legacy = entry.get("transformationType")
            if legacy is not None and not isinstance(legacy, str):
                _refuse(f"{here}.transformationType", "text")
            sources = entry.get("inputFields")
            if not isinstance(sources, list):
                _refuse(f"{here}.inputFields", "a list")
            for source in sources:
                self._input_field(source, (target, _column(column, here)), legacy, here)
        for source in _list(facet, "dataset", at):
            self._input_field(source, (target, None), None, f"{at}.dataset")

    def _input_field(
        self, value: Any, target: tuple[Place, str | None], legacy: str | None, at: str
    ) -> None:
        given = _object(value, at)
        source = (self._named(given, at), _name(given, "field", at))
        done = _list(given, "transformations", at)
        if not done and legacy is not None:
            self._column(source, target, ("DIRECT", _code(legacy), legacy == "MASKED"))
            return
        self._columns(source, target, done, at)

    # `lineage`: https://openlineage.io/spec/facets/1-0-0/LineageFacet.json

    def _entries(self, facet: Value, at: str) -> None:
        entries = facet.get("entries")
        if not isinstance(entries, list):
            _refuse(f"{at}.entries", "a list")
        for number, value in enumerate(entries):
            here = f"{at}.entries[{number}]"
            entry = _object(value, here)
            self._into(self._entity(entry, here), entry, here)

    def _into(self, target: Place, given: Value, at: str) -> None:
        """What fed `target`, whole and by column."""
        for value in _list(given, "inputs", at):
            source, entry = self._source(value, f"{at}.inputs")
            self._edge(source, target)
            if entry.get("field") is not None:
                here = (source, _name(entry, "field", at))
                self._columns(here, (target, None), _list(entry, "transformations", at), at)
        for column, value in _object(given.get("fields", {}), f"{at}.fields").items():
            inputs = _object(value, f"{at}.fields").get("inputs")
            if not isinstance(inputs, list):
                _refuse(f"{at}.fields.inputs", "a list")
            for one in inputs:
                source, entry = self._source(one, f"{at}.fields")
                self._edge(source, target)
                if entry.get("field") is not None:
                    done = _list(entry, "transformations", at)
                    to = (target, _column(column, at))
                    self._columns((source, _name(entry, "field", at)), to, done, at)

    def _source(self, value: Any, at: str) -> tuple[Place, Value]:
        entry = _object(value, at)
        for done in _list(entry, "transformations", at):
            _transformation(done, at)
        return self._entity(entry, at), entry

    def _entity(self, entry: Value, at: str) -> Place:
        """A dataset, or a job: another one, that of a run, or the event's own."""
        kind = entry.get("type")
        if kind == "DATASET":
            return self._named(entry, at)
        if kind != "JOB":
            _refuse(f"{at}.type", "DATASET or JOB")
        if ("namespace" in entry) != ("name" in entry):
            _refuse(f"{at}.name", "given together with `namespace`")
        named = self._own_job
        if "name" in entry:
            named = Thing("job", _name(entry, "namespace", at), _name(entry, "name", at))
        if "runId" in entry:
            return self._place(Thing("run", None, _run(entry, at)))
        if named is None:
            _refuse(f"{at}.name", "there: this event has no job of its own")
        if named == self._own_job and self._claimed.about is not None:
            return self._claimed.about
        return self._place(named)

    # what is collected

    def _columns(
        self, source: tuple[Place, str], target: tuple[Place, str | None], done: Any, at: str
    ) -> None:
        if not done:
            self._column(source, target, (None, None, False))
        for value in done:
            self._column(source, target, _transformation(value, f"{at}.transformations"))

    def _column(
        self,
        source: tuple[Place, str],
        target: tuple[Place, str | None],
        how: tuple[str | None, str | None, bool],
    ) -> None:
        claimed = self._claimed
        kind, subtype, masking = how
        claimed.columns[ColumnEdge(*source, *target, kind, subtype, masking)] = None
        _bounded(len(claimed.columns), COLUMNS_MAX, "edges between columns")
        about = claimed.about
        if about is None or (source[0], about) not in claimed.edges:
            self._edge(source[0], target[0])

    def _edge(self, source: Place, target: Place) -> None:
        if source != target:
            self._claimed.edges[source, target] = None
            _bounded(len(self._claimed.edges), EDGES_MAX, "edges")

    def _place(self, thing: Thing) -> Place:
        found = self._places.get(thing)
        if found is None:
            found = self._places[thing] = len(self._claimed.things)
            self._claimed.things.append(thing)
            _bounded(found + 1, THINGS_MAX, "datasets, jobs and runs")
        return found


def _transformation(value: Any, at: str) -> tuple[str | None, str | None, bool]:
    """Its type and subtype, and whether nothing of the original is left."""
    given = _object(value, at)
    for member in ("subtype", "description"):
        if member in given:
            _text(given, member, at)
    masking = given.get("masking", False)
    if type(masking) is not bool:
        _refuse(f"{at}.masking", "true or false")
    return _code(_text(given, "type", at)), _code(given.get("subtype")), masking


def _facets(owner: Value, member: str, at: str) -> dict[str, Value]:
    """Facets that were not deleted, each with what every facet must have."""
    found = _object(owner.get(member, {}), f"{at}.{member}")
    for name, facet in found.items():
        here = f"{at}.{member}.{name}"[:200]
        given = _object(facet, here)
        for needed in ("_producer", "_schemaURL"):
            _text(given, needed, here, chars_max=4096)
        if type(given.get("_deleted", False)) is not bool:
            _refuse(f"{here}._deleted", "true or false")
    return {name: facet for name, facet in found.items() if not facet.get("_deleted")}


def _run(value: Any, at: str) -> str:
    run = _text(_object(value, at), "runId", at)
    if not _UUID.match(run):
        _refuse(f"{at}.runId", "a UUID")
    return str(uuid.UUID(run))


def _microseconds(value: Any) -> int:
    us = -1
    if isinstance(value, str) and _TIME.match(value):
        with contextlib.suppress(ValueError, OverflowError):
            at = datetime.fromisoformat(value.upper())
            us = (at - _EPOCH) // timedelta(microseconds=1)
    if not 0 <= us <= codec.INTEGER_MAX:
        _refuse("eventTime", "an RFC 3339 time with its zone, of the years 1970 to 2254")
    return us


def _name(given: Value, member: str, at: str) -> str:
    found = _text(given, member, at)
    if not is_text(found, NAME_CHARS_MAX):
        _refuse(f"{at}.{member}", f"at most {NAME_CHARS_MAX} characters of UTF-8")
    return found


def _column(name: str, at: str) -> str:
    if not is_text(name, NAME_CHARS_MAX):
        _refuse(at, f"a name of at most {NAME_CHARS_MAX} characters of UTF-8")
    return name


def _text(given: Value, member: str, at: str, *, chars_max: int = 1 << 16) -> str:
    found = given.get(member)
    if not isinstance(found, str) or len(found) > chars_max:
        _refuse(f"{at}.{member}" if at != "the event" else member, "text")
    return found


def _code(text: str | None) -> str | None:
    """A word of the specification; any other text is free, and stays in the sealed event."""
    return None if text is None else text if _CODE.match(text) else "OTHER"


def _list(given: Value, member: str, at: str) -> list[Any]:
    found = given.get(member, [])
    if not isinstance(found, list):
        _refuse(f"{at}.{member}" if at != "the event" else member, "a list")
    return found


def _object(value: Any, at: str) -> Value:
    if not isinstance(value, dict):
        _refuse(at, "an object")
    return value


def _bounded(count: int, most: int, what: str) -> None:
    if count > most:
        raise TooLarge(f"one event names at most {most} {what}", advice="send smaller events")


def _refuse(at: str, wanted: str) -> NoReturn:
    raise InvalidInput(
        f"`{at[:200]}` must be {wanted}",
        advice="send events of the OpenLineage specification 2-0-2",
        field=at[:200],
    )
