"""Parquet files that others encrypted (Parquet Modular Encryption), read with their keys.

    parquet-encrypted:///path/of/file?keys=/path/of/keys.json

pyarrow reads column keys only through a key service whose wrapped keys stand in the file, no
AAD prefix beside them, and ends the process when it meets a column without its key. So this
plug opens the footer itself, checks every key against every column chunk, and hands pyarrow
the same file under a footer that names our keys and holds the prefix: what pyarrow opens, it
can read. Pages stay as they are and pyarrow checks each. Nothing is written to disk.

AES_GCM_CTR_V1 is refused: its pages carry no tag, and a flipped bit is another value.
"""

from __future__ import annotations

import hmac
import io
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, parse_qs, unquote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.sources.decryption_keys import Keys, read_keys
from gateway.crypto.envelope import NONCE_BYTES, TAG_BYTES
from gateway.crypto.pages import LENGTH_BYTES, ModuleType, module_aad
from gateway.domain import compact
from gateway.errors import IntegrityError, InvalidInput
from gateway.ports import SourceFile

_SEALED, _CLEAR = b"PARE", b"PAR1"  # encrypted footer; footer in clear, perhaps signed
_TAIL_BYTES = 8
_SIGNATURE_BYTES = NONCE_BYTES + TAG_BYTES
_FOOTER_BYTES_MAX = 256 << 20
_BATCH_ROWS = 1 << 14
_FOOTER, _COLUMN = "footer", "column:"  # names of keys
# Fields of parquet.thrift
_GROUPS, _ALGORITHM, _SIGNING_KEY = 4, 8, 9  # of FileMetaData
_COLUMNS = 1  # of RowGroup
_CRYPTO, _SEALED_META = 8, 9  # of ColumnChunk
_WITH_COLUMN_KEY, _PATH, _COLUMN_KEY = 2, 1, 2  # of ColumnCryptoMetaData and in it
_GCM, _PREFIX, _UNIQUE, _SUPPLY = 1, 1, 2, 3  # of EncryptionAlgorithm and in it


def connect(parts: SplitResult, *, query: str | None = None) -> EncryptedParquet:
    """The plug of `parquet-encrypted://`."""
    if query is not None:
        raise InvalidInput("a file answers no query", advice="leave --query out")
    keys = parse_qs(parts.query, keep_blank_values=True).get("keys", [])
    if parts.netloc or len(keys) != 1:
        raise InvalidInput(
            "which file, and which keys?", advice="add `--decrypt-with KEYS.json` to a path"
        )
    return EncryptedParquet(Path(unquote(parts.path)), read_keys(Path(keys[0])))


class EncryptedParquet:
    """A `gateway.ports.Source` of one file."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self._path, self._keys = path, keys

    def files(self) -> Sequence[SourceFile]:
        """The file, decrypted as it is read. Its footer and every key are checked already."""
        with self._told(), self._path.open("rb") as file:
            _reopened(file, self._keys)
        return [SourceFile(name=self._path.name, open=self._opened)]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with ExitStack() as stack:
            with self._told():
                file = stack.enter_context(self._path.open("rb"))
                edited = _Edited(file, *_reopened(file, self._keys))
                reader = stack.enter_context(_reader(edited, self._keys, self._path))
            yield reader

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            text = cause.strerror or " ".join(str(cause).split())[:200]
            raise InvalidInput(f"`{self._path}` cannot be read: {text}") from cause
        except InvalidInput as cause:
            raise InvalidInput(f"`{self._path}`: {cause.message}", advice=cause.advice) from cause


@contextmanager
def _reader(file: io.RawIOBase, keys: Keys, path: Path) -> Iterator[Any]:
    """The rows as one Arrow stream. Every key has been checked, so that pyarrow misses none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    properties, client = _properties(keys)
    source = pa.PythonFile(file, mode="r")
    with pq.ParquetFile(
        source, decryption_properties=properties, pre_buffer=False, buffer_size=1 << 20
    ) as parquet:
        # One thread: the key client is Python, and pyarrow's own threads may outlive it.
        batches = _told(parquet.iter_batches(_BATCH_ROWS, use_threads=False), path)
        yield pa.RecordBatchReader.from_batches(parquet.schema_arrow, batches)
    client.keys = {}  # pyarrow never frees the client


def _told(batches: Iterator[Any], path: Path) -> Iterator[Any]:
    """The batches; a page that was changed is the file's fault."""
    import pyarrow as pa

    try:
        yield from batches
    except (pa.ArrowException, OSError) as cause:
        line = " ".join(str(cause).split())[:200]
        raise InvalidInput(
            f"`{path}` has a page that does not open: {line}",
            advice="the file was changed or is damaged; fetch it again from who wrote it",
        ) from cause


# What pyarrow gets


