"""The shapes of all that travels between client and gateway: `import gateway.wire as W`.

Frozen dataclasses of plain JSON values; `codec` reads and writes them. Names load on first
use, so that a trainer's import pays only for what it touches.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.wire.access import *  # noqa: F403
    from gateway.wire.asking import *  # noqa: F403
    from gateway.wire.consents import *  # noqa: F403
    from gateway.wire.datasets import *  # noqa: F403
    from gateway.wire.evaluation import *  # noqa: F403
    from gateway.wire.exports import *  # noqa: F403
    from gateway.wire.keys import *  # noqa: F403
    from gateway.wire.lineage import *  # noqa: F403
    from gateway.wire.obligations import *  # noqa: F403
    from gateway.wire.operations import *  # noqa: F403
    from gateway.wire.policy import *  # noqa: F403
    from gateway.wire.runs import *  # noqa: F403
    from gateway.wire.tenants import *  # noqa: F403
    from gateway.wire.tokens import *  # noqa: F403

_NAMES = {
    "access": """AccessAsk Candidate DecisionView Explanation GrantView LimitsView PlanColumn
        PlanView ReasonView Revocation RevocationRequest""",
    "asking": "AccessRequestView PersonAsk RequestAnswer",
    "consents": "CONSENTS_MAX ConsentEntry ConsentReceipt ConsentRequest ConsentView",
    "datasets": """ColumnTags ColumnView DatasetChanges DatasetDetail DatasetSummary
        ErasurePlan ErasureRequest KeyRelease PartReceipt ProposedTag Registration
        RegistrationRequest SourceFile SplitView VersionView etag_of""",
    "evaluation": """EvaluationAction EvaluationContext EvaluationError EvaluationErrorContext
        EvaluationItem EvaluationRefusal EvaluationRequest EvaluationResource
        EvaluationResponse EvaluationSubject EvaluationsRequest EvaluationsResponse""",
    "exports": """EXPORT_PART_BYTES Export ExportRequest ExportedColumn ExportedShard
        PREVIEW_ROWS_DEFAULT PREVIEW_ROWS_MAX Preview""",
    "keys": "KeyView",
    "lineage": """ANSWER_HEADER ARROW_STREAM Answer AnswerFacts ArrowAnswer AskRequest ChainProof
        CheckpointView ClaimReceipt EvidenceRequest Graph GraphEdge GraphNode Proof QueryRequest
        Question QuestionParameter Report ReportRequest Trace TraceEdge TraceNode
        VerificationRequest""",
    "obligations": "EVIDENCE_CHARS_MAX FulfilmentRequest ObligationView",
    "operations": "CheckResult Operation Readiness",
    "policy": """AccessChange AccessEntry ApprovalRequest BundleView ForeignChange PolicyDiff
        PolicyFiles PolicyFinding PolicyProblem PolicyReplay ProposedBundleView
        ReplayedChange RuleChange SuiteResult TRIAL_PARTS Trial TrialRequest VisibleRows
        WhoRequest""",
    "runs": "BOUND STREAMING UNBOUND Attestation RunFinish RunView",
    "tenants": """IdentityChange IdentityChanged IdentityRequest IdentityView TenantChanges
        TenantRequest TenantView""",
    "tokens": "AuthorizationDetail Introspection KeySet LoginProvider TokenResponse WhoAmI",
}
_HOME = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"gateway.wire has no `{name}`")
    return getattr(import_module(f"gateway.wire.{_HOME[name]}"), name)
