"""One rule: the value, and how it is read from YAML with every field checked.

Fields and their meaning: docs/formats/policy-v1.md §1. What a tenant may write about is
checked here too: a bundle speaks about its own tenant's data; only `platform` speaks about
others, and even `platform` can never allow a data action on somebody else's data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gateway.domain.access import ACTIONS, DATA_ACTIONS, Limits, Scalar
from gateway.domain.dataset import UNCLASSIFIED_TAG, DatasetRef, parse_name, parse_tag
from gateway.domain.masks import parse_mask
from gateway.domain.obligations import parse_period, regions
from gateway.domain.purpose import parse_purpose
from gateway.domain.rowfilter import Filter, binds_of
from gateway.errors import InvalidInput
from gateway.policy.conditions import Compare, Node, parse_condition
from gateway.policy.documents import Fields, Place, parsed, plain_value, whole_number, word
from gateway.policy.documents import Node as Yaml
from gateway.policy.documents import Scalar as Text
from gateway.policy.filters import parse_where
from gateway.policy.schema import PERIOD, PURPOSE, Schema

PLATFORM = "platform"
KINDS = ("allow", "deny", "restrict")
# All that the platform may allow on what belongs to another tenant.
FOREIGN_ALLOW = ("operate", "revoke")
ACCEPTABLE = ("recipient", "requester")
_ID = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*){1,7}\Z")
_DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])\Z")
_BYTES = re.compile(r"([1-9][0-9]{0,14}) ?(|B|KiB|MiB|GiB|TiB)\Z")
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_ID_CHARS_MAX = 128
GROUP_MAX = 1_000_000_000
_TIME = "context.time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One checked rule of one tenant's bundle."""

    id: str  # `clinic.rand-hie.research`, unique in the world
    tenant: str  # who wrote it
    kind: str  # allow | deny | restrict
    place: Place
    principals: tuple[str, ...]
    scope: str  # as written
    key: str  # of the index: tag scopes carry the tenant they are bound to
    actions: tuple[str, ...]  # `*` for all, never in an allow
    purposes: tuple[str, ...] = ()  # () = any, or none at all
    splits: tuple[str, ...] = ()
    when: Node | None = None
    expires_at: int | None = None  # Unix seconds; from then on it does not hold
    explain: bool = False  # the requester may read what would have to change
    columns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    masks: tuple[tuple[str, str], ...] = ()  # (column name, mask)
    tag_masks: tuple[tuple[str, str], ...] = ()  # (tag, mask)
    where: Filter | None = None
    limits: Limits = field(default_factory=Limits)
    valid_seconds: int | None = None
    obligations: tuple[tuple[str, Scalar], ...] = ()
    combinable: bool = False  # may be put beside what other rules released (an allow's alone)
    owner: str = ""
    ticket: str = ""
    description: str = ""
    accepts: tuple[str, ...] = ()  # authorities besides gateway, owner and attestation
    time_edges: tuple[float, ...] = ()  # Unix seconds at which `when` may change by itself


def moves(rule: Rule) -> bool:
    """Whether what it says depends on the second at which it is asked, beyond its expiry."""
    reads_time = (rule.when is not None and _TIME in rule.when.reads()) or (
        rule.where is not None and _TIME in binds_of(rule.where)
    )
    return reads_time or rule.valid_seconds is not None


def read_rule(node: Yaml, tenant: str, schema: Schema, known: dict[str, Node]) -> Rule:
    """Read one rule; raises PolicyError with the place of what is wrong.

    `known` keeps conditions by their text, so that rules with the same one share it.
    """
    own = Fields(node, "a rule")
    kind = word(own.required("kind"), KINDS)
    scope = own.required("scope")
    when = own.scalar("when")
    condition = _condition(when, schema, known) if when else None
    filter_text = own.scalar("where")
    limits, valid = _limits(own)
    rule = Rule(
        id=_rule_id(own.required("id"), tenant),
        tenant=tenant,
        kind=kind,
        place=own.place,
        principals=_principals(own, kind),
        scope=scope.text,
        key=_scope_key(scope, tenant),
        actions=_actions(own, kind),
        purposes=tuple(parsed(item, parse_purpose) for item in own.scalars("purpose")),
        splits=tuple(
            parsed(s, lambda t: parse_name(t, what="split")) for s in own.scalars("splits")
        ),
        when=condition,
        expires_at=_expiry(own.scalar("expires")),
        explain=own.one_of("explain", ("owner", "requester"), "owner") == "requester",
        columns=tuple(item.text for item in own.scalars("columns")),
        tags=tuple(_released_tag(item) for item in own.scalars("tags")),
        masks=_masks(own, "masks"),
        tag_masks=_masks(own, "tag_masks"),
        where=parse_where(filter_text, schema) if filter_text else None,
        limits=limits,
        valid_seconds=valid,
        obligations=_obligations(own, schema),
        combinable=own.one_of("combinable", ("true", "false"), "false") == "true",
        owner=own.text("owner"),
        ticket=own.text("ticket"),
        description=own.text("description"),
        accepts=tuple(word(scalar, ACCEPTABLE) for scalar in own.scalars("accepts")),
        time_edges=_time_edges(condition),
    )
    _check_accepted(rule, schema)
    own.finish()
    _check_kind(rule)
    _check_reach(rule, scope.place)
    return rule


