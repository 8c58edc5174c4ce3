"""The judge: one immutable snapshot of every tenant's rules, and the decision.

    request, resource -> candidates (index by scope, action, principal)
                      -> none: deny, before Casbin is asked
                      -> Casbin's `enforce_ex` over the allow and deny candidates
                      -> allowed: the Plan algebra over every rule that counts

Never raises for what a request or a rule contains: an accident inside is a denial with the
reason code `error`. A policy change is a new Judge put in the place of the old one; no rule in
it changes after `build`, so any number of threads may share it. Pure: `now` and ids come in.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from operator import contains

from gateway.domain.access import (
    ACTIONS,
    DATA_ACTIONS,
    AccessRequest,
    Decision,
    Effect,
    Limits,
    Reason,
    Resource,
    Subject,
    digest_of,
)
from gateway.domain.dataset import parse_name
from gateway.domain.purpose import PURPOSES
from gateway.errors import InvalidInput
from gateway.policy.bundle import PolicyBundle, collector_at_rest
from gateway.policy.decision_cache import DecisionCache
from gateway.policy.enforcer import Loop, model_text
from gateway.policy.explain import Explanation, advise, explain_trial
from gateway.policy.index import Index, Row, judging_scopes
from gateway.policy.outlook import Outlook, outlook
from gateway.policy.plans import Refusal, make_plan
from gateway.policy.rules import Rule
from gateway.policy.schema import Schema, default_schema
from gateway.policy.trial import RequestFacts, Trial

SUSPENDED = "this dataset, or one that it was made from, is suspended by its owner or an operator"
_log = logging.getLogger("gateway.policy")

Reach = tuple[tuple[str, ...], tuple[str, ...]]  # scopes of the resource, principals


class Judge:
    """Decides; see the module. `digest` names the snapshot."""

    def __init__(self, bundles: tuple[PolicyBundle, ...], schema: Schema) -> None:
        """Use `build`."""
        self._schema = schema
        self._loop = Loop(contains)  # a rule holds when it is among those that count
        self._known = DecisionCache(frozenset().union(*(bundle.part.moving for bundle in bundles)))
        self._index = Index(bundle.part for bundle in bundles)
        self.bundles = {bundle.tenant: bundle.digest for bundle in bundles}
        self.digest = digest_of(
            {
                "model": hashlib.sha256(model_text().encode()).hexdigest(),
                "schema": sorted(map(repr, (schema.attributes, schema.obligations))),
                "bundles": self.bundles,
            }
        )

    @classmethod
    def build(cls, bundles: Iterable[PolicyBundle], schema: Schema | None = None) -> Judge:
        """Index the rules of one bundle per tenant.

        Raises:
            InvalidInput: two bundles of one tenant.
        """
        chosen = tuple(sorted(bundles, key=lambda bundle: bundle.tenant))
        if len({bundle.tenant for bundle in chosen}) != len(chosen):
            raise InvalidInput("a tenant has one bundle, not two")
        with collector_at_rest():
            return cls(chosen, schema or default_schema())

    def decide(
        self,
        request: AccessRequest,
        resource: Resource,
        *,
        decision_id: str,
        now: float,
        policy_epoch: int,
        catalog_index: int,
    ) -> Decision:
        """Answer one request about one resource.

        Args:
            request: what is asked; subject and tenant as the verified token says.
            resource: what the catalogue knows at `catalog_index`, with a pinned version.
            decision_id: `dec_…`.
            now: Unix seconds.
            policy_epoch: of the catalogue state judged by; copied into the Decision.
            catalog_index: newest journal event that the resource reflects; copied.
        """
        try:
            found = self._decide(request, resource, now)
        except Exception as cause:  # noqa: BLE001 - invariant 1: any error denies
            _log.error("a request could not be judged: %s", _where(cause))
            found = _denied("error", "the request could not be judged")
        return found.stamped(
            decision_id,
            policy_epoch=policy_epoch,
            bundle=self.digest,
            catalog_index=catalog_index,
        )

    def explain(self, request: AccessRequest, resource: Resource, now: float) -> Explanation:
        """Every candidate with its condition tree, and the nearest allow.

        For those who may read the rules: owner and auditor of the data, not the requester.
        """
        decision = self.decide(
            request, resource, decision_id="", now=now, policy_epoch=0, catalog_index=0
        )
        try:
            trial, _ = self._trial(request, resource, _reach(request, resource), now)
        except Exception:  # noqa: BLE001 - a request that cannot be judged has no candidates
            facts = RequestFacts(self._schema, request, resource, now)
            trial = Trial(request, facts, {}, now)
        return explain_trial(trial, decision)

    def is_visible(self, subject: Subject, resource: Resource, now: float) -> bool:
        """Whether an allow rule in force names this subject for the resource, for any action.

        What is not visible answers 404 like what does not exist. A rule for everybody (`*`)
        makes its dataset public knowledge.
        """
        return any(rule.kind == "allow" for rule in self._naming(subject, resource, now))

    def meets(self, request: AccessRequest, resource: Resource) -> bool:
        """Whether any rule names the request's principal, scope and action, in force or not."""
        return self._index.meets(resource, request.action, request.subject.principals)

    def outlook(self, subject: Subject, resource: Resource, now: float) -> Outlook:
        """What the subject may be told of the dataset before asking for anything."""
        rules = {rule.id: rule for rule in self._naming(subject, resource, now)}
        return outlook(tuple(rules.values()), resource)

    def _naming(self, subject: Subject, resource: Resource, now: float) -> Iterator[Rule]:
        """Rules in force that name the subject for the resource, some more than once."""
        if _wrong_subject(subject):
            return
        for rule in self._index.naming(resource, frozenset(subject.principals)):
            if rule.expires_at is None or now < rule.expires_at:
                yield rule

    def _decide(self, request: AccessRequest, resource: Resource, now: float) -> Decision:
        known = self._known.find(request, resource, now)
        if known is not None:
            return known
        refused = _wrong_subject(request.subject) or _wrong_request(request, resource)
        if refused:
            return _denied(refused.code, refused.text)
        reach = _reach(request, resource)
        trial, rows = self._trial(request, resource, reach, now)
        question = (trial.counting(), reach[1], reach[0], request.action)
        allowed = bool(rows) and self._loop.allows(question, rows)
        if allowed and trial.hits("allow") and not trial.hits("deny"):
            found = self._allowed(trial, resource, now)
        else:
            found = _refused_by_rules(trial)
        self._known.keep(trial, resource, found, now)
        return found

    def _allowed(self, trial: Trial, resource: Resource, now: float) -> Decision:
        """The rules permit it: what of it, by the Plan algebra."""
        request = trial.request
        hit = trial.hits("allow") + trial.hits("restrict")
        reasons = (Reason(code="rule-allows", text="a rule permits this"),)
        if request.action not in DATA_ACTIONS:
            return Decision(id="", effect=Effect.ALLOW, reasons=reasons, rules=hit)
        if request.split is not None and request.split not in resource.splits:
            return replace(_denied("split-unknown", "no such split"), rules=hit)
        allows = trial.terms("allow")
        cut = make_plan(trial, resource, allows, self._schema, _limits(trial, now))
        if isinstance(cut, Refusal):
            return replace(_denied(cut.code, cut.text), rules=hit)
        withheld = tuple(
            Reason(code="column-withheld", text=f"column `{name}` is withheld")
            for name in cut.withheld
        )
        return Decision(
            id="",
            effect=Effect.ALLOW,
            reasons=reasons + withheld,
            plan=cut.plan,
            rules=hit,
            combinable=all(rule.combinable for rule in allows),
        )

    def _trial(
        self, request: AccessRequest, resource: Resource, reach: Reach, now: float
    ) -> tuple[Trial, list[Row]]:
        """The candidates, and Casbin's rows of those that allow or deny."""
        scopes, principals = reach
        found, rows = self._index.candidates(resource, scopes, request.action, principals)
        return Trial(request, RequestFacts(self._schema, request, resource, now), found, now), rows