def _properties(keys: Keys) -> tuple[Any, Any]:
    import pyarrow.parquet.encryption as pe

    class Given(pe.KmsClient):  # type: ignore[misc]
        """Gives the keys by the names that the new footer has."""

        keys: dict[str, bytes]

        def wrap_key(self, *_: object) -> str:
            raise IntegrityError("nothing is written here")

        def unwrap_key(self, wrapped_key: str, _: str) -> bytes:
            return self.keys[wrapped_key]

    client = Given()
    client.keys = {_FOOTER: keys.footer}
    client.keys |= {_COLUMN + path: key for path, key in keys.columns.items()}
    # Keys are cached by token: one token for two files would share keys between them.
    connection = pe.KmsConnectionConfig(
        kms_instance_id="keys", kms_instance_url="keys", key_access_token=secrets.token_hex(16)
    )
    factory = pe.CryptoFactory(lambda _: client)
    return factory.file_decryption_properties(connection, pe.DecryptionConfiguration()), client


def _named(name: str) -> tuple[int, bytes]:
    """Key metadata by which pyarrow asks for the key of this name (key tools, PKMT1)."""
    text = json.dumps({
        "keyMaterialType": "PKMT1", "internalStorage": True, "isFooterKey": name == _FOOTER,
        "kmsInstanceID": "keys", "kmsInstanceURL": "keys", "masterKeyID": "given",
        "doubleWrapping": False, "wrappedDEK": name,
    })  # fmt: skip
    return compact.BINARY, text.encode()


class _Edited(io.RawIOBase):
    """A file with other bytes from `at` on."""

    def __init__(self, file: BinaryIO, at: int, tail: bytes) -> None:
        self._file, self._from, self._tail, self._at = file, at, tail, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._at, self._from + len(self._tail))[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As much as there is: pyarrow takes fewer bytes for the end of the file."""
        view = memoryview(buffer).cast("B")
        before = min(len(view), max(0, self._from - self._at))
        self._file.seek(self._at)
        piece = self._file.read(before)
        if before < len(view):
            start = max(0, self._at - self._from)
            piece += self._tail[start : start + len(view) - before]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


# The footer


def _reopened(file: BinaryIO, keys: Keys) -> tuple[int, bytes]:
    """Where the footer begins, and the bytes that pyarrow shall see from there on.

    Raises:
        InvalidInput: not encrypted, CTR, a wrong or missing key or prefix, or damaged.
    """
    start, raw, magic = _raw_footer(file)
    if magic == _SEALED:
        crypto, end = compact.read(raw)
        prefix, unique = _identity(crypto, 1, keys)
        place = module_aad(prefix + unique, ModuleType.FOOTER)
        metadata, _ = compact.read(_unsealed(raw[end:], keys.footer, place, crypto.get(2)))
        crypto[2] = _named(_FOOTER)
    else:
        metadata, end = compact.read(raw)
        if _ALGORITHM not in metadata:
            raise InvalidInput(
                "the file is not encrypted", advice="leave --decrypt-with out, if it should not be"
            )
        prefix, unique = _identity(metadata, _ALGORITHM, keys)
        place = module_aad(prefix + unique, ModuleType.FOOTER)
        _check_signature(raw, end, keys.footer, place)
        metadata[_SIGNING_KEY] = _named(_FOOTER)
        crypto = {}
    _name_column_keys(metadata, prefix + unique, keys)
    new = compact.write(metadata)
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(keys.footer).encrypt(nonce, new, place)
    if magic == _SEALED:
        module = nonce + sealed
        new = compact.write(crypto) + len(module).to_bytes(LENGTH_BYTES, "little") + module
    else:
        new += nonce + sealed[-TAG_BYTES:]
    return start, new + len(new).to_bytes(4, "little") + magic


def _raw_footer(file: BinaryIO) -> tuple[int, bytes, bytes]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(4)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    if head not in (_SEALED, _CLEAR) or tail[4:] != head:
        raise InvalidInput("the file is not Parquet, or cut off", advice="fetch the file again")
    length = int.from_bytes(tail[:4], "little")
    start = size - _TAIL_BYTES - length
    if start < len(head) or length > _FOOTER_BYTES_MAX:
        raise compact.damaged()
    file.seek(start)
    return start, file.read(length), head


def _identity(struct: compact.Struct, field: int, keys: Keys) -> tuple[bytes, bytes]:
    """The AAD prefix in use and the file's own part; the prefix then stands in the struct."""
    algorithm = compact.within(struct, field, compact.STRUCT) or {}
    if [*algorithm] != [_GCM]:
        raise InvalidInput(
            "the file is encrypted with AES_GCM_CTR_V1, whose pages nobody can check:"
            " a changed bit would go unnoticed as another value",
            advice="have it written again with AES_GCM_V1",
        )
    gcm = compact.within(algorithm, _GCM, compact.STRUCT)
    stored = compact.within(gcm, _PREFIX, compact.BINARY)
    given = keys.aad_prefix
    if stored is not None and given not in (None, stored):
        raise InvalidInput(
            "the file has another AAD prefix than the key file says",
            advice="this may be another file than the one that was meant",
        )
    if stored is None and given is None and gcm.get(_SUPPLY, (0,))[0] == compact.TRUE:
        raise InvalidInput(
            "the file needs an AAD prefix, which it does not hold",
            advice="ask who wrote it, and add `aad_prefix` to the key file",
        )
    prefix = stored if given is None else given
    gcm.pop(_SUPPLY, None)
    if prefix:
        gcm[_PREFIX] = compact.BINARY, prefix
    return prefix or b"", compact.within(gcm, _UNIQUE, compact.BINARY) or b""


def _unsealed(module: bytes, key: bytes, aad: bytes, about: tuple[int, Any] | None) -> bytes:
    if int.from_bytes(module[:LENGTH_BYTES], "little") != len(module) - LENGTH_BYTES:
        raise compact.damaged()
    plain = _module(module, key, aad)
    if plain is None:
        raise _wrong_footer_key(about)
    return plain


def _module(module: bytes, key: bytes, aad: bytes) -> bytes | None:
    """What the module holds, or None when it does not open."""
    body = module[LENGTH_BYTES:]
    if len(body) < _SIGNATURE_BYTES:
        raise compact.damaged()
    try:
        return AESGCM(key).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], aad)
    except InvalidTag:
        return None


