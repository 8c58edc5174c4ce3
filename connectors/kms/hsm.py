"""Root keys in a hardware security module by PKCS#11 (extra `[pkcs11]`), named as RFC 7512 says.

`pkcs11:token=gateway;object=PREFIX?module-path=/usr/lib/….so&pin-source=file:/etc/gateway/pin`.
Roots are AES-256 keys made inside the token, sensitive and not extractable, labelled
`<prefix>/<tenant>.<generation>`; what a key is wrapped for is the associated data of AES-GCM:
nonce 12 | ciphertext | tag 16. A destroyed generation leaves a data object of its label, so
that its number is never used again and a key restored from the token's backup is not obeyed.
A PIN in the URI (`pin-value`) is refused: it would stand in settings and logs.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote

from connectors.kms.root_keys import RootKeys
from connectors.kms.secret_source import Variables, no_variables, read_secret
from gateway.crypto.envelope import KEY_BYTES, NONCE_BYTES, TAG_BYTES
from gateway.errors import ConfigError, ConnectorError, IntegrityError, KeyUnavailable

_T = TypeVar("_T")
_APPLICATION = "dataset-gateway"
_PATH = {"token", "serial", "object"}
_QUERY = {"module-path", "pin-source"}
_WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_module_in_use = threading.Lock()  # modules are initialised for one thread at a time
_ADVICE = "write `pkcs11:token=NAME?module-path=/….so&pin-source=file:/path`"


def connect(parts: SplitResult, *, variables: Variables = no_variables, **_: Any) -> Pkcs11Kms:
    """The plug of `pkcs11:`.

    Raises:
        ConfigError: the URI misses a part, has an unknown one, or holds a PIN.
        ConnectorError: python-pkcs11 is not installed.
        KeyUnavailable: the PIN is not where `pin-source` says.
    """
    try:
        import pkcs11
    except ImportError as cause:
        raise ConnectorError(
            "`pkcs11:` needs python-pkcs11", advice="pip install 'dataset-gateway[pkcs11]'"
        ) from cause
    query = dict(parse_qsl(parts.query))
    path = dict(item.partition("=")[::2] for item in parts.path.split(";"))
    if "pin-value" in query:
        raise ConfigError("a PIN does not belong in a setting", advice="use pin-source")
    is_known = set(path) <= _PATH and set(query) == _QUERY and path.keys() & {"token", "serial"}
    if parts.netloc or parts.fragment or not is_known:
        raise ConfigError("this names no token of a PKCS#11 module", advice=_ADVICE)
    token = {name: unquote(value) for name, value in path.items()}
    pin = read_secret(query["pin-source"], variables)
    return Pkcs11Kms(pkcs11, query["module-path"], token, pin)


class Pkcs11Kms(RootKeys):
    """A `gateway.ports.Kms`; one session, used by one thread, opened anew after a failure."""

    service = "the security module"
    seconds_max = 5.0
    threads = 1

    def __init__(self, library: Any, module: str, token: Mapping[str, str], pin: str) -> None:
        """Nothing is opened yet; `library` is the package `pkcs11`."""
        super().__init__()
        self._library = library
        self._module = module
        self._token = token
        self._pin = pin
        self._prefix = token.get("object", _APPLICATION)
        self._session: Any = None
        self._is_pin_wrong = False

    @property
    def custody(self) -> str:
        """Where the root keys are."""
        name = self._token.get("token") or f"serial {self._token['serial']}"
        return f"PKCS#11 token `{name}` of `{self._module}`; not extractable, they never leave it"

    def _known(self, tenant: str) -> Mapping[int, bool]:
        begin = f"{self._prefix}/{tenant}."

        def act(session: Any) -> Mapping[int, bool]:
            keys = {*_numbers(self._keys(session), begin, self._attribute.LABEL)}
            dead = {*_numbers(self._marks(session), begin, self._attribute.LABEL)}
            return {number: number not in dead for number in keys | dead}

        return self._with_session(act)

    def _make(self, tenant: str, generation: int) -> None:
        lib, attribute = self._library, self._attribute

        def act(session: Any) -> None:
            session.generate_key(
                lib.KeyType.AES,
                KEY_BYTES * 8,
                id=_APPLICATION.encode(),
                label=self._label(tenant, generation),
                store=True,
                capabilities=lib.MechanismFlag.ENCRYPT | lib.MechanismFlag.DECRYPT,
                template={
                    attribute.PRIVATE: True,
                    attribute.SENSITIVE: True,
                    attribute.EXTRACTABLE: False,
                },
            )

        self._with_session(act)

    def _wrap(self, root: tuple[str, int], key: bytes, place: bytes) -> bytes:
        def act(session: Any) -> bytes:
            return self._sealed(self._root(session, *root), key, place)

        return self._with_session(act)

    def _unwrap(self, root: tuple[str, int], wrapped: bytes, place: bytes) -> bytes:
        if len(wrapped) != _WRAPPED_BYTES:
            raise IntegrityError("a wrapped key has an impossible length")

        def act(session: Any) -> bytes:
            found = self._root(session, *root)
            try:
                return self._opened(found, wrapped, place)
            except self._library.PKCS11Error:
                # Modules answer a wrong tag with anything, `general error` too: whether it is
                # the bytes or the device, the device itself says by opening something fresh.
                self._opened(found, self._sealed(found, bytes(KEY_BYTES), place), place)
                raise IntegrityError("a wrapped key does not open at this place") from None

        return self._with_session(act)

    def _destroy(self, tenant: str, generation: int) -> None:
        attribute, label = self._attribute, self._label(tenant, generation)

        def act(session: Any) -> None:
            marks = [mark for mark in self._marks(session) if mark[attribute.LABEL] == label]
            found = [key for key in self._keys(session) if key[attribute.LABEL] == label]
            if not marks and not found:
                raise KeyUnavailable(f"tenant `{tenant}` has no root generation {generation}")
            if not marks:
                session.create_object(
                    {
                        attribute.CLASS: self._library.ObjectClass.DATA,
                        attribute.TOKEN: True,
                        attribute.PRIVATE: True,
                        attribute.APPLICATION: _APPLICATION,
                        attribute.LABEL: label,
                        attribute.VALUE: b"destroyed",
                    }
                )
            for key in found:
                key.destroy()

        self._with_session(act)

    # The token

    @property
    def _attribute(self) -> Any:
        return self._library.Attribute

    def _label(self, tenant: str, generation: int) -> str:
        return f"{self._prefix}/{tenant}.{generation}"

    def _with_session(self, act: Callable[[Any], _T]) -> _T:
        """Do it in the one session; one that fails is replaced, then it is tried once more."""
        with _module_in_use:
            try:
                return act(self._session or self._open())
            except self._library.PKCS11Error:
                self._let_go()
            try:
                return act(self._open())
            except self._library.PKCS11Error:
                self._let_go()
                self._library.lib(self._module).reinitialize()  # it looks for tokens only then
                raise

    def _open(self) -> Any:
        if self._is_pin_wrong:
            raise _wrong_pin()
        token = self._library.lib(self._module).get_token(
            token_label=self._token.get("token"),
            token_serial=self._token["serial"].encode() if "serial" in self._token else None,
        )
        try:
            self._session = token.open(user_pin=self._pin, rw=True)
        except self._library.UserAlreadyLoggedIn:  # the login is the process's, not the session's
            self._session = token.open(rw=True)
        except self._library.PinIncorrect:
            self._is_pin_wrong = True  # never tried again: tokens lock after a few wrong ones
            raise _wrong_pin() from None
        return self._session

    def _let_go(self) -> None:
        session, self._session = self._session, None
        with contextlib.suppress(self._library.PKCS11Error):
            if session is not None:
                session.close()

    def _keys(self, session: Any) -> Iterator[Any]:
        wanted = {
            self._attribute.CLASS: self._library.ObjectClass.SECRET_KEY,
            self._attribute.ID: _APPLICATION.encode(),
        }
        return iter(list(session.get_objects(wanted)))

    def _marks(self, session: Any) -> Iterator[Any]:
        wanted = {
            self._attribute.CLASS: self._library.ObjectClass.DATA,
            self._attribute.APPLICATION: _APPLICATION,
        }
        return iter(list(session.get_objects(wanted)))

    def _root(self, session: Any, tenant: str, generation: int) -> Any:
        """The key object; KeyUnavailable without it, or when it could leave the token."""
        attribute, label = self._attribute, self._label(tenant, generation)
        if any(mark[attribute.LABEL] == label for mark in self._marks(session)):
            raise KeyUnavailable(f"root generation {generation} of `{tenant}` was destroyed")
        wanted = {
            attribute.CLASS: self._library.ObjectClass.SECRET_KEY,
            attribute.LABEL: label,
        }
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            raise KeyUnavailable(
                f"the token has {len(found)} keys for root generation {generation} of `{tenant}`"
            )
        if found[0][attribute.EXTRACTABLE]:
            raise KeyUnavailable(f"root generation {generation} of `{tenant}` is extractable")
        return found[0]

    def _sealed(self, root: Any, key: bytes, place: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        lib = self._library
        sealed = root.encrypt(
            key, mechanism=lib.Mechanism.AES_GCM, mechanism_param=lib.GCMParams(nonce, place, 128)
        )
        return bytes(nonce + sealed)

    def _opened(self, root: Any, wrapped: bytes, place: bytes) -> bytes:
        lib, nonce = self._library, wrapped[:NONCE_BYTES]
        return bytes(
            root.decrypt(
                wrapped[NONCE_BYTES:],
                mechanism=lib.Mechanism.AES_GCM,
                mechanism_param=lib.GCMParams(nonce, place, 128),
            )
        )


def _wrong_pin() -> KeyUnavailable:
    return KeyUnavailable(
        "the token does not take the PIN",
        advice="put the right PIN where `pin-source` says and start the gateway again",
    )


def _numbers(objects: Iterator[Any], begin: str, label: Any) -> Iterator[int]:
    for found in objects:
        name = str(found[label])
        if name.startswith(begin) and name.removeprefix(begin).isdecimal():
            yield int(name.removeprefix(begin))
