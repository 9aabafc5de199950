"""A writer killed at random instants loses nothing committed; ``benchmarks/gallery_kill.py`` does it 200 times."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gallery_kill import kill_often


def test_every_promise_holds_after_each_of_twenty_kills(tmp_path: Path) -> None:
    report = kill_often(tmp_path, kills=20, seed=7)
    assert report["kills"] == 20
    assert report["changes_done"] > 20
