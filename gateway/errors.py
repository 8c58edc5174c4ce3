"""Every failure of the gateway as ONE tree; catch `GatewayError` to catch them all.

    GatewayError
    ├── NotAuthenticated      401  who are you? the proof is missing, wrong or expired
    ├── AccessDenied          403  a Decision said no (carries its id)
    │   └── StreamStopped     403  a running stream ended; carries the StreamPosition
    │       ├── LeaseRevoked       the owner withdrew the Grant
    │       ├── LeaseExpired       the lease ran out and was not renewed
    │       ├── PlanChanged        the rules changed what may be seen
    │       ├── DatasetSuspended   the owner suspended the dataset, for now
    │       ├── TenantSuspended    an operator suspended the receiving tenant, for now
    │       └── StreamBroken  502  the bytes stopped or were not authentic
    ├── NotFound              404  no such thing, or none that the caller may see
    ├── Conflict              409  the state is another than the caller believed
    │   └── PreconditionFailed 412 the If-Match hash is not the current one
    ├── TooLarge              413  over a documented size limit
    ├── InvalidInput          422  the request or the file cannot be understood
    │   ├── MethodNotAllowed  405  another verb is wanted here
    │   ├── PolicyError            a rule, with file, line and column
    │   ├── UnknownName            a question about a name that is not in the asker's history
    │   └── SourceRefused          an uploaded file
    ├── LimitExceeded         429  a budget or rate is used up
    ├── IntegrityError        502  a digest, tag, signature or proof does not hold
    │   └── LogForked              the log does not continue what this client pinned
    ├── KeyUnavailable        503  the KMS or a key cannot be reached
    ├── Unavailable           503  not now: starting, stopping, full
    ├── ConnectorError        503  a plug failed or is missing
    └── ConfigError           78   the configuration or the state directory is refused

Each class has a `code` (the last part of the problem type of RFC 9457, documented in
docs/reference/errors.md), an HTTP `status` and the command line's `exit_code`. Messages are
lower case without a final period, with user input in backticks; `advice` is one sentence
that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class GatewayError(Exception):
    """Root of the tree. `message` says what happened, `advice` what to do about it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    advice_default: ClassVar[str] = "look at the server log under this request id"

    def __init__(
        self,
        message: str,
        *,
        advice: str | None = None,
        decision: str | None = None,
        **facts: Any,
    ) -> None:
        """Build one error.

        Args:
            message: what happened.
            advice: what would have to change; the class default when absent.
            decision: id of the Decision that led here (`dec_…`).
            facts: JSON values for the problem document; never personal data or key bytes.
        """
        super().__init__(message)
        self.message = message
        self.advice = advice or self.advice_default
        self.decision = decision
        self.facts = facts


class NotAuthenticated(GatewayError):
    """The caller did not prove who it is."""

    code = "not-authenticated"
    status = 401
    exit_code = 3
    advice_default = "present a valid credential; `gateway whoami` shows which one is used"


class AccessDenied(GatewayError):
    """A Decision said no."""

    code = "access-denied"
    status = 403
    exit_code = 3
    advice_default = "ask the owner of the dataset; `gateway policy explain DECISION` says more"


class StreamStopped(AccessDenied):
    """A running stream ended before its data did; `position` is where to resume."""

    code = "stream-stopped"
    advice_default = "keep the position and ask for a new token"

    def __init__(self, message: str, *, position: Any = None, **rest: Any) -> None:
        """Build one; `position` is the StreamPosition reached, in visible rows."""
        super().__init__(message, **rest)
        self.position = position


class LeaseRevoked(StreamStopped):
    """The Grant behind the lease was revoked."""

    code = "lease-revoked"
    advice_default = "the owner withdrew the grant; ask the owner, then resume at the position"


class LeaseExpired(StreamStopped):
    """The lease ran out."""

    code = "lease-expired"
    advice_default = "ask for a new token and resume at the position"


class PlanChanged(StreamStopped):
    """The policy now gives another Plan; an old position does not fit it."""

    code = "plan-changed"
    advice_default = "ask for a new token; the new plan starts a new order"


class DatasetSuspended(StreamStopped):
    """Suspended by its owner, or what it was made from is: nothing is released until resumed."""

    code = "dataset-suspended"
    advice_default = "keep the position; it fits again when the owner resumes the dataset"


