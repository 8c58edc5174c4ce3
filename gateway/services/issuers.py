"""Whom else we believe about who somebody is: the operator's table `issuers.toml`.

One form for every OpenID provider, Kubernetes, GitHub Actions and SPIFFE: an issuer has fixed
algorithms, audience, key set and tenant, and its claims stand for identities that the tenant
has added, and for such attributes of theirs as the table says (claim_map.py). A token gives no
role: those are the identity's, as the catalogue has them now; disabling the identity ends it.
Form: docs/operate/identity-providers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gateway.wire as W
from gateway import config
from gateway.crypto import foreign_tokens, jws
from gateway.crypto.foreign_tokens import Profile
from gateway.domain.access import Scalar
from gateway.domain.dataset import parse_name
from gateway.errors import ConfigError, InvalidInput
from gateway.services.claim_map import ClaimMap
from gateway.services.key_sets import DiscoveredBy, FetchedKeys, FileKeys, Keys, KeySetAt
from gateway.services.outbound import reach_of

FILE = "issuers.toml"
SECONDS_MAX = 7 * 24 * 3600  # no token of longer life is accepted, whatever the table says
_MEMBERS = {"issuer", "audience", "algorithms", "tenant", "identity"}
_KEYS = {"jwks", "jwks_uri", "discovery"}  # one of them
_REACH = {"loopback", "networks", "ca"}  # only where a URL is asked
_OPTIONAL = {"typ", "seconds_max", "attributes", "attests", "login"}
_SCOPE = "openid offline_access"  # `offline_access`: renewal without a person (OIDC Core 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A token whose claims have exactly these texts stands for this identity."""

    identity: str  # `startup/train`
    claims: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What a verified foreign token says."""

    issuer: str
    identity: str  # `startup/train`
    attributes: Mapping[str, Scalar]  # as `Subject.attributes`


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One row of the table."""

    profile: Profile
    keys: Keys
    bindings: tuple[Binding, ...]
    claim_map: ClaimMap
    login: W.LoginProvider | None = None

    async def vouch(self, token: str, now: jws.Clock) -> Vouched:
        """The one identity that the verified token stands for; NotAuthenticated otherwise."""
        keys = await self.keys.for_kid(foreign_tokens.kid_of(token))
        claims = foreign_tokens.verify(token, self.profile, keys, now)
        found = {bound.identity for bound in self.bindings if _holds(bound.claims, claims)}
        if len(found) != 1:
            raise jws.refused("sub", advice="ask the operator to bind your claims to one identity")
        return Vouched(
            issuer=self.profile.issuer,
            identity=found.pop(),
            attributes=self.claim_map.attributes_of(claims),
        )


def _holds(wanted: Mapping[str, str], claims: Mapping[str, Any]) -> bool:
    """Exactly: no pattern, no case folding, no Unicode normalisation, no list."""
    return all(claims.get(name) == value for name, value in wanted.items())


class Issuers:
    """The table. Empty, every foreign token is refused."""

    def __init__(self, rows: Mapping[str, Issuer] | None = None) -> None:
        self._rows = dict(rows or {})

    def logins(self) -> tuple[W.LoginProvider, ...]:
        """Where people can log in."""
        return tuple(row.login for row in self._rows.values() if row.login is not None)

    async def vouch(self, token: str, now: jws.Clock) -> Vouched:
        """Who and what a foreign token stands for.

        Raises:
            NotAuthenticated: the issuer is not in the table, or any check fails.
            Unavailable: its keys cannot be had, so that nothing can be checked.
        """
        row = self._rows.get(foreign_tokens.issuer_of(token))
        if row is None:
            raise jws.refused("iss")
        return await row.vouch(token, now)


def load(settings: config.Settings, now: Callable[[], float]) -> Issuers:
    """Read the table; without the file nobody is believed.

    Raises:
        ConfigError: anything in it is not as documented, or a key set cannot be used.
    """
    path = settings.trusted_issuers or settings.config_dir / FILE
    if settings.trusted_issuers is not None and not path.is_file():
        raise ConfigError(f"there is no table of trusted issuers `{path}`")
    table = config.read_toml(path)
    listed = table.get("issuer", [])
    if set(table) - {"issuer"} or not isinstance(listed, list):
        raise ConfigError(f"`{path}` has other tables than `[[issuer]]`")
    rows: dict[str, Issuer] = {}
    for entry in listed:
        try:
            row = _row(entry, path.parent, now)
        except (KeyError, TypeError, AttributeError, InvalidInput) as cause:
            raise ConfigError(
                f"an issuer in `{path}` is not as documented: {cause}",
                advice="see docs/operate/identity-providers.md",
            ) from cause
        if row.profile.issuer in rows:
            raise ConfigError(f"`{path}` has the issuer `{row.profile.issuer}` twice")
        rows[row.profile.issuer] = row
    return Issuers(rows)


