"""Tenants, datasets, versions, columns, splits: their names and what is fixed about them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gateway.domain.proposals import Hint
from gateway.errors import InvalidInput

# \Z and not $: `$` would accept a trailing newline.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_TAG = re.compile(r"[a-z][a-z0-9_-]{0,31}(?:\.[a-z0-9][a-z0-9_-]{0,31}){0,3}\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,8}\Z")
COLUMN_NAME_CHARS_MAX = 1024
SPLITS_MAX = 32
_SHARE_ERROR_MAX = 1e-6  # by which shares may miss 1: they are rounded
# A column nobody has classified yet carries this tag by definition, not by record.
UNCLASSIFIED_TAG = "restricted"
_VOWELS = ("a", "e", "i", "o", "u")


def parse_name(text: str, *, what: str) -> str:
    """Return `text` when it can name a tenant, dataset or identity; else InvalidInput."""
    if not isinstance(text, str) or not _NAME.match(text):
        raise InvalidInput(
            f"`{str(text)[:80]}` cannot name {'an' if what.startswith(_VOWELS) else 'a'} {what}",
            advice="use 1 to 63 of a-z, 0-9, `-`, `_`; start and end with a letter or digit",
        )
    return text


def parse_tag(text: str) -> str:
    """Return `text` when it is a dotted tag such as `pii.email`; else InvalidInput."""
    if not isinstance(text, str) or not _TAG.match(text):
        raise InvalidInput(
            f"`{str(text)[:80]}` is not a tag", advice="use dotted names such as `pii.email`"
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class DatasetRef:
    """`tenant/name` or `tenant/name@version` (version None = the newest, pinned by a Grant)."""

    tenant: str
    name: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> DatasetRef:
        """Read `tenant/name[@version]`; raises InvalidInput."""
        if not isinstance(text, str):
            raise InvalidInput("a dataset reference is text", advice="write `tenant/name`")
        path, at, version = text.partition("@")
        tenant, slash, name = path.partition("/")
        if not slash or (at and not _VERSION.match(version)):
            raise InvalidInput(
                f"`{text[:160]}` is not a dataset reference",
                advice="write `tenant/name` or `tenant/name@3`",
            )
        return cls(
            parse_name(tenant, what="tenant"),
            parse_name(name, what="dataset"),
            int(version) if at else None,
        )

    def __str__(self) -> str:
        at = f"@{self.version}" if self.version is not None else ""
        return f"{self.tenant}/{self.name}{at}"

    @property
    def unversioned(self) -> DatasetRef:
        """The dataset itself."""
        return DatasetRef(self.tenant, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One top-level column of a version. Tags bind to `field_id`, which a rename keeps."""

    field_id: int  # 1-based, unique within the dataset over all its versions
    name: str
    type: str  # the Arrow type as text: `int64`, `fixed_size_list<int32>[1024]`
    nullable: bool = True
    tags: tuple[str, ...] = ()  # sorted; () = unclassified, hence `restricted`
    # Its name meant another column in an earlier version (and, with present tags, nobody has
    # classified it since): rules that name it were written about other data.
    renewed: bool = False

    @property
    def effective_tags(self) -> tuple[str, ...]:
        """The tags rules see: unclassified columns are `restricted`."""
        return self.tags or (UNCLASSIFIED_TAG,)


