"""A dataset token and the key it is bound to in one file (0600), for curl and other programs.

Everywhere else tokens are in memory only. The file is worth its token: at most ten minutes, one
Grant, and nothing after `gateway token revoke`. It is no format for others to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.crypto import jws, private_files, strict_json
from gateway.crypto.tokens import DpopKey
from gateway.errors import ConfigError, InvalidInput, NotAuthenticated, NotFound

_FORMAT = "token-file-v0"
_BYTES_MAX = 64 << 10
_SEED_BYTES = 32
_ADVICE = "`gateway token request … --out FILE` writes one"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """What stands in the file."""

    server: str  # base URL
    grant: str
    access_token: str
    key: DpopKey

    def write(self, path: Path) -> None:
        """Write it durably (0600); what else stands there is not overwritten.

        Raises:
            ConfigError: there is a file of another kind.
        """
        if path.exists():
            TokenFile.read(path)
        fields = {
            "format": _FORMAT,
            "server": self.server,
            "grant": self.grant,
            "access_token": self.access_token,
            "dpop_key": jws.b64url(self.key.seed),
        }
        private_files.replace_private(path, strict_json.encode(fields))

    @classmethod
    def read(cls, path: Path) -> TokenFile:
        """Read it.

        Raises:
            InvalidInput: there is none.
            ConfigError: others can reach it, or it holds something else.
        """
        names = ("server", "grant", "access_token", "dpop_key")
        try:
            fields = strict_json.decode(
                private_files.read_private(path, bytes_max=_BYTES_MAX), bytes_max=_BYTES_MAX
            )
            server, grant, token, seed = (str(fields[name]) for name in names)
            key = jws.unb64url(seed)
            known = fields["format"] == _FORMAT and len(key) == _SEED_BYTES
        except NotFound as cause:
            raise InvalidInput(f"there is no `{path}`", advice=_ADVICE) from cause
        except (ValueError, KeyError, TypeError, NotAuthenticated) as cause:
            raise ConfigError(f"`{path}` is no token file", advice=_ADVICE) from cause
        if not known:
            raise ConfigError(f"`{path}` is no token file", advice=_ADVICE)
        return cls(server=server, grant=grant, access_token=token, key=DpopKey(key))
