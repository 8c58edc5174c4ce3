"""Datasets: list, show, classify, and register: upload in parts that survive interruption."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypedDict, Unpack

import gateway.wire as W
from gateway.client.differences import differences, shard_counts
from gateway.client.preview import Preview
from gateway.client.records import Dataset, Record, Table
from gateway.client.transport import segment
from gateway.domain.dataset import DatasetRef
from gateway.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from gateway.wire import codec

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient, Progress


class RegisterOptions(TypedDict, total=False):
    """How files become a version; see `RegistrationRequest`."""

    profile: str
    splits: Mapping[str, float]
    split_by: str | None
    split_column: str | None
    person_column: str | None
    append: bool
    allow_schema_change: bool


class Datasets:
    """`gw.datasets`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(self, *, tag: str | None = None, text: str | None = None) -> Table:
        """The datasets that we may see."""
        return self._gateway.all_of("/v1/datasets", Dataset, tag=tag, text=text)

    def show(self, dataset: str) -> Dataset:
        """A dataset at the version named, or at its newest."""
        return Dataset(self._gateway.get(_path(dataset)), self._gateway)

    def classify(self, dataset: str, tags: Mapping[str, str | Sequence[str]]) -> Dataset:
        """Set the tags of the named columns (one tag or several each)."""
        wanted = {
            column: (given,) if isinstance(given, str) else tuple(given)
            for column, given in tags.items()
        }
        reply = self._gateway.transport.request(
            "PATCH",
            _path(str(DatasetRef.parse(dataset).unversioned)) + "/columns",
            json=W.ColumnTags(tags=wanted),
        )
        return Dataset(reply.json(), self._gateway)

    def diff(self, before: str, after: str) -> Record:
        """What differs between two versions that we may both see; shards only for their owner."""
        old, new = self.show(before).to_dict(), self.show(after).to_dict()
        return Record(differences(old, new, self._shard_counts(old, new)), self._gateway)

    def _shard_counts(self, *shown: Mapping[str, Any]) -> dict[str, int] | None:
        if any(one["shards"] is None for one in shown):  # recipients are not even counted for
            return None
        try:
            found = [
                self._gateway.get(_path(f"{one['dataset']}@{one['version']}") + "/manifest")
                for one in shown
            ]
        except AccessDenied:
            return None
        return shard_counts(*found)

    def update(
        self,
        dataset: str,
        *,
        card: str | Path | Mapping[str, Any] | None = None,
        owners: Sequence[str] | None = None,
        contact: str | None = None,
        if_match: str | None = None,
    ) -> Dataset:
        """Change what belongs to the dataset and to no version; what is None stays.

        Args:
            dataset: `tenant/name`.
            card: replaces the whole card; a mapping, or a `.json`, `.toml` or `.yaml` file.
            owners: whom to ask: identities of the tenant, or `tenant/role:NAME`.
            contact: one line.
            if_match: the ETag the dataset must still have; PreconditionFailed otherwise.
        """
        changes = W.DatasetChanges(
            card=read_card(card) if card is not None else None,
            owners=tuple(owners) if owners is not None else None,
            contact=contact,
        )
        return self._change(dataset, changes, if_match)

    def suspend(self, dataset: str, *, reason: str | None = None) -> Dataset:
        """Deny everything of the dataset at once: grants, tokens, running streams. Reversible."""
        return self._change(dataset, W.DatasetChanges(suspended=True, reason=reason))

    def resume(self, dataset: str, *, reason: str | None = None) -> Dataset:
        """Undo a suspension: grants that stand work again, streams go on from their positions."""
        return self._change(dataset, W.DatasetChanges(suspended=False, reason=reason))

    def preview(
        self,
        dataset: str,
        *,
        purpose: str | None = None,
        rows: int = 10,
        columns: Sequence[str] | None = None,
        split: str | None = None,
    ) -> Preview:
        """The first rows (at most 100) that the rules let us preview; recorded like a stream.

        Raises:
            AccessDenied: previewing is an action of its own, which a rule must allow.
        """
        if isinstance(columns, str):
            raise InvalidInput("`columns` is a list of names", advice='columns=["age", "hr"]')
        version = DatasetRef.parse(dataset).version or self.show(dataset).version
        reply = self._gateway.get(
            _path(f"{DatasetRef.parse(dataset).unversioned}@{version}") + "/preview",
            purpose=purpose,
            rows=rows,
            columns=None if columns is None else json.dumps(list(columns)),
            split=split,
        )
        return Preview(reply, self._gateway)

    def _change(
        self, dataset: str, changes: W.DatasetChanges, if_match: str | None = None
    ) -> Dataset:
        reply = self._gateway.transport.request(
            "PATCH",
            _path(str(DatasetRef.parse(dataset).unversioned)),
            json=changes,
            headers={"If-Match": f'"{if_match}"'} if if_match is not None else {},
        )
        return Dataset(reply.json(), self._gateway)

    def register(
        self,
        dataset: str,
        *sources: Any,
        card: str | Path | Mapping[str, Any] | None = None,
        wait: bool = True,
        resume: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[RegisterOptions],
    ) -> Dataset | Record:
        """Upload files (or Arrow tables) and seal them into the dataset's next version.

        Args:
            dataset: `tenant/name`.
            sources: paths of Parquet, CSV or Arrow IPC files, or Arrow tables and streams.
            card: what the data is about; a mapping, or a `.json`, `.toml` or `.yaml` file.
            wait: False returns the running Operation instead of the Dataset.
            resume: id of an interrupted registration of the same files.
            progress: called with what is being done and how much of it (0..1).
            options: of the version, see `RegisterOptions`.

        Raises:
            SourceRefused: a file is not what it claims to be; nothing was registered.
            Unavailable: the gateway restarted meanwhile; registering again is safe.
        """
        with ExitStack() as stack:
            files = [stack.enter_context(_opened(source)) for source in sources]
            request = _request(dataset, files, card, options)
            registration = self._begin(request, resume)
            with _restart_told(dataset):
                try:
                    self._upload(registration, files, progress)
                except KeyboardInterrupt as stop:
                    stop.add_note(f"resume with the registration `{registration.id}`")
                    raise
                path = f"/v1/registrations/{segment(registration.id)}/commit"
                operation = self._gateway.post(path)
        if not wait:
            return Record(operation, self._gateway)
        with _restart_told(dataset):
            done = self._gateway.finished(operation, progress)
        result = done.result or {}
        changes = {name: result.get(name, []) for name in ("added", "removed", "retyped")}
        made = self.show(result.get("dataset", dataset)).to_dict()
        return Dataset({**made, "changes": changes}, self._gateway)

    def _begin(self, request: W.RegistrationRequest, resume: str | None) -> W.Registration:
        if resume is None:
            reply = self._gateway.post("/v1/registrations", request)
        else:
            reply = self._gateway.get(f"/v1/registrations/{segment(resume)}")
        registration = codec.decode_reply(W.Registration, reply)
        if registration.dataset != request.dataset:
            raise InvalidInput(f"the registration `{registration.id}` is of another dataset")
        return registration

    def _upload(
        self, registration: W.Registration, files: Sequence[_Source], progress: Progress | None
    ) -> None:
        """Send every part that has not arrived yet with the same bytes."""
        arrived = {(part.file, part.n): part.sha256 for part in registration.parts_received}
        total = sum(file.bytes for file in files) or 1
        sent = 0
        for index, file in enumerate(files):
            for n, part in enumerate(_parts(file, registration.part_bytes_max)):
                digest = hashlib.sha256(part).hexdigest()
                if arrived.get((index, n)) != digest:
                    self._send(registration.id, (index, n), part, digest)
                sent += len(part)
                if progress is not None:
                    progress(f"upload {file.name}", sent / total)

    def _send(self, registration: str, at: tuple[int, int], part: bytes, digest: str) -> None:
        reply = self._gateway.transport.request(
            "PUT",
            f"/v1/registrations/{segment(registration)}/parts/{at[1]}",
            query={"file": at[0]},
            body=part,
            headers={"Content-Type": "application/octet-stream"},
        )
        if codec.decode_reply(W.PartReceipt, reply.json()).sha256 != digest:
            raise IntegrityError("a part arrived with other bytes than it was sent")


