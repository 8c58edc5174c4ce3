"""Sealed objects in S3 or whatever speaks it: `s3://bucket/prefix?endpoint=…&region=…` (`[aws]`).

An object is put under the condition that its key is free (`If-None-Match: *`), so that nothing
is ever replaced; the service must honour that (AWS does; see docs/reference/plugs.md). A put
whose answer was lost is told from somebody else's by a random mark in its metadata. Large files
go up in parts, which are given up when one fails; parts of a killed writer show in `list` as
the object they would have been, so that a sweep finds and deletes them.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote

from connectors import aws
from connectors.stores.object_keys import check_key, check_range
from gateway.errors import (
    ConfigError,
    Conflict,
    IntegrityError,
    NotFound,
    Unavailable,
)

PART_BYTES = 16 << 20  # S3 takes 5 MiB to 5 GiB
PARTS_MAX = 10_000
PARTS_AT_ONCE = 4
READS_MAX = 3  # tries of one range; boto repeats requests, not bodies that break off
_LIMITS: dict[str, Any] = {
    "tries": 3, "connect_timeout": 3, "read_timeout": 20,
    "max_pool_connections": 4 * PARTS_AT_ONCE,
}  # fmt: skip
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_MARK = "put"
_MISSING = {"NoSuchKey", "404", "NotFound"}
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload"}


def connect(parts: SplitResult, **_: Any) -> S3Store:
    """The plug of `s3:`.

    Raises:
        ConfigError: the URI names no bucket, or says something unknown.
        ConnectorError: boto3 is not installed.
    """
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if not _BUCKET.match(parts.netloc) or parts.fragment or set(query) - {"endpoint", "region"}:
        raise ConfigError(
            "this names no bucket", advice="write `s3://bucket/prefix?region=eu-central-1`"
        )
    prefix = unquote(parts.path).strip("/")
    if prefix:
        check_key(prefix)
    client = aws.client("s3", "s3", query, **_LIMITS)
    return S3Store(client, parts.netloc, f"{prefix}/" if prefix else "")


class S3Store:
    """A `gateway.ports.ObjectStore`. Any number of threads and processes may share the prefix."""

    is_local = False

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        """Use a boto3 client; nothing is asked yet."""
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def put_new(self, key: str, source: str) -> None:
        """Store the file: in one request, or in parts when it is larger than PART_BYTES."""
        place = self._place(key)
        with self._answers(key):
            with _local(source), Path(source).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read(PART_BYTES) if size <= PART_BYTES else b""
            mark = secrets.token_hex(16)
            if size <= PART_BYTES:
                self._put(place, data, mark)
            else:
                self._put_in_parts(place, source, size, mark)

    def put_bytes_new(self, key: str, data: bytes) -> None:
        """Store the bytes."""
        with self._answers(key):
            self._put(self._place(key), data, secrets.token_hex(16))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read exactly `length` bytes from `start` (None: to the end).

        Raises:
            NotFound: there is no such object.
            IntegrityError: the object ends before the range does.
            Unavailable: the store does not answer, or broke off READS_MAX times.
        """
        check_range(start, length)
        if not length:
            size = self.size(key)
            length = max(size - start, 0) if length is None else 0
            if start + length > size:
                raise _too_short(key)
        data = b""
        with self._answers(key):
            for _ in range(READS_MAX):
                if len(data) < length:
                    data += self._piece(key, start + len(data), length - len(data))
        if len(data) != length:
            raise Unavailable(f"object `{key}` broke off while it was read")
        return data

    def size(self, key: str) -> int:
        """Bytes of the object."""
        place = self._place(key)
        with self._answers(key):
            return int(self._client.head_object(**place)["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted; those half put too (see above)."""
        last = None
        with self._answers(prefix):
            for key in heapq.merge(self._whole(prefix), sorted(self._half(prefix))):
                if key != last:
                    yield key
                last = key

    def delete(self, key: str) -> None:
        """Remove the object and what was half put under its key; harmless when there is none."""
        place = self._place(key)
        with self._answers(key):
            for upload in self._uploads(place["Key"]):
                if upload["Key"] == place["Key"]:
                    self._client.abort_multipart_upload(**place, UploadId=upload["UploadId"])
            self._client.delete_object(**place)

    def local_path(self, key: str) -> None:
        """None: it is not on this host. NotFound if there is no such object."""
        self.size(key)

    # Putting

    def _put(self, place: dict[str, str], data: bytes, mark: str) -> None:
        with self._ours(place, mark):
            self._client.put_object(
                **place, Body=data, IfNoneMatch="*", Metadata={_MARK: mark},
            )  # fmt: skip

    def _put_in_parts(self, place: dict[str, str], source: str, size: int, mark: str) -> None:
        upload = self._client.create_multipart_upload(**place, Metadata={_MARK: mark})["UploadId"]
        part_bytes = max(PART_BYTES, -(-size // PARTS_MAX))

        def send(number: int) -> dict[str, Any]:
            with _local(source), Path(source).open("rb") as file:
                file.seek(number * part_bytes)
                data = file.read(part_bytes)
            sent = self._client.upload_part(
                **place, UploadId=upload, PartNumber=number + 1, Body=data
            )
            return {"PartNumber": number + 1, "ETag": sent["ETag"]}

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                parts = list(pool.map(send, range(-(-size // part_bytes))))
            with self._ours(place, mark):
                self._client.complete_multipart_upload(
                    **place, UploadId=upload, IfNoneMatch="*", MultipartUpload={"Parts": parts}
                )
        except BaseException:
            with contextlib.suppress(Exception):  # the sweep finds what could not be given up
                self._client.abort_multipart_upload(**place, UploadId=upload)
            raise

    @contextlib.contextmanager
    def _ours(self, place: dict[str, str], mark: str) -> Iterator[None]:
        """A refusal because the key is taken is none when our own earlier try took it."""
        try:
            yield
        except self._client.exceptions.ClientError as cause:
            if _code(cause) not in _TAKEN:
                raise
            found = self._client.head_object(**place)
            if found.get("Metadata", {}).get(_MARK) != mark:
                raise

    # Reading

    def _piece(self, key: str, start: int, length: int) -> bytes:
        """What comes of the range: all of it, or less when the connection breaks.

        Raises:
            IntegrityError: the object ends before the range does.
        """
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        end = start + length - 1
        reply = self._client.get_object(**self._place(key), Range=f"bytes={start}-{end}")
        if reply["ContentLength"] != length:
            reply["Body"].close()
            raise _too_short(key)
        data = bytearray()
        with contextlib.suppress(HTTPClientError, IncompleteReadError, OSError):
            for chunk in reply["Body"].iter_chunks(1 << 20):
                data += chunk
        return bytes(data)

    def _whole(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        for page in pages:
            for found in page.get("Contents", ()):
                yield found["Key"].removeprefix(self._prefix)

    def _half(self, prefix: str) -> Iterator[str]:
        for upload in self._uploads(self._prefix + prefix):
            yield upload["Key"].removeprefix(self._prefix)

    def _uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        for page in pages:
            yield from page.get("Uploads", ())

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    @contextlib.contextmanager
    def _answers(self, key: str) -> Iterator[None]:
        """Only errors of the gateway come out, without the words of the service."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as cause:
            code = _code(cause)
            if code in _MISSING:
                raise NotFound(f"there is no object `{key}`") from cause
            if code in _TAKEN:
                raise Conflict(f"object `{key}` exists already") from cause
            if code == "InvalidRange":
                raise _too_short(key) from cause
            raise Unavailable(
                f"the object store refused ({code[:40]})",
                advice="check the bucket, the region and the credentials of the server",
            ) from cause
        except (BotoCoreError, OSError) as cause:
            raise Unavailable(
                f"the object store does not answer ({type(cause).__name__})",
                advice="try again when it does; `gateway doctor` shows it",
            ) from cause


def _too_short(key: str) -> IntegrityError:
    return IntegrityError(f"object `{key}` has fewer bytes than asked for")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _local(source: str) -> Iterator[None]:
    """Trouble with the file that is to be put, told from trouble with the store."""
    try:
        yield
    except FileNotFoundError as cause:
        raise NotFound(f"there is no file `{Path(source).name}`") from cause
    except OSError as cause:
        raise Unavailable(f"`{Path(source).name}` cannot be read: {cause.strerror}") from cause
