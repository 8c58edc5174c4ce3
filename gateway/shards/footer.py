"""What a Parquet footer says, held against itself before anything rests on it. Parser only.

pyarrow believes the footer: counts that disagree give fewer rows without a word, and a column
that others encrypted ends the process when its statistics are touched.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import SourceRefused

_TAIL_BYTES = 8  # length of the footer, `PAR1`
_SIGNATURE_BYTES = 28  # after the footer of a file whose columns are encrypted, footer in clear
_WRITE_AGAIN = "write the file again; its footer is wrong"


def check_footer(file: Any, parquet: Any) -> None:
    """Refuse a file that others encrypted, and counts that contradict each other.

    Args:
        file: the bytes, with `size`.
        parquet: the same as an open pq.ParquetFile.

    Raises:
        SourceRefused: with an advice.
    """
    metadata = parquet.metadata
    file.seek(file.size - _TAIL_BYTES)
    stated = int.from_bytes(bytes(file.read(4)), "little")
    if stated == metadata.serialized_size + _SIGNATURE_BYTES:
        raise SourceRefused("columns of the Parquet file are encrypted", advice=DECRYPT)
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    if sum(group.num_rows for group in groups) != metadata.num_rows:
        raise SourceRefused(
            f"the Parquet footer says {metadata.num_rows} rows, its row groups say otherwise",
            advice=_WRITE_AGAIN,
        )
    flat = [n for n in range(metadata.num_columns) if not _repeats(parquet, n)]
    for number, group in enumerate(groups):
        if any(group.column(n).num_values != group.num_rows for n in flat):
            raise uneven(number)


def _repeats(parquet: Any, column: int) -> bool:
    return bool(parquet.schema.column(column).max_repetition_level)


def uneven(group: int) -> SourceRefused:
    """The columns of a row group do not have the rows that the footer states."""
    return SourceRefused(
        f"columns of row group {group} have other numbers of rows than the footer says",
        advice=_WRITE_AGAIN,
    )


DECRYPT = "add `--decrypt-with KEYS.json`: it is opened where you are, its keys stay there"