@contextmanager
def _restart_told(dataset: str) -> Iterator[None]:
    """Open registrations and Operations end with the control process: say that, not `not found`.

    Raises:
        Unavailable: what was there a moment ago is gone.
    """
    try:
        yield
    except NotFound as cause:
        raise Unavailable(
            f"the gateway restarted while `{dataset}` was registered",
            advice=f"register it again, unless `gateway dataset show {dataset}` has the version",
        ) from cause


class _Source:
    """An open file to upload."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.file = file
        self.bytes = file.seek(0, 2)
        file.seek(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _opened(source: Any) -> _Source:
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            return _Source(path.name, path.open("rb"))
        except OSError as cause:
            raise InvalidInput(f"`{path}` cannot be read: {cause.strerror or 'no file'}") from cause
    if hasattr(source, "__arrow_c_stream__"):
        return _arrow(source)
    raise InvalidInput(
        f"a {type(source).__name__} is not a source", advice="give a path or an Arrow table"
    )


def _arrow(source: Any) -> _Source:
    """Write an Arrow stream into an unnamed temporary file as IPC."""
    import pyarrow as pa

    file: Any = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the _Source
    reader = pa.RecordBatchReader.from_stream(source)
    with pa.ipc.new_stream(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return _Source("table.arrow", file)


def _parts(file: _Source, part_bytes: int) -> Iterator[bytes]:
    while part := file.file.read(part_bytes):
        yield part


def _request(
    dataset: str,
    files: Sequence[_Source],
    card: str | Path | Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> W.RegistrationRequest:
    if not files:
        raise InvalidInput("there is nothing to register", advice="name at least one file")
    wanted = {
        "dataset": dataset,
        "files": [{"name": file.name, "bytes": file.bytes} for file in files],
        "card": read_card(card),
        **{name: value for name, value in options.items() if value is not None},
    }
    return codec.decode(W.RegistrationRequest, wanted)


def read_card(card: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """Read what a dataset is about; InvalidInput when the file holds no table of facts."""
    if card is None or isinstance(card, Mapping):
        return dict(card or {})
    path = Path(card)
    try:
        text = path.read_text("utf-8")
        value = _parsers()[path.suffix](text)
    except (OSError, ValueError) as cause:
        raise InvalidInput(f"the card `{path}` cannot be read: {cause}") from cause
    except KeyError as cause:
        raise InvalidInput(
            f"`{path.suffix}` is no format of a card", advice="use .yaml, .toml or .json"
        ) from cause
    if not isinstance(value, dict):
        raise InvalidInput(f"the card `{path}` is not a table of facts")
    return codec.encode(json.loads(json.dumps(value, default=str)))  # type: ignore[no-any-return]


def _parsers() -> dict[str, Any]:
    import tomllib

    return {".json": codec.loads, ".toml": tomllib.loads, ".yaml": _yaml, ".yml": _yaml}


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as cause:
        raise ConfigError(
            "a card in YAML needs PyYAML", advice="pip install pyyaml, or write it as .toml"
        ) from cause
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as cause:
        raise InvalidInput("the card is not YAML") from cause


def _path(dataset: str) -> str:
    ref = DatasetRef.parse(dataset)
    at = f"/versions/{ref.version}" if ref.version is not None else ""
    return f"/v1/datasets/{ref.tenant}/{ref.name}{at}"
