"""Whether any row of a person passes a row filter. Parent side.

A child (person_rows.py) reads the column of persons and the filter's columns of the shards
that hold the person, and says yes or no. It finds the rows by the person's tag: no id is sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.manifest import Leaf, Manifest, Shard
from gateway.domain.rowfilter import Filter, columns_of
from gateway.errors import IntegrityError, InvalidInput, Unavailable
from gateway.process.spawn import Confinement, Launch, spawn
from gateway.shards.watch import ChildStopped, Watched, error_of, next_message

_RESIDENT_MAX = 400 << 20
_DATA_BYTES_MAX = 1 << 30
_OPEN_FILES_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The rows of one person in some shards of a version, and a filter."""

    manifest: Manifest
    shards: tuple[Shard, ...]
    row_filter: Filter
    person: int  # field id of the column of persons
    tag: int  # of the person
    tag_key: bytes = field(default=b"", repr=False)  # of the dataset
    paths: Mapping[str, str] = field(default_factory=dict)  # shard id -> path on this host
    deks: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def fields(self) -> frozenset[int]:
        """Field ids that must be read."""
        ids = {column.name: column.field_id for column in self.manifest.columns}
        names = columns_of(self.row_filter)
        if not set(names) <= ids.keys():
            raise InvalidInput("the row filter reads a column that the version does not have")
        return frozenset({self.person, *(ids[name] for name in names)})

    def leaves(self) -> tuple[Leaf, ...]:
        """Leaves whose keys the child needs."""
        ids = self.fields()
        return tuple(leaf for s in self.shards for leaf in (s.footer, *s.leaves_of(ids)))


def passes(search: Search) -> bool:
    """Whether the filter lets any row of the person through.

    Raises:
        IntegrityError: a shard, page or key is not the recorded one.
        InvalidInput: the filter does not fit the columns.
        Unavailable: the child could not work.
    """
    launch = Launch(
        module="gateway.shards.person_rows",
        confinement=Confinement(
            data_bytes_max=_DATA_BYTES_MAX,
            open_files_max=_OPEN_FILES_MAX,
            read_paths=tuple(sorted(search.paths.values())),
        ),
    )
    with contextlib.ExitStack() as stack:
        child = stack.enter_context(spawn(launch))
        keys = [search.deks[leaf.dek] for leaf in search.leaves()]
        child.channel.send(
            "search",
            b"".join((search.tag_key, *keys, search.manifest.to_bytes())),
            shards=[shard.id for shard in search.shards],
            row_filter=search.row_filter,
            person=search.person,
            tag=search.tag,
            paths=dict(search.paths),
            deks=[leaf.dek for leaf in search.leaves()],
        )
        try:
            message = next_message(child, (Watched(child, _RESIDENT_MAX),))
        except ChildStopped as cause:
            raise Unavailable(f"the search stopped ({cause.why})") from cause
    if message.kind != "found" or type(message.body.get("passes")) is not bool:
        raise error_of(message, (IntegrityError, InvalidInput, Unavailable))
    return bool(message.body["passes"])