def _condition(scalar: Text, schema: Schema, known: dict[str, Node]) -> Node:
    found = known.get(scalar.text)
    if found is None:
        found = known[scalar.text] = parse_condition(scalar, schema)
    return found


def _rule_id(scalar: Text, tenant: str) -> str:
    text = scalar.text
    if not _ID.match(text) or len(text) > _ID_CHARS_MAX or not text.startswith(f"{tenant}."):
        raise scalar.place.refuse(
            f"`{text[:80]}` cannot name a rule of `{tenant}`",
            f"start with `{tenant}.` and use dotted lower-case words",
        )
    return text


def _principals(own: Fields, kind: str) -> tuple[str, ...]:
    found = own.needed("principals")
    public = own.one_of("public", ("true", "false"), "false") == "true"
    for scalar in found:
        if scalar.text == "*":
            if kind == "allow" and not public:
                raise scalar.place.refuse(
                    "an allow rule for everybody", "name the principals, or write `public: true`"
                )
        elif not _is_principal(scalar.text):
            raise scalar.place.refuse(
                f"`{scalar.text[:80]}` is not a principal",
                "write `tenant/user:NAME`, `tenant/role:NAME` or `tenant/*`",
            )
    return tuple(scalar.text for scalar in found)


def _is_principal(text: str) -> bool:
    tenant, slash, rest = text.partition("/")
    kind, colon, name = rest.partition(":")
    try:
        parse_name(tenant, what="tenant")
        if rest == "*":
            return True
        parse_name(name, what=kind)
    except InvalidInput:
        return False
    return bool(slash and colon) and kind in ("user", "role")


def _scope_key(scalar: Text, tenant: str) -> str:
    """The index key; a tag is bound to the author's tenant, or to all for the platform."""
    kind, colon, name = scalar.text.partition(":")
    if scalar.text == "global":
        return "global"
    if not colon or kind not in ("dataset", "tenant", "tag"):
        raise scalar.place.refuse(
            f"`{scalar.text[:80]}` is not a scope",
            "write `dataset:tenant/name`, `tag:…`, `tenant:…` or `global`",
        )
    try:
        if kind == "tag":
            return f"tag:{'*' if tenant == PLATFORM else tenant}/{parse_tag(name)}"
        if kind == "tenant":
            return f"tenant:{parse_name(name, what='tenant')}"
        ref = DatasetRef.parse(name)
    except InvalidInput as cause:
        raise scalar.place.refuse(cause.message, cause.advice) from cause
    if ref.version is not None:
        raise scalar.place.refuse("a scope names a dataset, not a version", "remove `@…`")
    return f"dataset:{ref}"


def _actions(own: Fields, kind: str) -> tuple[str, ...]:
    allowed = ACTIONS if kind == "allow" else (*ACTIONS, "*")
    return tuple(word(scalar, allowed) for scalar in own.needed("actions"))


def _released_tag(scalar: Text) -> str:
    tag = parsed(scalar, parse_tag)
    if tag == UNCLASSIFIED_TAG:
        raise scalar.place.refuse(
            f"`{tag}` is what nobody has classified yet", "name the columns, or classify them"
        )
    return tag


def _masks(own: Fields, name: str) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for key, place, node in own.pairs(name):
        if not isinstance(node, Text):
            raise node.place.refuse("a mask is a name")
        parsed(node, parse_mask)
        if name == "tag_masks":
            try:
                parse_tag(key)
            except InvalidInput as cause:
                raise place.refuse(cause.message, cause.advice) from cause
        found.append((key, node.text))
    return tuple(found)


def _limits(own: Fields) -> tuple[Limits, int | None]:
    node = own.node("limits")
    if node is None:
        return Limits(), None
    fields = Fields(node, "`limits`")
    counts: dict[str, int | None] = {}
    for name in ("max_rows", "max_epochs"):
        scalar = fields.scalar(name)
        counts[name] = None if scalar is None else whole_number(scalar)
        if scalar is not None and whole_number(scalar) < 1:
            raise scalar.place.refuse(f"`{name}` is at least 1", "deny instead")
    scalar = fields.scalar("max_bytes")
    valid = fields.scalar("valid")
    limits = Limits(
        max_rows=counts["max_rows"],
        max_epochs=counts["max_epochs"],
        max_bytes=None if scalar is None else _byte_count(scalar),
    )
    fields.finish()
    return limits, None if valid is None else _duration(valid)


def _byte_count(scalar: Text) -> int:
    found = _BYTES.match(scalar.text.replace("_", ""))
    if not found:
        raise scalar.place.refuse(f"`{scalar.text[:80]}` is no size", "write `200GiB`")
    return int(found.group(1)) * _UNITS[found.group(2)]


def _duration(scalar: Text) -> int:
    found = _DURATION.match(scalar.text)
    if not found:
        raise scalar.place.refuse(
            f"`{scalar.text[:80]}` is no duration", "write `14d`, `8h`, `30m`"
        )
    return int(found.group(1)) * _SECONDS[found.group(2)]


