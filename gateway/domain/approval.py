"""When a person must say yes, and what that yes is bound to.

A rule with the obligation `require_approval: true` makes every Plan that it takes part in one
that stands only under an approval. The approval is bound to the request as it was asked, and
to the Plan that the rules made of it: another Plan is another question.
"""

from __future__ import annotations

from gateway.domain.access import AccessRequest, Plan, digest_of

REQUIRE_APPROVAL = "require_approval"  # the obligation's name in policies/schema.yaml
REQUIRED = "approval-required"  # reason codes
OUTDATED = "approval-outdated"


def needs_approval(plan: Plan) -> bool:
    """Whether a rule behind this Plan demands that a person approves."""
    return (REQUIRE_APPROVAL, True) in plan.obligations


def request_hash(request: AccessRequest) -> str:
    """SHA-256 hex over everything that was asked, and by whom; columns in any order."""
    vouched = dict(request.subject.attributes)
    return digest_of(
        {
            **({"attributes": vouched} if vouched else {}),
            "subject": request.subject.id,
            "action": request.action,
            "dataset": str(request.dataset),
            "purpose": request.purpose,
            "columns": None if request.columns is None else sorted(set(request.columns)),
            "split": request.split,
            "limits": request.limits.to_dict(),
            "run": request.run,
        }
    )


def plan_hash(plan: Plan) -> str:
    """SHA-256 hex over what a Plan releases and demands; not when it ends, which moves with time.

    A Plan that is `valid: 14d` from the decision is the same Plan a day later.
    """
    limits = {name: value for name, value in plan.limits.to_dict().items() if name != "expires_at"}
    return digest_of({**plan.to_dict(), "limits": limits})
