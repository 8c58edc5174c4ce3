"""Read what a caller sends, and refuse all but the one shape expected.

Caps come before memory, deadlines before patience: a body larger than its limit or slower
than its deadline is refused while it arrives.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from starlette.requests import ClientDisconnect, Request

from gateway.errors import GatewayError, InvalidInput, TooLarge, Unavailable
from gateway.wire import codec

T = TypeVar("T")
BODY_SECONDS_MAX = 15.0  # a JSON body or form, whole
CHUNK_SECONDS_MAX = 30.0  # between two chunks of an uploaded part
FORM_FIELDS_MAX = 16


async def read_json(request: Request, kind: type[T], bytes_max: int) -> T:
    """Read the body as one JSON object of the dataclass `kind`; raises InvalidInput, TooLarge."""
    _content_type(request, "application/json")
    return codec.decode(kind, parse_json(await read_bytes(request, bytes_max)))


def parse_json(raw: bytes) -> Any:
    """Parse strictly: UTF-8, depth ≤ 1024, no NaN, no lone surrogate, no key twice."""
    try:
        orjson.loads(raw)  # the strictest parser there is, but it keeps the last of two keys
    except orjson.JSONDecodeError as cause:
        raise InvalidInput("the body is not JSON", advice="send one JSON object") from cause
    return codec.loads(raw)


async def read_form(request: Request, bytes_max: int) -> dict[str, str]:
    """Read an `application/x-www-form-urlencoded` body; a field given twice is refused."""
    _content_type(request, "application/x-www-form-urlencoded")
    raw = await read_bytes(request, bytes_max)
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=FORM_FIELDS_MAX,
        )
    except ValueError as cause:
        raise InvalidInput("the body is not a form", advice="send url-encoded fields") from cause
    return once(pairs, "form field")


def once(pairs: list[tuple[str, str]], what: str) -> dict[str, str]:
    """Return the pairs as a mapping; InvalidInput when a name stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise InvalidInput(f"the {what} `{twice[:80]}` stands twice", advice="send it once")
    return found


async def read_maybe_gzip(request: Request, bytes_max: int) -> bytes:
    """Read a JSON body that may come with `Content-Encoding: gzip`; it grows to `bytes_max`.

    Raises:
        TooLarge: it is larger, packed or unpacked; no more than `bytes_max` is ever unpacked.
        InvalidInput: it is of another type or encoding, or no single whole gzip member.
    """
    _content_type(request, "application/json")
    raw = await read_bytes(request, bytes_max, encodings=("identity", "gzip"))
    if request.headers.get("content-encoding", "identity") == "identity":
        return raw
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacking.decompress(raw, bytes_max + 1)
    except zlib.error as cause:
        raise InvalidInput("the body is not gzip", advice="send it whole") from cause
    if len(unpacked) > bytes_max:
        raise _too_large(bytes_max)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidInput("the body is not one gzip member", advice="send it whole")
    return unpacked


async def read_bytes(
    request: Request, bytes_max: int, *, encodings: tuple[str, ...] = ("identity",)
) -> bytes:
    """Read the whole body within its deadline; raises TooLarge, InvalidInput."""
    _refuse_declared(request, bytes_max, encodings)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.stream():
                body += chunk
                if len(body) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError as cause:
        raise InvalidInput("the body came too slowly", advice="send it faster") from cause
    except ClientDisconnect as cause:
        raise Unavailable("the caller went away") from cause
    return bytes(body)


async def stream_bytes(request: Request, bytes_max: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; raises TooLarge, and InvalidInput when it stalls."""
    _refuse_declared(request, bytes_max)
    chunks = request.stream()
    total = 0
    while True:
        try:
            async with asyncio.timeout(CHUNK_SECONDS_MAX):
                chunk = await anext(chunks, None)
        except TimeoutError as cause:
            raise InvalidInput("the part came too slowly", advice="send it again") from cause
        except ClientDisconnect as cause:
            raise Unavailable("the caller went away") from cause
        if chunk is None:
            return
        total += len(chunk)
        if total > bytes_max:
            raise _too_large(bytes_max)
        if chunk:
            yield chunk


def refuse_body(request: Request) -> None:
    """Raise InvalidInput when a request that has no body sends one."""
    length = request.headers.get("content-length", "0")
    if length.strip("0") or "transfer-encoding" in request.headers:
        raise InvalidInput("this request has no body", advice="send it without a body")


def _refuse_declared(
    request: Request, bytes_max: int, encodings: tuple[str, ...] = ("identity",)
) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > bytes_max):  # noqa: PLR2004 - beyond any size
        raise _too_large(bytes_max)
    if request.headers.get("content-encoding", "identity") not in encodings:
        raise InvalidInput("the body is compressed", advice="send it without Content-Encoding")


def _too_large(bytes_max: int) -> GatewayError:
    return TooLarge(f"the body is over {bytes_max} bytes", limit_bytes=bytes_max)


def _content_type(request: Request, wanted: str) -> None:
    given = request.headers.get("content-type", "")
    kind, _, parameters = given.partition(";")
    charset = parameters.replace(" ", "").lower()
    if kind.strip().lower() != wanted or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise InvalidInput(
            f"the body's type is `{given[:80]}`", advice=f"send `Content-Type: {wanted}`"
        )
