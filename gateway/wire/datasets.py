"""What is said about datasets, and how one is registered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.wire import codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedTag:
    """What an unclassified column could be tagged with; shown to its owner only."""

    tag: str
    reason: str  # which detector (docs/reference/pii-hints.md), or `name`
    percent: int | None  # of the sampled values, rounded up to tens; null for a name


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnView:
    """One column of a version with its present tags."""

    field_id: int | None  # null for those who are not told of every column
    name: str
    type: str
    nullable: bool
    tags: tuple[str, ...]  # effective: an unclassified column shows `restricted`
    renewed: bool = False  # its name meant another column before: rules that name it do not count
    proposed: ProposedTag | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitView:
    """A named part of a version."""

    name: str
    rows: int | None  # null when a rule hides rows from the caller


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One immutable version; what hidden columns have a part in is null for a recipient."""

    version: int
    rows: int | None
    bytes: int | None  # sealed bytes
    shards: int | None
    profile: str | None
    splits: tuple[SplitView, ...]
    manifest_digest: str | None
    registered_at: str
    registered_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """One line of a list of datasets."""

    dataset: str  # tenant/name
    version: int  # the newest
    rows: int | None
    columns: int  # that the caller is told of
    tags: tuple[str, ...]  # of these columns
    suspended: bool
    registered_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDetail:
    """A dataset at one version, as far as the caller is told; else null."""

    dataset: str  # tenant/name
    dataset_id: str | None
    version: int
    columns: tuple[ColumnView, ...]
    splits: tuple[SplitView, ...]
    rows: int | None
    bytes: int | None
    shards: int | None
    profile: str | None
    manifest_digest: str | None
    registered_at: str
    registered_by: str | None
    suspended: bool
    versions: tuple[int, ...]
    card: dict[str, Any] = field(default_factory=dict)
    owners: tuple[str, ...] = ()  # whom to ask: `tenant/name` or `tenant/role:NAME`
    contact: str = ""
    streams_stopped: int | None = None  # by this suspension, with those of what inherits from it
    slowest_ms: int | None = None  # from the durable record to the last byte of the slowest stream


def etag_of(detail: DatasetDetail) -> str:
    """SHA-256 hex of all that is shown of the dataset, to whom it is shown.

    What only the answer to a suspension says is no part of it: the dataset has no such state.
    """
    lasting = replace(detail, streams_stopped=None, slowest_ms=None)
    text = json.dumps(codec.encode(lasting), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetChanges:
    """`dataset update`, `suspend`, `resume`: what is null stays as it is."""

    card: dict[str, Any] | None = None  # replaces the whole card
    owners: tuple[str, ...] | None = None
    contact: str | None = None
    suspended: bool | None = None
    release: str | None = None  # `tenant/name[@version]` made from this: inherits no longer
    reason: str | None = None  # of suspending or resuming; sealed in the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnTags:
    """`dataset classify`: the new tags of the named columns; others keep theirs."""

    tags: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that will be uploaded in parts."""

    name: str  # for messages only; the format is found from the content
    bytes: int | None  # None: not known before its end, which an empty part says
    partition: dict[str, str] = field(default_factory=dict)  # columns with one value for all rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRequest:
    """`dataset register`: which files become the next version, and how."""

    dataset: str  # tenant/name
    files: tuple[SourceFile, ...]
    profile: str = "train"  # or `archive`
    splits: dict[str, float] = field(default_factory=dict)  # name -> fraction; sum 1
    split_by: str | None = None  # equal values of this column stay in one split
    split_column: str | None = None  # this column already names the split
    person_column: str | None = None  # identifies the person a row is about
    card: dict[str, Any] = field(default_factory=dict)
    derived_from: tuple[str, ...] = ()  # `tenant/name[@version]` or `run:NAME`
    append: bool = False  # the new version keeps the old one's shards
    allow_schema_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReceipt:
    """A part that was stored sealed and durable."""

    file: int  # index into the request's `files`
    n: int  # 0-based
    bytes: int
    sha256: str  # hex, of the part as sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """An upload under way; parts may be sent again or in any order until commit."""

    id: str
    dataset: str
    part_bytes_max: int  # each part of a file has this size, the last one what is left
    parts_received: tuple[PartReceipt, ...]
    state: str  # open | committing | committed
    expires_at: str
    version: int | None = None  # that it has become, when committed
    request: RegistrationRequest | None = None  # as it was begun, while it is no version yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureRequest:
    """`dataset erase`: without `yes` nothing happens; the Operation says what would."""

    columns: tuple[str, ...] = ()  # (): the whole dataset or version
    yes: bool = False
    reason: str | None = None  # sealed in the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRelease:
    """Data keys that left in a sealed copy; erasing does not reach what they open."""

    grant: str
    tenant: str  # of the recipient
    version: int
    columns: tuple[int, ...]  # field ids
    shards: int  # that they open
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasurePlan:
    """What an erasure takes, what it stops, and what it leaves."""

    dataset: str
    versions: tuple[int, ...]
    columns: tuple[str, ...]
    is_whole: bool  # no version is left
    keys: int  # DEKs that no surviving version needs
    shards: tuple[str, ...]  # deleted
    shards_kept: dict[str, list[int]]  # shard -> surviving versions that refer to it
    grants: tuple[str, ...]  # that end
    recipients: tuple[str, ...]  # identities that held a Grant
    streams: tuple[str, ...]  # open leases that stop
    runs: tuple[str, ...]  # that read of it before
    models: tuple[str, ...]  # that they made
    keys_released: tuple[KeyRelease, ...]  # that left before; what they open stays readable
    views: int  # sealed results that go
    derived: tuple[str, ...]  # versions that say they come from it, anybody's; they stay
