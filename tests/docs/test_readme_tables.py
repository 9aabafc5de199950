from __future__ import annotations

from pathlib import Path

from occframe.bench.tables import render_blocks

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_tables_are_those_of_the_committed_results():
    assert README.read_text() == render_blocks(README), "run: occframe bench fill README.md"
