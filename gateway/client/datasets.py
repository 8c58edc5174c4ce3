"""Datasets: list, show, classify, and register: upload in parts that survive interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import gateway.wire as W
from gateway.client.differences import differences, shard_counts
from gateway.client.preview import Preview
from gateway.client.records import Dataset, Record, Table
from gateway.client.sources import files_of
from gateway.client.upload import Upload, restart_told
from gateway.domain.dataset import DatasetRef
from gateway.errors import AccessDenied, ConfigError, InvalidInput
from gateway.ports import SourceFile
from gateway.wire import codec

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient, Progress
    from gateway.client.replies import Response


class RegisterOptions(TypedDict, total=False):
    """How sources become a version; see `RegistrationRequest`."""

    query: str | None  # SQL whose rows are registered, of a database
    decrypt_with: str | Path | None  # keys of Parquet files that others encrypted; they stay here
    opened: Callable[[str], None]  # gets the id to resume with, if there are several parts
    profile: str
    splits: Mapping[str, float]
    split_by: str | None
    split_column: str | None
    person_column: str | None
    append: bool
    allow_schema_change: bool
    derived_from: Sequence[str] | None  # `tenant/name[@version]` or `run:NAME`


class ExportAsk(TypedDict, total=False):
    """What an export may name besides the dataset."""

    purpose: str | None
    columns: Sequence[str] | None
    split: str | None
    max_rows: int | None
    max_bytes: int | None
    run: str | None


class Datasets:
    """`gw.datasets`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(self, *, tag: str | None = None, text: str | None = None) -> Table:
        """The datasets that we may see."""
        return self._gateway.all_of("/v1/datasets", Dataset, tag=tag, text=text)

    def show(self, dataset: str) -> Dataset:
        """A dataset at the version named, or at its newest, then with its `etag`."""
        return self._dataset(self._gateway.transport.request("GET", _path(dataset)))

    def classify(
        self,
        dataset: str,
        tags: Mapping[str, str | Sequence[str]],
        *,
        if_match: str | None = None,
    ) -> Dataset:
        """Set the tags of the named columns (one tag or several each).

        With the ETag that the dataset must still have, no name can mean another column by now.
        """
        wanted = {
            column: (given,) if isinstance(given, str) else tuple(given)
            for column, given in tags.items()
        }
        reply = self._gateway.transport.request(
            "PATCH",
            _path(str(DatasetRef.parse(dataset).unversioned)) + "/columns",
            json=W.ColumnTags(tags=wanted),
            headers=_if_match(if_match),
        )
        return self._dataset(reply)

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
        release: str | None = None,
        if_match: str | None = None,
    ) -> Dataset:
        """Change what belongs to the dataset and to no version; what is None stays.

        Args:
            dataset: `tenant/name`.
            card: replaces the whole card; a mapping, or a `.json`, `.toml` or `.yaml` file.
            owners: whom to ask: identities of the tenant, or `tenant/role:NAME`.
            contact: one line.
            release: a dataset made from this one, which inherits its rules and tags no longer.
            if_match: the ETag the dataset must still have; PreconditionFailed otherwise.
        """
        changes = W.DatasetChanges(
            card=read_card(card) if card is not None else None,
            owners=tuple(owners) if owners is not None else None,
            contact=contact,
            release=release,
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
        rows: int = W.PREVIEW_ROWS_DEFAULT,
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

    def erase(
        self,
        dataset: str,
        *,
        columns: Sequence[str] = (),
        yes: bool = False,
        reason: str | None = None,
        wait: bool = True,
        progress: Progress | None = None,
    ) -> Record:
        """Destroy for ever; without `yes=True` only say what that would take.

        Args:
            dataset: `tenant/name`, or `tenant/name@3` for one version.
            columns: only these, in the version named or in all.
            yes: do it.
            reason: sealed in the journal.
            wait: for the end; the Record is then the plan, or what the certificate says with
                `certificate` itself; else the Operation.
            progress: called with what is done and how far it is.
        """
        request = W.ErasureRequest(columns=tuple(columns), yes=yes, reason=reason)
        reply = self._gateway.transport.request("DELETE", _path(dataset), json=request).json()
        if not wait:
            return Record(reply, self._gateway)
        return Record(self._gateway.finished(reply, progress).result, self._gateway)

    def export(
        self,
        dataset: str,
        *,
        out: str | Path,
        encrypted: bool = False,
        keys_to: str | Path | None = None,
        progress: Progress | None = None,
        **ask: Unpack[ExportAsk],
    ) -> Record:
        """Take a dataset out: plain Parquet, or the sealed shards and a file of their keys.

        Args:
            dataset: `tenant/name[@version]`.
            out: a directory that is not there; it appears when the copy is whole.
            encrypted: as it is stored; needs whole columns of whole shards (no filter, no mask).
            keys_to: the key file (0600) of an encrypted copy; never overwritten.
            progress: called with what is being done and how much of it (0..1).
            ask: `purpose`, `columns`, `split`, `max_rows`, `max_bytes`, `run`.

        Raises:
            AccessDenied: exporting is an action of its own, which a rule must allow.
        """
        from gateway.client import export

        keys = Path(keys_to) if keys_to is not None else None
        export.require_sense(is_encrypted=encrypted, keys_to=keys)
        target = export.Target(out=Path(out), keys_to=keys, progress=progress)
        copy = export.encrypted if encrypted else export.plain
        return copy(self._gateway, dataset, ask, target)

    def _change(
        self, dataset: str, changes: W.DatasetChanges, if_match: str | None = None
    ) -> Dataset:
        reply = self._gateway.transport.request(
            "PATCH",
            _path(str(DatasetRef.parse(dataset).unversioned)),
            json=changes,
            headers=_if_match(if_match),
        )
        return self._dataset(reply)

    def _dataset(self, reply: Response) -> Dataset:
        etag = reply.headers.get("etag", "").strip('"') or None
        return Dataset({**reply.json(), "etag": etag}, self._gateway)

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
            sources: paths, directories or patterns of Parquet, CSV, JSON lines and Arrow IPC
                files, `-`, Arrow tables and streams, `s3://`, `postgresql://`, `sqlite:///`.
            card: what the data is about; a mapping, or a `.json`, `.toml` or `.yaml` file.
            wait: False returns the running Operation instead of the Dataset.
            resume: id of an interrupted registration of the same files.
            progress: called with what is being done and how much of it (0..1).
            options: see `RegisterOptions`.

        Raises:
            SourceRefused: a file is not what it claims to be; nothing was registered.
            Unavailable: the gateway restarted meanwhile; registering again is safe.
        """
        files = files_of(sources, options.pop("query", None), options.pop("decrypt_with", None))
        opened = options.pop("opened", None)
        upload = Upload(self._gateway, _request(dataset, files, card, options), files, resume)
        if opened is not None and upload.is_long:
            opened(upload.id)
        operation = upload.send(progress)
        if not wait:
            return Record(operation, self._gateway)
        with restart_told(dataset):
            done = upload.made(operation, progress)
        result = done.result or {}
        changes = {name: result.get(name, []) for name in ("added", "removed", "retyped")}
        made = self.show(result.get("dataset", dataset)).to_dict()
        return Dataset({**made, "changes": changes}, self._gateway)


def _request(
    dataset: str,
    files: Sequence[SourceFile],
    card: str | Path | Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> W.RegistrationRequest:
    wanted = {
        "dataset": dataset,
        "files": [
            {"name": file.name, "bytes": file.bytes, "partition": dict(file.partition)}
            for file in files
        ],
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


def _if_match(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": f'"{etag}"'}


def _path(dataset: str) -> str:
    ref = DatasetRef.parse(dataset)
    at = f"/versions/{ref.version}" if ref.version is not None else ""
    return f"/v1/datasets/{ref.tenant}/{ref.name}{at}"