def _row(entry: Mapping[str, Any], base: Path, now: Callable[[], float]) -> Issuer:
    optional = _OPTIONAL | _KEYS | _REACH
    if set(entry) - optional != _MEMBERS:
        wrong = sorted(set(entry) - optional ^ _MEMBERS)
        raise InvalidInput(f"`{wrong[0]}` is missing or not known")
    tenant = parse_name(entry["tenant"], what="tenant")
    return Issuer(
        profile=_profile(entry),
        keys=_keys(entry, base, now),
        bindings=tuple(_binding(tenant, bound) for bound in entry["identity"]),
        claim_map=_claim_map(entry),
        login=_login(entry) if "login" in entry else None,
    )


def _login(entry: Mapping[str, Any]) -> W.LoginProvider:
    said = entry["login"]
    if not isinstance(said, Mapping) or set(said) - {"client_id", "scope", "resource"}:
        raise InvalidInput("`login` has a `client_id`, and perhaps `scope` and `resource`")
    resource = _text(said, "resource") if "resource" in said else None
    if resource is None and said["client_id"] != entry["audience"]:
        raise InvalidInput("the audience of an ID token is the `client_id`: set `audience` to it")
    return W.LoginProvider(
        issuer=_text(entry, "issuer"),
        client_id=_text(said, "client_id"),
        scope=_text(said, "scope") if "scope" in said else _SCOPE,
        resource=resource,
    )


def _claim_map(entry: Mapping[str, Any]) -> ClaimMap:
    attests = entry.get("attests", False)
    if not isinstance(attests, bool):
        raise InvalidInput("`attests` is true or false")
    table = entry.get("attributes", {})
    return ClaimMap.read(_text(entry, "issuer"), table, attests=attests)


def _keys(entry: Mapping[str, Any], base: Path, now: Callable[[], float]) -> Keys:
    given = _KEYS & set(entry)
    if len(given) != 1 or (given == {"jwks"} and _REACH & set(entry)):
        raise InvalidInput(
            "one of `jwks`, `jwks_uri`, `discovery`; `loopback`, `networks`, `ca` not for a file"
        )
    if given == {"jwks"}:
        return FileKeys(base / Path(_text(entry, "jwks")).expanduser(), now)
    reach = reach_of(entry, base)
    if given == {"jwks_uri"}:
        return FetchedKeys(KeySetAt(_text(entry, "jwks_uri"), reach), now)
    if entry["discovery"] is not True:
        raise InvalidInput("`discovery` is true, or left out")
    return FetchedKeys(DiscoveredBy(_text(entry, "issuer"), reach), now)


def _profile(entry: Mapping[str, Any]) -> Profile:
    algorithms = frozenset(entry["algorithms"])
    unknown = sorted(algorithms - set(foreign_tokens.KEY_TYPES))
    if unknown or not algorithms or isinstance(entry["algorithms"], str):
        known = ", ".join(foreign_tokens.KEY_TYPES)
        raise InvalidInput(f"`algorithms` is a list of some of {known}")
    seconds = entry.get("seconds_max", foreign_tokens.SECONDS_DEFAULT)
    if type(seconds) is not int or not 0 < seconds <= SECONDS_MAX:
        raise InvalidInput(f"`seconds_max` is 1 to {SECONDS_MAX}")
    return Profile(
        issuer=_text(entry, "issuer"),
        audience=_text(entry, "audience"),
        algorithms=algorithms,
        typ=_text(entry, "typ") if "typ" in entry else None,
        seconds_max=seconds,
    )


def _binding(tenant: str, entry: Mapping[str, Any]) -> Binding:
    claims = entry["claims"]
    if set(entry) != {"name", "claims"} or not claims:
        raise InvalidInput("an `[[issuer.identity]]` has a `name` and at least one of `claims`")
    texts = {name: _text(claims, name) for name in claims}
    return Binding(identity=f"{tenant}/{parse_name(entry['name'], what='identity')}", claims=texts)


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry[name]
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"`{name}` is text")
    return value