def next_field_ids(
    known: Iterable[Column], first_new: int, columns: Iterable[tuple[str, str]]
) -> tuple[int, ...]:
    """Field ids of the next version: a column keeps its id while name and type stay.

    Anything else, also a name that comes back, is a new column, so that what was said of the
    old one (tags, grants) is never said of other data.

    Args:
        known: columns of the newest version.
        first_new: above every id that the dataset ever used.
        columns: (name, type) of the next version's columns, in order.
    """
    same = {(column.name, column.type): column.field_id for column in known}
    new = itertools.count(first_new)
    return tuple(same[column] if column in same else next(new) for column in columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A named, disjoint part of a version (a group of shards)."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealing:
    """How the rows of a version came into its splits; an append deals its rows the same way."""

    column: str | None = None  # equal values stay together; with `names_split` its values name them
    names_split: bool = False
    shares: tuple[tuple[str, str], ...] = ()  # (split, fraction as text); () = no fractions

    def __post_init__(self) -> None:
        """Refuse wishes that contradict each other or do not make a whole."""
        names = [parse_name(name, what="split") for name, _ in self.shares]
        if self.names_split and (self.column is None or names):
            raise InvalidInput("a split column leaves nothing to `--splits` and `--split-by`")
        if self.column is not None and not self.names_split and not names:
            raise InvalidInput("`--split-by` needs `--splits`", advice="add `--splits a=.8,b=.2`")
        shares = [float(share) for _, share in self.shares]
        is_whole = all(0 < s <= 1 for s in shares) and abs(sum(shares) - 1) < _SHARE_ERROR_MAX
        if names and (not is_whole or len(set(names)) != len(names) or len(names) > SPLITS_MAX):
            raise InvalidInput(
                "the shares of the splits do not make a whole",
                advice=f"give at most {SPLITS_MAX} distinct names and shares that add up to 1: "
                "`train=.8,test=.2`",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """What the journal fixed about one registered version (immutable)."""

    ref: DatasetRef  # with version
    dataset_id: str  # uuid hex, never reused
    columns: tuple[Column, ...]  # as registered: without tags
    splits: tuple[Split, ...]
    rows: int
    bytes: int  # sealed bytes of the shards
    shards: int
    profile: str  # `train` | `archive`
    manifest_digest: str  # SHA-256 hex of the canonical Manifest
    sheet_generation: int  # of the KeySheet in the vault; an older one is refused
    registered_at: str  # ISO 8601 UTC
    registered_by: str  # subject id; "" when it was erased
    manifest_key: str = ""  # of the Manifest in the object store
    card_digest: str | None = None  # SHA-256 hex of the provenance card, which stands sealed
    dealing: Dealing | None = None  # None: nobody recorded it
    registration: str | None = None  # the one that made it: its retry finds the version
    request_digest: str | None = None  # keyed, of what that registration asked for
    origins: tuple[DatasetRef, ...] = ()  # versions that this or an earlier one was made from


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What is, of a dataset: the fold of its events."""

    tenant: str
    name: str
    dataset_id: str
    tags: dict[int, tuple[str, ...]] = field(default_factory=dict)  # field_id -> sorted tags
    versions: tuple[DatasetVersion, ...] = ()  # ascending, never empty once visible
    suspended: bool = False
    last_version: int = 0  # the highest number ever given, erased or not
    erased_columns: tuple[
        tuple[str, int], ...
    ] = ()  # (name, field id) that no version has now; 0: of an erased dataset of this name
    card: dict[str, object] = field(default_factory=dict)
    hints: dict[int, Hint] = field(default_factory=dict)  # field_id -> what its values look like
    owners: tuple[str, ...] = ()  # `tenant/name` or `tenant/role:NAME`: whom to ask
    contact: str = ""
    released: dict[str, int] = field(default_factory=dict)  # what was made from it: up to where

    @property
    def next_field_id(self) -> int:
        """Above all that the dataset ever used, erased columns too."""
        used = [column.field_id for version in self.versions for column in version.columns]
        return max((*used, *(field_id for _, field_id in self.erased_columns)), default=0) + 1

    @property
    def newest(self) -> DatasetVersion:
        """The highest version."""
        return self.versions[-1]

    def columns_of(self, version: DatasetVersion) -> tuple[Column, ...]:
        """The version's columns with the dataset's present tags."""
        return tuple(
            replace(c, tags=tags, renewed=c.renewed and not tags)
            for c in version.columns
            for tags in (self.tags.get(c.field_id, ()),)
        )