def _expiry(scalar: Text | None) -> int | None:
    """A day lasts to its end in UTC; a time needs a zone."""
    if scalar is None:
        return None
    text = scalar.text
    try:
        found = datetime.fromisoformat(text)
        if len(text) == len("2026-01-01"):
            return int((found.replace(tzinfo=UTC) + timedelta(days=1)).timestamp())
        if found.tzinfo is not None:
            return int(found.timestamp())
    except (ValueError, OverflowError) as cause:
        raise scalar.place.refuse(f"`{text[:80]}` is no date", "write `2027-03-31`") from cause
    raise scalar.place.refuse("a time has a zone", "write `2027-03-31T12:00:00Z` or a day")


def _obligations(own: Fields, schema: Schema) -> tuple[tuple[str, Scalar], ...]:
    types = {"string": str, "int": int, "bool": bool, PERIOD: str}
    found: list[tuple[str, Scalar]] = []
    for name, place, node in own.pairs("obligations"):
        declared = schema.obligations.get(name)
        if declared is None:
            raise place.refuse(
                f"`{name[:80]}` is no known obligation",
                f"known: {', '.join(sorted(schema.obligations))}",
            )
        value = plain_value(node)
        if type(value) is not types[declared.type]:
            raise node.place.refuse(f"`{name}` is of type {declared.type}")
        if declared.type == PERIOD and isinstance(node, Text):
            parsed(node, parse_period)
        _check_enforced(name, value, node)
        found.append((name, value))
    return tuple(sorted(found))


def _check_enforced(name: str, value: Scalar, node: Yaml) -> None:
    if name == "min_group_size" and not 1 <= int(value) <= GROUP_MAX:
        raise node.place.refuse(f"`{name}` is a number from 1 to {GROUP_MAX}")
    if name == "region_lock" and not regions(str(value)):
        raise node.place.refuse(f"`{name}` names no region", "write `eu` or `eu, ch`")


def _time_edges(node: Node | None) -> tuple[float, ...]:
    if node is None:
        return ()
    if isinstance(node, Compare) and node.name == _TIME and node.literal is not None:
        return (node.literal.timestamp(),)
    return tuple(sorted({edge for part in node.parts() for edge in _time_edges(part)}))


def _check_accepted(rule: Rule, schema: Schema) -> None:
    """What others vouch for is read only by a rule that says it accepts that."""
    reads = set(rule.when.reads()) if rule.when else set()
    reads |= set(binds_of(rule.where)) if rule.where else set()
    for name in sorted(reads - {PURPOSE}):
        authority = schema.attributes[name].authority
        if authority in ACCEPTABLE and authority not in rule.accepts:
            raise rule.place.refuse(
                f"`{name}` is said by the {authority} alone", f"write `accepts: [{authority}]`"
            )


def _check_kind(rule: Rule) -> None:
    refuse = rule.place.refuse
    shapes = bool(rule.masks or rule.tag_masks or rule.where or rule.obligations)
    bounds = rule.limits != Limits() or rule.valid_seconds is not None
    releases = bool(rule.columns or rule.tags)
    data = any(action in DATA_ACTIONS or action == "*" for action in rule.actions)
    if rule.kind == "deny" and (shapes or bounds or releases):
        raise refuse("a deny rule only denies", "use `kind: restrict` for masks, rows and limits")
    if rule.kind == "restrict" and releases:
        raise refuse("a restrict rule releases nothing", "use `masks: {COLUMN: x-drop}` to remove")
    if rule.kind == "restrict" and not (data and (shapes or bounds)):
        raise refuse("this restrict rule restricts nothing", "add masks, where, limits, …")
    if rule.combinable and not (rule.kind == "allow" and data):
        raise refuse("only an allow rule for data can be combinable", "remove `combinable`")
    if rule.kind == "allow" and data and not releases:
        raise refuse("no column is released", "add `columns: [...]` or `tags: [...]`")
    if rule.kind == "allow" and not data and (shapes or bounds or releases):
        raise refuse(
            "columns, masks, rows and limits belong to data actions",
            f"add one of {', '.join(DATA_ACTIONS)} to `actions`, or remove them",
        )


def _check_reach(rule: Rule, place: Place) -> None:
    owned = (
        rule.key.startswith((f"dataset:{rule.tenant}/", f"tag:{rule.tenant}/"))
        or rule.key == f"tenant:{rule.tenant}"
    )
    if owned:
        return
    if rule.tenant != PLATFORM:
        raise place.refuse(
            f"`{rule.scope[:80]}` is not of tenant `{rule.tenant}`",
            f"write about `dataset:{rule.tenant}/…`, `tenant:{rule.tenant}` or `tag:…`",
        )
    if rule.kind == "allow" and any(action not in FOREIGN_ALLOW for action in rule.actions):
        raise place.refuse(
            "only the owner of data can allow its use",
            f"the platform may allow {', '.join(FOREIGN_ALLOW)} on what others own",
        )
