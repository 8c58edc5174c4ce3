"""Turn the server's answers into values and typed errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.errors import GatewayError, InvalidInput, NotFound, Unavailable
from gateway.wire import codec

_OURS = {"type", "title", "status", "detail", "advice", "decision", "error", "error_description"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer; errors were raised before."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        """The body as a JSON value; raises Unavailable when it is none."""
        try:
            return codec.loads(self.body)
        except InvalidInput as cause:
            raise Unavailable(
                "the server's answer is not JSON", advice="check that the URL is a gateway's"
            ) from cause


_UNNAMED = (
    "/v1/exports",
    "/access/v1/evaluation",
    "/oauth/token",
    "/v1/revocations",
    "/v1/consents",
    "/v1/lineage/evidence",
    "/v1/lineage/proofs/chain",
)  # the body or the query names it
_ASKED = ("/v1/lineage/questions/", "/v1/lineage/reports/")  # these are there for everybody


@cache
def kinds() -> dict[str, type[GatewayError]]:
    """Every error class by its code."""
    found: dict[str, type[GatewayError]] = {}
    todo = [GatewayError]
    while todo:
        kind = todo.pop()
        found.setdefault(kind.code, kind)
        todo += kind.__subclasses__()
    return found


def error_of(response: Response, asked: str) -> GatewayError:
    """The typed error in an answer of status 400 and above; `asked` is the path, for a 404."""
    try:
        problem = codec.loads(response.body)
    except InvalidInput:
        problem = None
    if not isinstance(problem, dict) or "type" not in problem:
        return Unavailable(
            f"the server answered {response.status} without saying why",
            advice="check that the URL is a gateway's, or look at the proxy before it",
        )
    error = error_of_problem(problem)
    if isinstance(error, NotFound):
        path = asked.partition("?")[0]
        is_unnamed = path in _UNNAMED or path.endswith("/who") or path.startswith(_ASKED)
        named = "of the names in the request" if is_unnamed else f"at `{asked[:200]}`"
        error.message = f"nothing {named} that you may see"
        error.args = (error.message,)
    return error


def error_of_problem(problem: Mapping[str, Any]) -> GatewayError:
    """The typed error of an RFC 9457 document; an unknown type becomes a GatewayError."""
    code = str(problem.get("type", "")).rpartition("#")[2]
    facts = {str(k): v for k, v in problem.items() if k not in _OURS}
    advice, decision = problem.get("advice"), problem.get("decision")
    return kinds().get(code, GatewayError)(
        str(problem.get("detail") or problem.get("title") or code),
        advice=str(advice) if advice else None,
        decision=str(decision) if decision else None,
        **{k: v for k, v in facts.items() if k not in ("message", "position")},
    )
