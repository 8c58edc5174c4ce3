"""A parser that hostile bytes have taken over can lie, not more: sealer and control refuse."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import SourceRefused
from gateway.process import confine
from gateway.process.spawn import Child, Launch
from gateway.shards import ingest, watch
from gateway.shards.ingest import seal_upload
from tests.shards import liar
from tests.shards.kit import job_of, seal
from tests.shards.warm import Zygote

LIES = sorted(
    name
    for name, function in inspect.getmembers(liar, inspect.isfunction)
    if not name.startswith("_") and name != "main"
)
BOUNDED_BY_TIME = ("silence", "one_row_now_and_then", "a_loop")


class LyingParser:
    """Starts the liar in the parser's place."""

    def __init__(self, zygote: Zygote, lie: str) -> None:
        self.zygote, self.lie, self.pids = zygote, lie, list[int]()

    def spawn(self, launch: Launch, *, stderr: int | None = None) -> Child:
        if launch.module == "gateway.shards.parser":
            launch = replace(launch, module="tests.shards.liar", options={"lie": self.lie})
        child = self.zygote.spawn(launch, stderr=stderr)
        self.pids.append(child.process.pid)
        return child


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie not in BOUNDED_BY_TIME])
def test_what_a_parser_says_is_refused_when_it_is_a_lie(
    lie: str, warm: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = LyingParser(warm, lie)
    monkeypatch.setattr(ingest, "spawn", parser.spawn)
    job = job_of(tmp_path, [b"a,t\n1,x\n"])
    with pytest.raises(SourceRefused) as refusal:
        seal_upload(job, lambda _f, _t: None)
    assert refusal.value.advice
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 600
    assert not any(Path(f"/proc/{pid}").exists() for pid in parser.pids)


@pytest.mark.parametrize("lie", BOUNDED_BY_TIME)
def test_a_parser_that_never_comes_to_an_end_is_ended(
    lie: str, warm: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "spawn", LyingParser(warm, lie).spawn)
    monkeypatch.setattr(watch, "SILENCE_SECONDS_MAX", 600.0 if lie != "silence" else 0.5)
    monkeypatch.setattr(ingest, "PARSER_SECONDS", 1)
    wait = {"one_row_now_and_then": -ingest.SEALER_SECONDS}.get(lie, 600)
    monkeypatch.setattr(ingest, "_WAIT_SECONDS", wait)
    with pytest.raises(SourceRefused) as refusal:
        seal(tmp_path, b"a,t\n1,x\n")
    why = "processor time" if lie == "a_loop" else "no progress"
    assert why in refusal.value.message


def test_the_next_registration_works(warm: Zygote, tmp_path: Path) -> None:
    del warm
    assert seal(tmp_path, b"a,t\n1,x\n").rows == 1


def test_the_same_program_passes_when_it_is_honest(
    warm: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "spawn", LyingParser(warm, "_honest").spawn)
    assert seal(tmp_path, b"a,t\n1,x\n").rows == 3


@pytest.mark.skipif(bool(confine.missing()), reason="this system cannot confine children fully")
def test_a_parser_reaches_no_file_no_network_no_program_and_no_other_process(
    warm: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "spawn", LyingParser(warm, "_reach_out").spawn)
    with pytest.raises(SourceRefused, match=r"reached: nothing$"):
        seal(tmp_path, b"a,t\n1,x\n")


def test_a_path_or_url_in_a_file_is_a_value_and_nothing_more(warm: Zygote, tmp_path: Path) -> None:
    del warm
    urls = b"a\nfile:///etc/passwd\ns3://bucket/key\nhttp://169.254.169.254/\n/etc/passwd\n"
    assert seal(tmp_path, urls).rows == 4
