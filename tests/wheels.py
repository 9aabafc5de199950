"""Distributions made by a test: built as wheels, and installed into a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path

from hatchling.build import build_wheel


def wheel_of(project: Path, into: Path) -> Path:
    """As ``pip wheel --no-deps --no-build-isolation`` does, in a tenth of the time."""
    into.mkdir(exist_ok=True)
    with chdir(project):
        return into / build_wheel(str(into))


def install(wheels: Iterable[Path], target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*command, *map(str, wheels)], check=True, capture_output=True)


def environment(target: Path) -> dict[str, str]:
    """Of a process that sees what is installed in ``target``."""
    return os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
