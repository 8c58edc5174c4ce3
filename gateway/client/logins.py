"""What `gateway login` keeps between commands: the provider's tokens, one file per gateway.

0600 under the state directory, so that a person logs in once and not for every command. The
gateway's own tokens never get there: they stay in memory, bound to a key that dies with the
process. Whoever reads the file can be that person until `gateway logout`, or the provider,
ends it; the same is true of a key file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.client.jwt_claims import claims_of
from gateway.client.provider import Provider
from gateway.crypto.private_files import make_private_dir, read_private, replace_private
from gateway.errors import ConfigError, GatewayError, NotAuthenticated, NotFound, Unavailable

FORMAT = "gateway-login/v0"
RENEW_SECONDS_BEFORE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRecord:
    """The file."""

    server: str
    issuer: str
    client_id: str
    scope: str
    resource: str | None  # its access token is shown; without it the ID token
    token: str = field(repr=False)  # that is shown to the gateway
    expires_at: float  # of it, Unix seconds
    refresh_token: str | None = field(repr=False)
    format: str = FORMAT

    @classmethod
    def read(cls, path: Path) -> LoginRecord:
        """NotFound when there is none, ConfigError when it is not ours or others can read it."""
        try:
            found = cls(**json.loads(read_private(path)))
        except (ValueError, TypeError) as cause:
            raise ConfigError(f"`{path}` is no login", advice="log in: `gateway login`") from cause
        if found.format != FORMAT:
            raise ConfigError(f"`{path}` is of another version", advice="log in: `gateway login`")
        return found

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        make_private_dir(path.parent)
        replace_private(path, json.dumps(dataclasses.asdict(self)).encode())

    def with_tokens(self, reply: Mapping[str, Any], now: float) -> LoginRecord:
        """With what the token endpoint gave; NotAuthenticated when it is not what was asked for."""
        token, refresh = shown_of(reply, self.resource), reply.get("refresh_token")
        return dataclasses.replace(
            self,
            token=token,
            expires_at=_end_of(token, reply, now),
            refresh_token=refresh if isinstance(refresh, str) else self.refresh_token,
        )


def shown_of(reply: Mapping[str, Any], resource: str | None) -> str:
    """The one of the provider's tokens that the gateway is shown."""
    name = "access_token" if resource else "id_token"
    token = reply.get(name)
    if not isinstance(token, str):
        raise NotAuthenticated(
            f"the provider gave no `{name}`", advice="see `login` in docs/operate"
        )
    claims_of(token)  # a JWT: anything else the gateway could not verify
    return token


def _end_of(token: str, reply: Mapping[str, Any], now: float) -> float:
    ends = claims_of(token).get("exp")
    if isinstance(ends, int | float):
        return float(ends)
    seconds = reply.get("expires_in")
    return now + (float(seconds) if isinstance(seconds, int | float) else 0.0)


class KeptLogin:
    """The login as a credential: renewed silently, by one process at a time."""

    def __init__(
        self, path: Path, authority: Path | None, now: Callable[[], float] = time.time
    ) -> None:
        self._path, self._authority, self._now = path, authority, now

    @property
    def origin(self) -> str:
        """The file."""
        return str(self._path)

    def current(self) -> str:
        """The provider's token, renewed before it ends.

        Raises:
            NotAuthenticated: the login has ended; the person must log in again.
            Unavailable: it must be renewed and the provider does not answer.
        """
        record = LoginRecord.read(self._path)
        if not self._is_due(record):
            return record.token
        with _alone(self._path):
            record = LoginRecord.read(self._path)  # another process may have renewed it
            return self._renewed(record).token if self._is_due(record) else record.token

    def _is_due(self, record: LoginRecord) -> bool:
        return record.expires_at - RENEW_SECONDS_BEFORE <= self._now()

    def _renewed(self, record: LoginRecord) -> LoginRecord:
        try:
            renewed = self._ask(record)
        except (Unavailable, NotAuthenticated):
            if record.expires_at > self._now():
                return record  # good for a moment yet
            raise
        renewed.write(self._path)
        return renewed

    def _ask(self, record: LoginRecord) -> LoginRecord:
        if record.refresh_token is None:
            raise NotAuthenticated("the login has ended", advice="log in: `gateway login`")
        form = {
            "grant_type": "refresh_token",
            "refresh_token": record.refresh_token,
            "client_id": record.client_id,
            **({"resource": record.resource} if record.resource else {}),
        }
        reply = Provider.discover(record.issuer, self._authority).tokens(form)
        renewed = record.with_tokens(reply, self._now())
        if claims_of(renewed.token).get("sub") != claims_of(record.token).get("sub"):
            raise NotAuthenticated("the provider renewed the login of somebody else")
        return renewed


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process renews: a refresh token that is used twice ends the login (RFC 9700 §4.14)."""
    with path.with_suffix(".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget(path: Path, authority: Path | None) -> tuple[bool, bool]:
    """Remove a login, after telling its provider; whether there was one, and whether it heard."""
    try:
        record = LoginRecord.read(path)
    except NotFound:
        return False, False
    except ConfigError:
        path.unlink(missing_ok=True)
        return True, False
    told = False
    with contextlib.suppress(GatewayError):
        if record.refresh_token is not None:
            provider = Provider.discover(record.issuer, authority)
            told = provider.revoke(record.refresh_token, record.client_id)
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)
    return True, told
