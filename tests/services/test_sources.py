"""Views that cannot be built, and the order of those that are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery.spec import DirectSource, ViewSource
from gateway.errors import GatewayError
from gateway.services import sources
from gateway.services.house import House
from gateway.shards.views import ViewFile


def test_a_view_that_fails_unforeseen_is_told_to_whoever_waits(house: House) -> None:
    broken: Any = None  # neither a Manifest nor a Grant: as if a defect of ours had struck
    house.views.building["key"] = "op_x"
    with pytest.raises(AttributeError):
        asyncio.run(sources._build(house, broken, broken, ("key", "op_x"), lambda *_: None))
    assert isinstance(house.views.failed["key"], GatewayError)
    assert house.views.building == {}


def test_views_are_bounded_by_bytes_and_the_least_recently_used_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "VIEW_BYTES_MAX", 250)
    views = sources.Views()

    def keep(name: str, size: int = 100) -> None:
        path = tmp_path / name
        path.write_bytes(bytes(size))
        made = {"view": name, "path": str(path), "key": bytes(32), "plan_digest": "", "rows": 1}
        views.keep(name, ViewFile(**made, schema=b"", bytes=size, frames=()))

    for name in ("a/1", "b/1"):
        (tmp_path / name).parent.mkdir()
        keep(name)
    assert views.find("a/1") is not None
    keep("a/2")
    assert views.find("b/1") is None
    keep("a/3", 1000)  # one is always kept: somebody waits for it
    assert [path.name for path in tmp_path.glob("*/*")] == ["3"]
    views.drop("a/")
    assert not list(tmp_path.glob("*/*"))
    assert views.find("a/3") is None


def test_a_view_whose_frames_are_cut_otherwise_has_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its blocks are its frames: a position of before the change would miss rows in silence."""
    key = bytes(range(32))
    view = ViewSource(view="v", path="/", key=key, frames=())
    before = sources.bound_to_frames(key, view)
    monkeypatch.setattr(sources, "FRAME_BYTES", sources.FRAME_BYTES * 2)
    pages = DirectSource(columns=(), shards=())
    assert (
        len({before, sources.bound_to_frames(key, view), sources.bound_to_frames(key, pages)}) == 3
    )
    assert sources.bound_to_frames(key, pages) == key
