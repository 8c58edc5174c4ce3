from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from gateway.domain.events import EventKind, canonical, parse
from gateway.errors import GatewayError
from gateway.journal import recovery
from gateway.journal.composer import leaf_bytes, read_event
from gateway.journal.verification import verify

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
EVENTS = sorted((VECTORS / "event-v0").iterdir())
JOURNALS = sorted((VECTORS / "journal-v0").iterdir())


def name(path: Path) -> str:
    return path.stem


def unpacked(path: Path, base: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads(path.read_text())
    for folder in ("journal", "anchor"):
        (base / folder).mkdir()
        files = value[folder]
        assert isinstance(files, dict)
        for file, data in files.items():
            (base / folder / file).write_bytes(base64.b64decode(data))
    return value


def test_there_are_enough_vectors() -> None:
    for paths in (EVENTS, JOURNALS):
        assert sum(p.name.startswith("ok-") for p in paths) >= 3
        assert sum(p.name.startswith("bad-") for p in paths) >= 5


def test_every_kind_of_event_has_a_vector() -> None:
    kinds = {parse(path.read_bytes()).kind for path in EVENTS if path.name.startswith("ok-")}
    assert kinds == set(EventKind)


@pytest.mark.parametrize("path", EVENTS, ids=name)
def test_every_event_vector_is_judged_as_it_says(path: Path) -> None:
    data = path.read_bytes()
    if path.name.startswith("ok-"):
        event = parse(data)
        assert canonical(event.envelope()) == data
        assert leaf_bytes(event) == data
        assert read_event(data, event.index, event.node) == event
        return
    with pytest.raises(GatewayError) as refused:
        parse(data)
    assert path.name.startswith(f"bad-{refused.value.code}-")
    with pytest.raises(GatewayError):
        read_event(data, 4, "n1")


@pytest.mark.parametrize("path", JOURNALS, ids=name)
def test_every_journal_vector_is_judged_as_it_says(path: Path, tmp_path: Path) -> None:
    value = unpacked(path, tmp_path)
    key = bytes.fromhex(str(value["log_key"]))

    def survey() -> recovery.Found:
        return recovery.survey(
            tmp_path / "journal", node="n1", log_key=key, anchors=tmp_path / "anchor"
        )

    if path.name.startswith("ok-"):
        assert survey().size == value["size"]
        assert verify(tmp_path / "journal", key, tmp_path / "anchor").size == value["size"]
        return
    for judge in (survey, lambda: verify(tmp_path / "journal", key, tmp_path / "anchor")):
        with pytest.raises(GatewayError) as refused:
            judge()
        assert path.name.startswith(f"bad-{refused.value.code}-")
