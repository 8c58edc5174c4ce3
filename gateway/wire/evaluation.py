"""The AuthZEN 1.0 Access Evaluation: the shape under which `access check` travels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidInput
from gateway.wire.access import AccessAsk, DecisionView

RESOURCE_TYPE = "dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSubject:
    """Who; may be left out. When given it must be the caller, whom only the token names."""

    type: str
    id: str
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationAction:
    """What."""

    name: str
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResource:
    """On which dataset: `{"type": "dataset", "id": "clinic/icu@3"}`."""

    type: str
    id: str
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationContext:
    """The rest of an AccessRequest, and the moment it is asked for."""

    purpose: str | None = None
    columns: tuple[str, ...] | None = None
    split: str | None = None
    shards: tuple[int, ...] | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    max_epochs: int | None = None
    run: str | None = None
    at: str | None = None  # ISO 8601; None = now


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """One question."""

    action: EvaluationAction
    resource: EvaluationResource
    subject: EvaluationSubject | None = None
    context: EvaluationContext = EvaluationContext()

    def __post_init__(self) -> None:
        if self.resource.type != RESOURCE_TYPE:
            raise InvalidInput(f"resources are of type `{RESOURCE_TYPE}`", field="resource.type")
        given = (self.action.properties, self.resource.properties)
        if any(given) or (self.subject and self.subject.properties):
            raise InvalidInput(
                "properties are facts of the gateway, not of the request", field="properties"
            )

    def ask(self) -> AccessAsk:
        """The AccessRequest in it."""
        context = self.context
        return AccessAsk(
            dataset=self.resource.id,
            action=self.action.name,
            purpose=context.purpose,
            columns=context.columns,
            split=context.split,
            shards=context.shards,
            max_rows=context.max_rows,
            max_bytes=context.max_bytes,
            max_epochs=context.max_epochs,
            run=context.run,
        )

    @classmethod
    def of(cls, ask: AccessAsk, at: str | None) -> EvaluationRequest:
        """Wrap an AccessRequest."""
        return cls(
            action=EvaluationAction(name=ask.action),
            resource=EvaluationResource(type=RESOURCE_TYPE, id=ask.dataset),
            context=EvaluationContext(
                purpose=ask.purpose,
                columns=ask.columns,
                split=ask.split,
                shards=ask.shards,
                max_rows=ask.max_rows,
                max_bytes=ask.max_bytes,
                max_epochs=ask.max_epochs,
                run=ask.run,
                at=at,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResponse:
    """The answer; `context` is the whole Decision."""

    decision: bool
    context: DecisionView