class TenantSuspended(StreamStopped):
    """An operator suspended the tenant that receives the stream."""

    code = "tenant-suspended"
    advice_default = "keep the position; it fits again when an operator resumes the tenant"


class StreamBroken(StreamStopped):
    """Bytes were missing or not authentic."""

    code = "stream-broken"
    status = 502
    exit_code = 1
    advice_default = "resume at the position; if it happens again tell the operator"


class NotFound(GatewayError):
    """No such thing, or none that this caller may see."""

    code = "not-found"
    status = 404
    exit_code = 4
    advice_default = "check the name; what you may not see looks the same as what is not there"


class Conflict(GatewayError):
    """The state is another than the caller believed."""

    code = "conflict"
    status = 409
    exit_code = 5
    advice_default = "read the current state and try again"


class PreconditionFailed(Conflict):
    """If-Match names a version that is not the current one."""

    code = "precondition-failed"
    status = 412


class TooLarge(GatewayError):
    """Over a documented size limit."""

    code = "too-large"
    status = 413
    exit_code = 2
    advice_default = "send less; docs/reference/limits.md lists every limit"


class InvalidInput(GatewayError):
    """The request cannot be understood."""

    code = "invalid-input"
    status = 422
    exit_code = 2
    advice_default = "correct the named field"


class MethodNotAllowed(InvalidInput):
    """This path does not take this method."""

    code = "method-not-allowed"
    status = 405
    advice_default = "use one of the methods in the Allow header"


class PolicyError(InvalidInput):
    """A rule cannot be used; facts: `file`, `line`, `column`."""

    code = "policy-invalid"
    advice_default = "correct the rule at the named place; the old bundle stays in force"


class UnknownName(InvalidInput):
    """A question names what the asker's history does not have; facts: `parameter`, `nearest`."""

    code = "unknown-name"
    exit_code = 4
    advice_default = "check the name; what you may not see looks the same as what is not there"

    @classmethod
    def near(
        cls, message: str, nearest: Sequence[str], *, parameter: str, expired: Sequence[str] = ()
    ) -> UnknownName:
        """One whose advice names what the asker may have meant, or where it may have gone.

        Args:
            message: what is not there, and where.
            nearest: names that the asker may see, the most alike first.
            parameter: of the question.
            expired: months that have left the asker's history.
        """
        meant = f"did you mean {' or '.join(f'`{name}`' for name in nearest)}? "
        gone = f"; it may have gone with what retention let expire: {', '.join(expired)}"
        hidden = "what you may not see looks the same as what is not there"
        advice = (meant if nearest else "check the name; ") + hidden + (gone if expired else "")
        return cls(message, advice=advice, parameter=parameter, nearest=list(nearest))


class SourceRefused(InvalidInput):
    """An uploaded file is not what it claims to be, or is hostile."""

    code = "source-refused"
    advice_default = "check the file; nothing was registered"


class LimitExceeded(GatewayError):
    """A budget or rate is used up; facts: `limit`, `raised_by`, `retry_after_seconds`."""

    code = "limit-exceeded"
    status = 429
    advice_default = "wait, or ask whoever set the named limit to raise it"


class IntegrityError(GatewayError):
    """Stored or sent bytes are not the ones that were recorded."""

    code = "integrity"
    status = 502
    advice_default = "do not use these bytes; tell the operator, who runs `gateway doctor`"


class LogForked(IntegrityError):
    """The log is older than, or another than, the LogCheckpoint that this client pinned."""

    code = "log-forked"
    advice_default = "trust no answer of this gateway; show the pinned LogCheckpoint to its tenants"


class KeyUnavailable(GatewayError):
    """The KMS or a key cannot be reached."""

    code = "key-unavailable"
    status = 503
    exit_code = 69
    advice_default = "try again when the key service answers; `gateway doctor` shows it"


class Unavailable(GatewayError):
    """Not now."""

    code = "unavailable"
    status = 503
    exit_code = 69
    advice_default = "start the server with `gateway serve`, or wait until it is ready"


class ConnectorError(GatewayError):
    """A plug failed, is missing, or two claim the same scheme."""

    code = "connector"
    status = 503
    exit_code = 69
    advice_default = "install the extra that provides this scheme, or remove one claimant"


class ConfigError(GatewayError):
    """The configuration, a key file or the state directory is refused."""

    code = "config"
    exit_code = 78
    advice_default = "correct the setting; `gateway config show --origin` says where it came from"
