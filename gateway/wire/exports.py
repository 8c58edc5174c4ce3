"""What leaves as a whole: a preview of some rows, and a copy of sealed shards with its keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.wire.access import PlanColumn

PREVIEW_ROWS_MAX = 100
PREVIEW_ROWS_DEFAULT = 10
EXPORT_PART_BYTES = 8 << 20  # of a sealed shard per GET; the last part is what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The first rows that the Plan lets through, filtered and masked as it says."""

    dataset: str  # with version
    decision: str
    grant: str
    columns: tuple[PlanColumn, ...]
    row_filter: str | None
    rows: int
    arrow: str  # base64 of an Arrow IPC stream


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """`dataset export --encrypted`: an AccessRequest for the action `export`."""

    dataset: str  # tenant/name[@version]
    purpose: str | None = None
    columns: tuple[str, ...] | None = None  # None = all that may be had
    split: str | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedColumn:
    """An approved column, and what the sealed files call it."""

    name: str
    field_id: int
    physical: str  # the root of its leaves in the files: `f7`
    type: str  # Arrow's, of the logical column


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedShard:
    """One sealed file, as it is stored."""

    id: str
    split: str
    rows: int
    bytes: int
    sha256: str
    footer_key: str  # `ref:<dek-id>`, as the file itself calls it
    column_keys: dict[str, str]  # leaf name of manifest-v1 -> `ref:<dek-id>`; approved ones only


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A release of keys. The reply is the only time that the keys are told."""

    id: str  # of the Grant; names the export in further requests
    decision: str
    dataset: str  # with version
    dataset_id: str
    purpose: str
    split: str | None
    recipient: str
    released_at: str
    columns: tuple[ExportedColumn, ...]
    shards: tuple[ExportedShard, ...]
    keys: dict[str, str] = field(repr=False)  # `ref:<dek-id>` -> base64 of 32 bytes