def _where(cause: Exception) -> str:
    """Type and place only: messages may quote what was asked."""
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
    return f"{type(cause).__name__} in {place}"


def _reach(request: AccessRequest, resource: Resource) -> Reach:
    return judging_scopes(resource), request.subject.principals


def _wrong_subject(subject: Subject) -> Refusal | None:
    """A tenant speaks for its own principals only, whatever its issuer wrote."""
    try:
        if _is_namable(subject.id, subject.tenant, subject.roles):
            return None
    except TypeError:  # what cannot be hashed is no text
        pass
    return Refusal("subject-invalid", "the subject is not one that rules can name")


@lru_cache(maxsize=4096)
def _is_namable(subject_id: str, tenant: str, roles: tuple[str, ...]) -> bool:
    try:
        parse_name(tenant, what="tenant")
        for role in roles:
            parse_name(role, what="role")
        own, _, user = subject_id.partition("/")
        parse_name(user, what="subject")
    except (InvalidInput, AttributeError):
        return False
    return own == tenant


def _wrong_request(request: AccessRequest, resource: Resource) -> Refusal | None:
    asked, found = request.dataset, resource.dataset
    same = (asked is None) == (found is None) and (
        asked is None or found is None or asked.unversioned == found.unversioned
    )
    owner = found.tenant if found else resource.tenant
    if not same or request.tenant != resource.tenant or owner != resource.tenant:
        return Refusal("error", "the request and the resource are not the same")
    if request.action not in ACTIONS:
        return Refusal("action-unknown", "no such action")
    if request.purpose is not None and request.purpose not in PURPOSES:
        return Refusal("purpose-unknown", "no such purpose")
    return _wrong_data(request, resource) if request.action in DATA_ACTIONS else None


