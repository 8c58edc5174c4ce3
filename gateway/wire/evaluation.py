"""AuthZEN 1.0 Access Evaluation, one or a batch: the shape under which `access check` travels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidInput
from gateway.wire.access import AccessAsk, DecisionView

RESOURCE_TYPE = "dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSubject:
    """Who; may be left out: the caller, as the token says. Others only for enforcement points."""

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
class EvaluationItem:
    """One question of a batch; what it leaves out is as the batch says."""

    subject: EvaluationSubject | None = None
    action: EvaluationAction | None = None
    resource: EvaluationResource | None = None
    context: EvaluationContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationsRequest:
    """Several questions with defaults; without `evaluations` one question."""

    subject: EvaluationSubject | None = None
    action: EvaluationAction | None = None
    resource: EvaluationResource | None = None
    context: EvaluationContext | None = None
    evaluations: tuple[EvaluationItem, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)  # unknown ones are ignored

    def filled(self, item: EvaluationItem) -> EvaluationRequest:
        """The question with the batch's defaults; InvalidInput when it asks for nothing."""
        action, resource = item.action or self.action, item.resource or self.resource
        if action is None or resource is None:
            raise InvalidInput("a question names an action and a resource")
        return EvaluationRequest(
            subject=item.subject or self.subject,
            action=action,
            resource=resource,
            context=item.context or self.context or EvaluationContext(),
        )

    def single(self) -> EvaluationRequest:
        """The one question of a request that is no batch."""
        return self.filled(EvaluationItem())


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationError:
    """Why one question of a batch could not be answered."""

    status: int  # what it would have been as an HTTP status
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationErrorContext:
    """Context of a refusal."""

    error: EvaluationError


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRefusal:
    """A question of a batch that could not be answered is denied."""

    context: EvaluationErrorContext
    decision: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationsResponse:
    """The answers, in the order of the questions."""

    evaluations: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResponse:
    """The answer; `context` is the whole Decision."""

    decision: bool
    context: DecisionView
