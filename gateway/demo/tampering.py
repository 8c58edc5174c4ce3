"""Scene: the storage administrator changes stored bytes, and nobody is given wrong data.

This is the only scene that reaches around the gateway: it plays someone who can write to the
object store, but has no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.demo.cast import ANALYST, OWNER, RAND, TOKENS, Play, folder
from gateway.demo.learning import job
from gateway.demo.stage import answer_of
from gateway.demo.steps import Seen, Step, expect

_ENCRYPTED = b"PARE"  # Parquet with an encrypted footer
REFUSALS = {"integrity", "stream-broken"}


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    titles: tuple[tuple[str, str, Callable[[], Seen]], ...] = (
        ("tamper-swap", "two shards are swapped: refused", lambda: _swapped(play)),
        ("tamper-flip", "one bit of a shard is flipped: refused", lambda: _flipped(play)),
        (
            "tamper-rollback",
            "the shard of version 1 is put in place of version 2's: refused",
            lambda: _rolled_back(play),
        ),
    )
    return [Step(name=name, title=title, act=act) for name, title, act in titles]


def _swapped(play: Play) -> Seen:
    one, two = _shards(play.facts[RAND]["objects"])[:2]
    with _in_place_of(one, two.read_bytes()), _in_place_of(two, one.read_bytes()):
        code = _refused(play, f"{RAND}@1", ["mdvis", "coins"], "health-research")
    rows = _read(play, f"{RAND}@1", ["mdvis", "coins"], "health-research")["rows"]
    return Seen(
        text=f"two shards swapped: REFUSED ({code}); put back, {rows:,} rows are read",
        facts={"refused": code, "rows_after": rows},
    )


def _flipped(play: Play) -> Seen:
    shard = max(_shards(play.facts[TOKENS]["objects"]), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    with _in_place_of(shard, bytes(data)):
        code = _refused(play, TOKENS, ["tokens"], "research")
    return Seen(
        text=f"one bit of {len(data) / 1e6:.0f} MB flipped: REFUSED ({code})",
        facts={"refused": code},
    )


def _rolled_back(play: Play) -> Seen:
    before = set(play.stage.shards())
    again = play.client(OWNER).datasets.register(
        RAND,
        play.prepared[RAND].path,
        splits={"train": 0.8, "test": 0.2},
        split_by="zper",
        person_column="zper",
    )
    expect(again.version == 2, f"the new version is {again.version}")  # noqa: PLR2004
    new = _shards(sorted(set(play.stage.shards()) - before))
    old = _shards(play.facts[RAND]["objects"])
    with _in_place_of(new[0], old[0].read_bytes()), _in_place_of(new[1], old[1].read_bytes()):
        code = _refused(play, f"{RAND}@2", ["mdvis", "disea"], "health-research")
    rows = _read(play, f"{RAND}@2", ["mdvis", "disea"], "health-research")["rows"]
    return Seen(
        text=f"version 1's shards in place of version 2's: REFUSED ({code}); put back, "
        f"{rows:,} rows are read",
        facts={"refused": code, "rows_after": rows},
    )


def _shards(objects: list[Path]) -> list[Path]:
    """Those of the stored objects that are sealed Parquet, by falling size."""
    sealed = [path for path in objects if path.read_bytes()[: len(_ENCRYPTED)] == _ENCRYPTED]
    return sorted(sealed, key=lambda path: path.stat().st_size, reverse=True)


@contextmanager
def _in_place_of(path: Path, data: bytes) -> Iterator[None]:
    """Other bytes under the name of an object, for a while."""
    original, mode = path.read_bytes(), path.stat().st_mode
    _overwrite(path, data)
    try:
        yield
    finally:
        _overwrite(path, original)
        path.chmod(mode)


def _overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def _refused(play: Play, dataset: str, columns: list[str], purpose: str) -> str:
    last = _read(play, dataset, columns, purpose)
    code = str(last.get("stopped"))
    expect(code in REFUSALS, f"the reader was told {last}")
    return code


def _read(play: Play, dataset: str, columns: list[str], purpose: str) -> dict[str, Any]:
    wanted = job(
        play,
        ANALYST,
        task="read",
        dataset=dataset,
        purpose=purpose,
        columns=columns,
        batch_rows=4_096,
        run="run:demo-read",
    )
    return answer_of(play.stage.program(folder(ANALYST), "gateway.demo.trainer", wanted))[-1]
