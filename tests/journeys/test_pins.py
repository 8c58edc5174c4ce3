"""A machine that was restored from a backup as a whole, seen by an auditor who saw more."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.client import GatewayClient
from gateway.errors import IntegrityError, LogForked
from tests.journeys.home import Home


def test_a_gateway_rolled_back_as_a_whole_is_refused_by_who_saw_more(
    home: Home, tmp_path: Path
) -> None:
    auditor_state = tmp_path / "auditor"

    def auditor() -> GatewayClient:
        return GatewayClient(settings=replace(home.settings, state_dir=auditor_state))

    home.start()
    kept = auditor().lineage.verify()
    assert kept.pinned
    assert auditor().lineage.verify(since=f"{kept.note}").continues == kept.size
    check_edited_notes_are_refused_by_their_signature(auditor(), kept.note)
    home.stop()
    backup = [shutil.copytree(tmp_path / n, tmp_path / f"{n}.backup") for n in ("state", "config")]
    home.start()
    asked = auditor().lineage.ask("who-read")
    assert asked.facts["as_of_index"] > 0
    home.stop()
    for kept in backup:
        shutil.rmtree(kept.with_suffix(""))
        kept.rename(kept.with_suffix(""))
    home.start()  # every signature, chain and anchor holds
    assert home.client().lineage.verify().size > 0
    for act in (
        lambda: auditor().lineage.ask("who-read"),
        lambda: auditor().lineage.query("SELECT 1"),
        lambda: auditor().lineage.trace("home/icu"),
        lambda: auditor().lineage.report("usage"),
        auditor().lineage.verify,
    ):
        with pytest.raises(LogForked):
            act()
    home.stop()


def check_edited_notes_are_refused_by_their_signature(auditor: GatewayClient, note: str) -> None:
    """Before a word of it is believed, such as a size that the log does not have yet."""
    origin, size, root, *rest = note.split("\n")
    for lines in (
        (origin, str(int(size) + 1_000_000), root, *rest),
        (origin, size, root[::-1], *rest),
        (origin, size, root, "", "\u2014 nobody AAAAAAAA", ""),
    ):
        with pytest.raises(IntegrityError, match=f"not as `{origin}` signed it") as refused:
            auditor.lineage.verify(since="\n".join(lines))
        assert "copy that you keep elsewhere" in refused.value.advice
