"""Objects of a bucket, by pyarrow's own S3 client: `s3://bucket/key` or `s3://bucket/prefix/`.

Credentials, region and endpoint come by AWS's ordinary chain (variables such as
`AWS_PROFILE`, `AWS_ENDPOINT_URL`; files; instance roles) and are never part of the URI.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import SplitResult, unquote

from gateway.domain.partition import is_data, partition_of
from gateway.errors import ConnectorError, InvalidInput
from gateway.ports import SourceFile


def connect(parts: SplitResult, *, query: str | None = None) -> Objects:
    """The plug of `s3://`."""
    if query is not None:
        raise InvalidInput("a bucket answers no query", advice="leave --query out")
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.netloc:
        raise InvalidInput(
            "this does not name objects of a bucket",
            advice="write `s3://bucket/prefix/`; credentials come from the environment",
        )
    return Objects(_file_system(parts.netloc), parts.netloc, unquote(parts.path).lstrip("/"))


class Objects:
    """A `gateway.ports.Source`: one object, or all below a prefix, by name."""

    def __init__(self, file_system: Any, bucket: str, key: str) -> None:
        self._fs, self._bucket, self._key = file_system, bucket, key

    def files(self) -> Sequence[SourceFile]:
        """The objects; their `name=value` directories below the prefix become columns."""
        from pyarrow import fs

        root = f"{self._bucket}/{self._key}".rstrip("/")
        try:
            (about,) = self._fs.get_file_info([root])
            if about.type == fs.FileType.File:
                return [self._file(about, about.base_name)]
            selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
            below = [i for i in self._fs.get_file_info(selector) if i.type == fs.FileType.File]
        except OSError as cause:
            raise ConnectorError(
                f"`s3://{root}` cannot be listed: {_line(cause)}",
                advice="check the credentials, AWS_REGION and AWS_ENDPOINT_URL",
            ) from cause
        named = sorted((about.path.removeprefix(f"{root}/"), about) for about in below)
        found = [self._file(about, name) for name, about in named if is_data(name)]
        if not found:
            raise InvalidInput(f"there is no object below `s3://{root}`")
        return found

    def _file(self, about: Any, relative: str) -> SourceFile:
        return SourceFile(
            name=relative,
            open=lambda: self._open(about.path),
            bytes=about.size,
            partition=partition_of(relative),
        )

    def _open(self, path: str) -> AbstractContextManager[Any]:
        try:
            return self._fs.open_input_stream(path)  # type: ignore[no-any-return]
        except OSError as cause:
            raise ConnectorError(f"`s3://{path}` cannot be read: {_line(cause)}") from cause


def _file_system(bucket: str) -> Any:
    try:
        from pyarrow import fs

        return fs.FileSystem.from_uri(f"s3://{bucket}")[0]
    except ImportError as cause:
        raise ConnectorError(
            "this pyarrow has no S3", advice="pip install pyarrow from a wheel"
        ) from cause
    except OSError as cause:
        raise ConnectorError(
            f"the bucket `{bucket}` cannot be opened: {_line(cause)}",
            advice="check the credentials, AWS_REGION and AWS_ENDPOINT_URL",
        ) from cause


def _line(cause: Exception) -> str:
    return " ".join(str(cause).split())[:400]
