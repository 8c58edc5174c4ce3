"""Open pages of Parquet Modular Encryption into a caller's buffer; seal and open view frames.

A module is `length 4 (little endian, of what follows) | nonce 12 | ciphertext | tag 16`, with
AES-256-GCM and the associated data of `module_aad` (Parquet Encryption.md §4.4 and §5.1; our
files have no AAD prefix). AES writes before it has checked: after a failure the caller's
buffer is zeroed, and until success it holds unverified bytes of that key. A buffer that someone
maps who may not have all of them must be filled with `copy_into`, which shows nothing before the
tag has held.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto.envelope import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    bound,
    bound_further,
    seal,
    unseal,
)
from gateway.errors import IntegrityError, InvalidInput

LENGTH_BYTES = 4
OVERHEAD_BYTES = LENGTH_BYTES + NONCE_BYTES + TAG_BYTES
FRAME_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


class ModuleType(IntEnum):
    """Kinds of modules, numbered as in Parquet Encryption.md §4.4.2."""

    FOOTER = 0
    COLUMN_META = 1
    DATA_PAGE = 2
    DICTIONARY_PAGE = 3
    DATA_PAGE_HEADER = 4
    DICTIONARY_PAGE_HEADER = 5
    COLUMN_INDEX = 6
    OFFSET_INDEX = 7


_WITH_PAGE = frozenset({ModuleType.DATA_PAGE, ModuleType.DATA_PAGE_HEADER})
_COUNTS = {
    kind: 0 if kind is ModuleType.FOOTER else 3 if kind in _WITH_PAGE else 2 for kind in ModuleType
}
# Of each kind its byte, how many ordinals it has, and how they are written.
_AADS = {
    kind: (bytes((kind,)), count, struct.Struct(f"<{count}h").pack)
    for kind, count in _COUNTS.items()
}


def module_aad(aad_file_unique: bytes, kind: ModuleType, *ordinals: int) -> bytes:
    """The associated data of a module.

    Args:
        aad_file_unique: 8 bytes of the file, from the Manifest.
        kind: of the module.
        ordinals: row group, column, and for data pages and their headers page; none for the
            footer. Each 0 to 32767, written as little-endian int16.
    """
    head, expected, packed = _AADS[kind]
    if len(ordinals) != expected:
        raise InvalidInput(f"a module of kind {kind.name} has {expected} ordinals")
    try:
        return aad_file_unique + head + packed(*ordinals)
    except struct.error as cause:
        raise InvalidInput("an ordinal is 0 to 32767") from cause


class PageOpener:
    """Opens modules of one leaf of one shard. Not for several threads at once."""

    __slots__ = ("_cipher", "_file", "_private")

    def __init__(self, dek: bytes, aad_file_unique: bytes) -> None:
        """Hold the leaf's DEK (32 bytes) and the file's identity from the Manifest."""
        if len(dek) != KEY_BYTES or not aad_file_unique:
            raise InvalidInput("a page opener needs a DEK of 32 bytes and a file identity")
        self._cipher = AESGCM(dek)
        self._file = bytes(aad_file_unique)
        self._private = bytearray()

    def open_into(
        self, module: memoryview, row_group: int, column: int, page: int, out: memoryview
    ) -> int:
        """Decrypt one data page to the start of `out` and return its length in bytes.

        Only for a buffer that nobody else sees yet; `out` may be longer than the page.

        Raises:
            IntegrityError: not this page of this file under this key; `out` holds zeros where
                the page would be.
            InvalidInput: `out` is too small.
        """
        aad = module_aad(self._file, ModuleType.DATA_PAGE, row_group, column, page)
        return self._into(module, aad, out)

    def dictionary_into(
        self, module: memoryview, row_group: int, column: int, out: memoryview
    ) -> int:
        """Like `open_into` for the dictionary page of a column chunk."""
        aad = module_aad(self._file, ModuleType.DICTIONARY_PAGE, row_group, column)
        return self._into(module, aad, out)

    def copy_into(
        self, module: memoryview, row_group: int, column: int, page: int, out: memoryview
    ) -> int:
        """Like `open_into` for a buffer that others map: it changes only after the tag held."""
        size = len(module) - OVERHEAD_BYTES
        if size > len(self._private):
            self._private = bytearray(size)
        view = memoryview(self._private)
        opened = self.open_into(module, row_group, column, page, view)
        if len(out) < opened:
            raise InvalidInput(f"a page of {opened} bytes does not fit into {len(out)}")
        out[:opened] = view[:opened]
        return opened

    def open_module(self, module: memoryview, kind: ModuleType, *ordinals: int) -> bytes:
        """Decrypt any other module of the leaf, such as a page header. IntegrityError."""
        nonce, sealed = _parts(module)
        try:
            return self._cipher.decrypt(nonce, sealed, module_aad(self._file, kind, *ordinals))
        except InvalidTag as cause:
            raise IntegrityError("a module is not the one that was recorded") from cause

    def _into(self, module: memoryview, aad: bytes, out: memoryview) -> int:
        nonce, sealed = _parts(module)
        size = len(sealed) - TAG_BYTES
        if len(out) < size:
            raise InvalidInput(f"a page of {size} bytes does not fit into {len(out)}")
        target = out[:size]
        try:
            return self._cipher.decrypt_into(nonce, sealed, aad, target)
        except InvalidTag as cause:
            target[:] = bytes(size)
            raise IntegrityError("a page is not the one that was recorded") from cause


def _parts(module: memoryview) -> tuple[memoryview, memoryview]:
    if len(module) < OVERHEAD_BYTES:
        raise IntegrityError("a module is too short")
    if int.from_bytes(module[:LENGTH_BYTES], "little") != len(module) - LENGTH_BYTES:
        raise IntegrityError("a module has another length than it says")
    start = LENGTH_BYTES + NONCE_BYTES
    return module[LENGTH_BYTES:start], module[start:]


def seal_frame(
    key: bytes,
    plaintext: bytes,
    *,
    view: str,
    plan_digest: str,
    number: int,
    count: int | None,
) -> bytes:
    """Seal frame `number` (from 0) of a view file under its own random key.

    Args:
        key: 32 bytes, of this view file alone.
        plaintext: one encapsulated Arrow IPC message.
        view: id of the view file.
        plan_digest: of the Plan it was made for.
        number: of the frame.
        count: how many frames the file has, known when the last one is sealed. For every
            earlier frame None will do (it is not looked at); the last one must have it.
    """
    return seal(key, plaintext, _frame_place(view, plan_digest, number, count))


def open_frame(
    key: bytes,
    frame: bytes,
    *,
    view: str,
    plan_digest: str,
    number: int,
    count: int,
) -> bytes:
    """Open frame `number` of the `count` of a view file.

    Raises:
        IntegrityError: another file, plan, number or key; a last frame that was not sealed as
            the last of `count`, or an earlier one that was.
    """
    return unseal(key, frame, _frame_place(view, plan_digest, number, count))


class FrameOpener:
    """Opens frames of one view file into a caller's buffer. Not for several threads at once."""

    __slots__ = ("_cipher", "_count", "_place")

    def __init__(self, key: bytes, *, view: str, plan_digest: str, count: int) -> None:
        """Hold the view's key (32 bytes) and what its frames are bound to."""
        if len(key) != KEY_BYTES:
            raise InvalidInput("a frame opener needs a key of 32 bytes")
        self._cipher = AESGCM(key)
        self._place, self._count = bound("view-frame", view, plan_digest), count

    def open_into(self, frame: memoryview, number: int, out: memoryview) -> int:
        """Decrypt one frame to the start of `out`; return its length in bytes.

        `out` may be longer than the frame, and be seen by whoever may have the view: its file
        and its key hold nothing else.

        Raises:
            IntegrityError: not this frame of this file under this key; `out` holds zeros where
                the message would be.
            InvalidInput: `out` is too small.
        """
        size = len(frame) - FRAME_OVERHEAD_BYTES
        if size < 0:
            raise IntegrityError("a frame is too short")
        if len(out) < size:
            raise InvalidInput(f"a frame of {size} bytes does not fit into {len(out)}")
        aad = bound_further(self._place, *_number(number, self._count))
        target = out[:size]
        nonce, sealed = frame[:NONCE_BYTES], frame[NONCE_BYTES:]
        try:
            return self._cipher.decrypt_into(nonce, sealed, aad, target)
        except InvalidTag as cause:
            target[:] = bytes(size)
            raise IntegrityError("a frame is not the one that was recorded") from cause


def _frame_place(view: str, plan_digest: str, number: int, count: int | None) -> bytes:
    return bound("view-frame", view, plan_digest, *_number(number, count))


def _number(number: int, count: int | None) -> tuple[int, bytes]:
    if number < 0 or (count is not None and number >= count):
        raise InvalidInput(f"there is no frame {number} of {count}")
    last = count is not None and number == count - 1
    return number, b"last" if last else b"more"
