"""How many persons a Plan's rows are about, and how many it tells apart from earlier Plans.

Parent side: a child (counter.py) reads the column of persons and the filters' columns of the
sealed shards, and says numbers only. Rows stand for persons where a dataset has no such column.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.manifest import Leaf, Manifest
from gateway.domain.rowfilter import Filter, columns_of
from gateway.errors import IntegrityError, InvalidInput, Unavailable
from gateway.process.spawn import Child, Confinement, Launch, spawn
from gateway.shards.watch import ChildStopped, Watched, error_of, next_message

_RESIDENT_MAX = 800 << 20
_DATA_BYTES_MAX = 2 << 30
_OPEN_FILES_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The rows of one Plan."""

    manifest: Manifest
    split: str | None
    row_filter: Filter | None
    person: int | None  # field id of the column of persons; None: rows are counted
    paths: Mapping[str, str] = field(default_factory=dict)  # shard id -> path on this host
    deks: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def fields(self) -> frozenset[int]:
        """Field ids that must be read."""
        ids = {column.name: column.field_id for column in self.manifest.columns}
        read = () if self.row_filter is None else columns_of(self.row_filter)
        if not set(read) <= ids.keys():
            raise InvalidInput("the row filter reads a column that the version does not have")
        person = set() if self.person is None else {self.person}
        return frozenset(person | {ids[name] for name in read})

    def leaves(self) -> tuple[Leaf, ...]:
        """Leaves whose keys the child needs: none when nothing is read."""
        ids = self.fields()
        shards = self.manifest.shards_of(self.split) if ids else ()
        return tuple(leaf for s in shards for leaf in (s.footer, *s.leaves_of(ids)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the child found; None: it cannot be known."""

    size: int
    differences: tuple[int | None, ...]  # from each other set, in the order given


def count(sets: Sequence[Released]) -> Counted:
    """Count the first set, and by how many persons it differs from each of the others.

    Raises:
        IntegrityError: a shard, page or key is not the recorded one.
        InvalidInput: a filter does not fit, or a row is about nobody.
        Unavailable: the child could not work; there may be too many persons.
    """
    with contextlib.ExitStack() as stack:
        child = stack.enter_context(_counter(sets))
        child.channel.send("count", sets=len(sets))
        for each in sets:
            _send(child, each)
        try:
            message = next_message(child, (Watched(child, _RESIDENT_MAX),))
        except ChildStopped as cause:
            raise Unavailable(f"counting stopped ({cause.why})") from cause
    if message.kind != "counted":
        raise error_of(message, (IntegrityError, InvalidInput, Unavailable))
    size, differences = message.body["size"], message.body["differences"]
    numbers = [size, *(d for d in differences if d is not None)]
    if len(differences) != len(sets) - 1 or not all(type(n) is int and n >= 0 for n in numbers):
        raise IntegrityError("the counts make no sense")
    return Counted(size=size, differences=tuple(differences))


def _counter(sets: Sequence[Released]) -> Child:
    paths = {path for each in sets for path in each.paths.values()}
    return spawn(
        Launch(
            module="gateway.shards.counter",
            confinement=Confinement(
                data_bytes_max=_DATA_BYTES_MAX,
                open_files_max=_OPEN_FILES_MAX,
                read_paths=tuple(sorted(paths)),
            ),
        )
    )


def _send(child: Child, each: Released) -> None:
    deks = {leaf.dek: each.deks[leaf.dek] for leaf in each.leaves()}
    child.channel.send(
        "set",
        b"".join((*deks.values(), each.manifest.to_bytes())),
        split=each.split,
        row_filter=each.row_filter,
        person=each.person,
        paths=dict(each.paths),
        deks=list(deks),
    )
