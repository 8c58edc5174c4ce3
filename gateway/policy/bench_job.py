"""What the bench is given to work on, and how it travels to the child: JSON, no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.domain.access import AccessRequest, Limits, Resource, Subject
from gateway.domain.dataset import Column, DatasetRef
from gateway.domain.derivation import Ancestor
from gateway.policy.replay import Recorded

Files = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchJob:
    """One candidate bundle, what it would replace, and what the catalogue knows around it."""

    tenant: str
    files: Files
    parts: tuple[str, ...]  # of wire's TRIAL_PARTS
    now: float
    before: Files = field(default_factory=dict)  # in force
    beside: Mapping[str, Files] = field(default_factory=dict)  # of others that judge the same data
    resources: tuple[Resource, ...] = ()
    principals: tuple[str, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    since: str | None = None  # time of the oldest recorded request
    is_cut: bool = False  # whether there are older ones that were not read

    def to_bytes(self) -> bytes:
        """JSON; each resource stands once, however many requests were for it."""
        asked = {str(one.resource.dataset): one.resource for one in self.recorded}
        places = {name: place for place, name in enumerate(asked)}
        return json.dumps(
            {
                "tenant": self.tenant,
                "files": dict(self.files),
                "parts": self.parts,
                "now": self.now,
                "before": dict(self.before),
                "beside": {tenant: dict(files) for tenant, files in self.beside.items()},
                "resources": [_resource_dict(resource) for resource in self.resources],
                "principals": self.principals,
                "recorded": [
                    [_request_dict(one.request), places[str(one.resource.dataset)], one.times]
                    for one in self.recorded
                ],
                "recorded_resources": [_resource_dict(resource) for resource in asked.values()],
                "since": self.since,
                "is_cut": self.is_cut,
            }
        ).encode()

    @classmethod
    def of_bytes(cls, data: bytes) -> BenchJob:
        """Read what `to_bytes` of our own parent wrote."""
        value = json.loads(data)
        asked = [_resource(each) for each in value.pop("recorded_resources")]
        return cls(
            **{
                **value,
                "parts": tuple(value["parts"]),
                "principals": tuple(value["principals"]),
                "resources": tuple(map(_resource, value["resources"])),
                "recorded": tuple(
                    Recorded(request=_request(request), resource=asked[place], times=times)
                    for request, place, times in value["recorded"]
                ),
            }
        )


def _resource_dict(resource: Resource) -> dict[str, Any]:
    return {
        "tenant": resource.tenant,
        "dataset": _text(resource.dataset),
        "columns": [asdict(column) for column in resource.columns],
        "splits": resource.splits,
        "suspended": resource.suspended,
        "attributes": dict(resource.attributes),
        "ancestors": [
            {"dataset": str(a.dataset), "columns": [asdict(column) for column in a.columns]}
            for a in resource.ancestors
        ],
    }


def _resource(value: Mapping[str, Any]) -> Resource:
    return Resource(
        tenant=value["tenant"],
        dataset=_ref(value["dataset"]),
        columns=_columns(value["columns"]),
        splits=tuple(value["splits"]),
        suspended=value["suspended"],
        attributes=value["attributes"],
        ancestors=tuple(
            Ancestor(dataset=DatasetRef.parse(a["dataset"]), columns=_columns(a["columns"]))
            for a in value["ancestors"]
        ),
    )


def _columns(values: list[dict[str, Any]]) -> tuple[Column, ...]:
    return tuple(Column(**{**value, "tags": tuple(value["tags"])}) for value in values)


def _request_dict(request: AccessRequest) -> dict[str, Any]:
    return {
        **asdict(request),
        "dataset": _text(request.dataset),
        "limits": request.limits.to_dict(),
    }


def _request(value: dict[str, Any]) -> AccessRequest:
    subject = value["subject"]
    columns = value["columns"]
    return AccessRequest(
        **{
            **value,
            "subject": Subject(**{**subject, "roles": tuple(subject["roles"])}),
            "dataset": _ref(value["dataset"]),
            "columns": None if columns is None else tuple(columns),
            "limits": Limits(**value["limits"]),
        }
    )


def _text(ref: DatasetRef | None) -> str | None:
    return None if ref is None else str(ref)


def _ref(text: str | None) -> DatasetRef | None:
    return None if text is None else DatasetRef.parse(text)