def _check_signature(raw: bytes, end: int, key: bytes, aad: bytes) -> None:
    """A footer in clear is signed with the footer's key, columns in clear are not."""
    nonce, tag = raw[end : end + NONCE_BYTES], raw[end + NONCE_BYTES :]
    if len(tag) != TAG_BYTES:
        raise compact.damaged()
    if not hmac.compare_digest(AESGCM(key).encrypt(nonce, raw[:end], aad)[-TAG_BYTES:], tag):
        raise _wrong_footer_key(compact.read(raw)[0].get(_SIGNING_KEY))


def _wrong_footer_key(about: tuple[int, Any] | None) -> InvalidInput:
    if about is not None and b"keyMaterialType" in bytes(about[1]):
        return InvalidInput(
            "the footer does not open: the file's keys are wrapped by a key service, in the file"
            " or in its `_KEY_MATERIAL_FOR_…` beside it",
            advice="`footer_key` and `column_keys` must be the unwrapped data keys",
        )
    return InvalidInput(
        "the footer does not open: wrong `footer_key` or `aad_prefix`, or another file",
        advice="ask who wrote the file for its keys",
    )


def _name_column_keys(metadata: compact.Struct, file_id: bytes, keys: Keys) -> None:
    """Prove the key of every column chunk, and give it the name that pyarrow will ask for."""
    missing: set[str] = set()
    for group, row_group in enumerate(compact.structs(metadata, _GROUPS)):
        for column, chunk in enumerate(compact.structs(row_group, _COLUMNS)):
            crypto = compact.within(chunk, _CRYPTO, compact.STRUCT)
            if crypto is None:
                continue  # a column in clear, as in any other file
            aad = module_aad(file_id, ModuleType.COLUMN_META, group, column)
            own = compact.within(crypto, _WITH_COLUMN_KEY, compact.STRUCT)
            if own is None:
                _check_chunk(chunk, None, keys.footer, aad)
                continue
            path = _path(own)
            key = keys.columns.get(path)
            if key is None:
                missing.add(path)
                continue
            _check_chunk(chunk, path, key, aad)
            own[_COLUMN_KEY] = _named(_COLUMN + path)
    if missing:
        named = ", ".join(f"`{path[:200]}`" for path in sorted(missing)[:20])
        raise InvalidInput(
            f"the key file has no key for {named}",
            advice="add them to `column_keys`, by the path of the column in the file",
        )


def _path(own: compact.Struct) -> str:
    kind, names = compact.within(own, _PATH, compact.LIST) or (compact.BINARY, [])
    if kind != compact.BINARY or not names:
        raise compact.damaged()
    return b".".join(names).decode("utf-8", "replace")


def _check_chunk(chunk: compact.Struct, path: str | None, key: bytes, aad: bytes) -> None:
    sealed = compact.within(chunk, _SEALED_META, compact.BINARY)
    if sealed is None:
        if path is not None:  # only what the footer's key covers stands in the footer itself
            raise compact.damaged()
    elif _module(sealed, key, aad) is None:
        column = "a column under the footer's key" if path is None else f"`{path[:200]}`"
        raise InvalidInput(
            f"the key does not open {column}", advice="ask who wrote the file for its keys"
        )
