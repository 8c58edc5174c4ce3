"""The rules in force as they were read, beside their files, so that a start need not read YAML.

One sealed file per tenant (policy/compiled.py), under a key of the vault and bound to the bundle,
the code that read it and the declared attributes. A cache and never an authority: whatever is
wrong with it, the bundle is read from its files and the cache is written anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from gateway.crypto.envelope import bound, seal, unseal
from gateway.crypto.private_files import read_private, replace_private
from gateway.errors import GatewayError, NotFound
from gateway.policy import compiled
from gateway.policy.bundle import PolicyBundle
from gateway.policy.compiled import CompiledRules
from gateway.policy.schema import default_schema
from gateway.services.house import House

BYTES_MAX = 64 << 20  # a bundle has at most a million characters
_KEY = "compiled-rules"
_log = logging.getLogger("gateway.policy")


def load(house: House, tenant: str, digest: str, files: Mapping[str, str]) -> PolicyBundle | None:
    """The bundle in force out of the cache; None: read its files, which are those of `digest`."""
    path = house.places.bundles / f"{tenant}.compiled"
    try:
        sealed = read_private(path, bytes_max=BYTES_MAX)
        data = unseal(house.vault.secret(_KEY), sealed, _place(tenant, digest))
        rules, second_person = compiled.unpack(data, tenant, digest, default_schema())
    except NotFound:  # nothing is kept yet
        return None
    except (GatewayError, OSError) as error:
        _log.warning("compiled rules are read anew: %s", type(error).__name__)
        return None
    return PolicyBundle(
        tenant=tenant,
        files=files,
        rules=rules,
        digest=digest,
        second_person=second_person,
    )


def keep(house: House, bundle: PolicyBundle) -> None:
    """Write the bundle's rules for the next start, in place of its predecessor's.

    Rules whose text in normal form cannot be read again are read from YAML at each start.
    """
    if isinstance(bundle.rules, CompiledRules):
        return
    if not compiled.comes_back(bundle.rules, default_schema()):
        _log.warning("rules of `%s` are read from their files at each start", bundle.tenant)
        return
    data = compiled.pack(
        bundle.tenant, bundle.digest, bundle.rules, second_person=bundle.second_person
    )
    path = house.places.bundles / f"{bundle.tenant}.compiled"
    try:
        sealed = seal(house.vault.secret(_KEY), data, _place(bundle.tenant, bundle.digest))
        replace_private(path, sealed)
    except (GatewayError, OSError):  # the next start reads YAML, and takes longer
        _log.exception("compiled rules cannot be written")


def _place(tenant: str, digest: str) -> bytes:
    code, schema = compiled.code_digest(), compiled.schema_digest(default_schema())
    return bound("compiled-rules", tenant, digest, code, schema)
