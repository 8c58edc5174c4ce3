"""Whom else we believe about who somebody is: the operator's table `issuers.toml`.

One form for every OpenID provider, Kubernetes, GitHub Actions and SPIFFE: an issuer has fixed
algorithms, audience, key set and tenant, and its claims stand for identities that the tenant
has added. A token gives no role and no attribute: those are the identity's, as the catalogue
has them now; disabling the identity ends it. Form: docs/operate/identity-providers.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import config
from gateway.crypto import foreign_tokens, jws
from gateway.crypto.foreign_tokens import Profile, PublicKey
from gateway.domain.dataset import parse_name
from gateway.errors import ConfigError, InvalidInput

FILE = "issuers.toml"
KEPT_SECONDS = 24 * 3600  # how long the last good keys serve while their file cannot be read
SECONDS_MAX = 7 * 24 * 3600  # no token of longer life is accepted, whatever the table says
_MEMBERS = {"issuer", "audience", "algorithms", "jwks", "tenant", "identity"}
_OPTIONAL = {"typ", "seconds_max"}
_log = logging.getLogger("gateway.issuers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A token whose claims have exactly these texts stands for this identity."""

    identity: str  # `startup/train`
    claims: Mapping[str, str]


class Keys:
    """A key set in a file, read anew when the file changes; the last good one is kept a day."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        """Read it; ConfigError when it cannot be used."""
        self._path, self._now = path, now
        try:
            self._mark = self._stamp()
            self._keys = foreign_tokens.read_key_set(_read(path))
        except (OSError, InvalidInput) as cause:
            raise ConfigError(f"the key set `{path}` cannot be used: {cause}") from cause
        self._good_at = now()

    def current(self) -> Mapping[str, PublicKey]:
        """The keys as the file has them now; NotAuthenticated when it was broken too long."""
        try:
            mark = self._stamp()
            if mark != self._mark:
                self._keys, self._mark = foreign_tokens.read_key_set(_read(self._path)), mark
            self._good_at = self._now()
        except (OSError, InvalidInput) as cause:
            _log.warning("the key set cannot be read, the last good one serves: %s", cause)
            if self._now() - self._good_at > KEPT_SECONDS:
                raise jws.refused("kid") from cause
        return self._keys

    def _stamp(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(foreign_tokens.KEY_SET_BYTES_MAX + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One row of the table."""

    profile: Profile
    keys: Keys
    bindings: tuple[Binding, ...]

    def identity_of(self, token: str, now: jws.Clock) -> str:
        """The one identity that the verified token stands for; NotAuthenticated otherwise."""
        claims = foreign_tokens.verify(token, self.profile, self.keys.current(), now)
        found = {bound.identity for bound in self.bindings if _holds(bound.claims, claims)}
        if len(found) != 1:
            raise jws.refused("sub", advice="ask the operator to bind your claims to one identity")
        return found.pop()


def _holds(wanted: Mapping[str, str], claims: Mapping[str, Any]) -> bool:
    """Exactly: no pattern, no case folding, no Unicode normalisation, no list."""
    return all(claims.get(name) == value for name, value in wanted.items())


class Issuers:
    """The table. Empty, every foreign token is refused."""

    def __init__(self, rows: Mapping[str, Issuer] | None = None) -> None:
        self._rows = dict(rows or {})

    def identity_of(self, token: str, now: jws.Clock) -> str:
        """The identity that a foreign token stands for.

        Raises:
            NotAuthenticated: the issuer is not in the table, or any check fails.
        """
        row = self._rows.get(foreign_tokens.issuer_of(token))
        if row is None:
            raise jws.refused("iss")
        return row.identity_of(token, now)


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
    if set(entry) - _OPTIONAL != _MEMBERS:
        wrong = sorted(set(entry) - _OPTIONAL ^ _MEMBERS)
        raise InvalidInput(f"`{wrong[0]}` is missing or not known")
    tenant = parse_name(entry["tenant"], what="tenant")
    return Issuer(
        profile=_profile(entry),
        keys=Keys(base / Path(_text(entry, "jwks")).expanduser(), now),
        bindings=tuple(_binding(tenant, bound) for bound in entry["identity"]),
    )


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
