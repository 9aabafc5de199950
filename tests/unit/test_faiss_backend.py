"""Which accident happened to FAISS."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from occframe.errors import OccframeError
from occframe_faiss.backend import gpu_numbers, load_faiss

faiss = load_faiss()


class Wheel:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends that these wheels are installed, with this on the import path."""

    def pretend(wheels: list[str], module: types.ModuleType | None) -> None:
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: [Wheel(name) for name in wheels])
        monkeypatch.setitem(sys.modules, "faiss", module)  # type: ignore[arg-type]

    return pretend


def empty_folder(path: Path) -> types.ModuleType:
    module = types.ModuleType("faiss")
    module.__path__ = [str(path / "faiss")]
    return module


@pytest.mark.parametrize(
    ("wheels", "empty", "message", "remedy"),
    [
        ([], False, "FAISS is not installed", r"pip install \"occframe\[cpu\]\".*matcher: torch"),
        ([], True, "the folder .*faiss is empty: it is what an uninstall left behind", "delete that folder"),
        (["faiss-cpu"], True, "faiss-cpu lost its files", "--force-reinstall --no-deps faiss-cpu"),
        (
            ["faiss-cpu", "faiss-gpu"],
            True,
            "faiss-cpu and faiss-gpu are both installed and overwrite each other",
            "pip uninstall -y faiss-cpu faiss-gpu",
        ),
    ],
)
def test_each_accident_is_told_with_its_way_out(
    install: Any, tmp_path: Path, wheels: list[str], empty: bool, message: str, remedy: str
) -> None:
    install(wheels, empty_folder(tmp_path) if empty else None)
    with pytest.raises(OccframeError, match=message) as caught:
        load_faiss()
    assert caught.value.remedy
    assert re.search(remedy, caught.value.remedy)


def test_a_gpu_that_faiss_cannot_use_is_told_once(install: Any) -> None:
    install(["faiss-cpu"], faiss)
    assert gpu_numbers(faiss, "cpu") == []
    with pytest.warns(RuntimeWarning, match=r"cannot use cuda:0 and searches on the CPU; .*uninstall -y faiss-cpu"):
        assert gpu_numbers(faiss, "cuda:0") == []
