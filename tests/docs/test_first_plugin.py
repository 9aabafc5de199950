"""The tutorial is followed to the letter: the file, the check, the run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "first-plugin.md").read_text(encoding="utf-8")


def block(beginning: str) -> str:
    found = re.search(rf"```\w+\n({re.escape(beginning)}.*?)```", TEXT, re.DOTALL)
    assert found, beginning
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "my_occlusion.py").write_text(block("# my_occlusion.py"))
    (folder / "pipeline.yaml").write_text(block("plugins:"))
    return folder


def occframe(folder: Path, *arguments: str) -> str:
    assert f"occframe {' '.join(arguments)}" in TEXT
    command = [sys.executable, "-m", "occframe", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_has_20_lines() -> None:
    lines = [line for line in block("# my_occlusion.py").splitlines()[1:] if line.strip()]
    assert len(lines) <= 20


def test_it_conforms(folder: Path) -> None:
    assert "conforms" in occframe(folder, "plugins", "check", "my_occlusion.py").splitlines()[-1]


def test_it_runs(folder: Path) -> None:
    assert "rank-1" in occframe(folder, "run", "pipeline.yaml")
