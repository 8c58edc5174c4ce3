"""Whom rows are about: the column of persons as keyed tags; the ids themselves are kept nowhere.

Canonical ids as in domain/person.py, for whole Arrow columns at once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.crypto.person_index import Place, Writer, leaf_of
from gateway.crypto.person_tags import Tagger
from gateway.domain.person import ID_BYTES_MAX, ID_CHARS_MAX, fixed_bytes, holds_ids
from gateway.errors import SourceRefused
from gateway.shards.types import type_text

KEY_BYTES = 32


def require_ids(kind: Any, name: str) -> None:
    """Raise SourceRefused unless a column of this type can say whom a row is about."""
    if not holds_ids(type_text(kind)):
        raise SourceRefused(
            f"the column `{name[:80]}` of persons has the type `{type_text(kind)[:80]}`",
            advice="ids of persons are text, whole numbers, or of fixed length such as UUIDs",
        )


def tagged(tagger: Tagger, column: Any) -> tuple[Any, Any]:
    """The tag of each row (uint64), and which rows are about somebody (bool).

    Raises:
        SourceRefused: an id is longer than any may be.
    """
    known = ~np.asarray(column.is_null())
    data, offsets = _canonical(column.fill_null(_nobody(column.type)))
    return tagger.tags(data, offsets), known


def _nobody(kind: Any) -> Any:
    size = fixed_bytes(type_text(kind))
    return "" if pa.types.is_string(kind) else 0 if size is None else bytes(size)


def _canonical(column: Any) -> tuple[Any, Any]:
    """Bytes of all ids one after the other, and where each begins and ends."""
    size = fixed_bytes(type_text(column.type))
    if size is not None:
        raw = np.frombuffer(column.buffers()[1], np.uint8)
        raw = raw[column.offset * size : (column.offset + len(column)) * size]
        digits = np.frombuffer(raw.tobytes().hex().encode(), np.uint8)
        return digits, np.arange(len(column) + 1, dtype=np.int64) * (2 * size)
    text = column if pa.types.is_string(column.type) else pc.cast(column, pa.string())
    if not pc.all(pc.string_is_ascii(text), min_count=0).as_py():
        text = pc.utf8_normalize(text, form="NFC")
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    if len(text) and int(np.diff(offsets).max()) > ID_BYTES_MAX:
        raise SourceRefused(
            f"an id of a person is longer than {ID_CHARS_MAX} characters",
            advice="name another column with --person-column",
        )
    data = text.buffers()[2]
    return np.frombuffer(data if data is not None else b"", np.uint8), offsets.astype(np.int64)


@dataclass(slots=True)
class ShardPersons:
    """The person index of one shard that is being written."""

    path: Path
    dataset_id: str
    shard: str
    field_id: int
    tagger: Tagger
    column: str
    block_rows: int
    key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES), repr=False)
    _file: BinaryIO = field(init=False)
    _writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        self._file = self.path.open("xb")
        place = Place(dataset_id=self.dataset_id, shard=self.shard, leaf=leaf_of(self.field_id))
        self._writer = Writer(self._file, self.key, place, self.block_rows)

    def add(self, batch: Any) -> None:
        """Rows of the shard, in order."""
        self._writer.add(*tagged(self.tagger, batch.column(self.column)))

    def finish(self) -> None:
        """Seal the rest and close the file."""
        self._writer.finish()
        self._file.close()