def _wrong_data(request: AccessRequest, resource: Resource) -> Refusal | None:
    if resource.dataset is None or resource.dataset.version is None:
        return Refusal("error", "a data action needs a dataset with a pinned version")
    if request.purpose is None:
        return Refusal("purpose-missing", "a purpose is needed")
    if resource.suspended:
        return Refusal("dataset-suspended", SUSPENDED)
    return None


def _refused_by_rules(trial: Trial) -> Decision:
    denies = trial.hits("deny")
    advice, purpose = advise(trial)
    if denies:
        named = next((rule.id for rule in trial.rules("deny") if rule.explain), None)
        reason = Reason(code="denied-by-rule", text="a rule denies this", rule=named)
    elif purpose:
        reason = Reason(code="purpose-not-permitted", text="this is not permitted for this purpose")
    else:
        reason = Reason(code="no-rule", text="no rule permits this")
    return Decision(
        id="",
        effect=Effect.DENY,
        reasons=(reason,),
        rules=denies,
        advice=advice,
    )


def _denied(code: str, text: str) -> Decision:
    return Decision(id="", effect=Effect.DENY, reasons=(Reason(code=code, text=text),))


def _limits(trial: Trial, now: float) -> Limits:
    """The request's own, and the first moment at which a candidate could change by itself."""
    moments = [int(edge) for r in trial.gates() for edge in r.time_edges if edge > now]
    for rule in (*trial.gates("allow"), *trial.gates("restrict")):
        if rule.valid_seconds is not None:
            moments.append(int(now) + rule.valid_seconds)
        if rule.expires_at is not None and rule.kind == "allow":
            moments.append(rule.expires_at)
    if not moments:
        return trial.request.limits
    return trial.request.limits.least(Limits(expires_at=min(moments)))
