"""Which accident happened to FAISS, and the index on a GPU as far as it can be checked without one."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe_faiss.backend import gpu_number, load_faiss
from occframe_faiss.configs import FaissConfig
from occframe_faiss.matcher import FaissMatcher

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
    assert gpu_number(faiss, "cpu") is None
    with pytest.warns(RuntimeWarning, match=r"cannot use cuda:0 and searches on the CPU; .*uninstall -y faiss-cpu"):
        assert gpu_number(faiss, "cuda:0") is None


class PretendGpuFlat:
    """What ``GpuIndexFlatIP`` offers, with its limits: no ids, no removal, at most 2048 hits."""

    def __init__(self, resources: Any, dim: int, options: Any) -> None:
        assert options.device == 1
        self.half = options.useFloat16
        self._inner = faiss.IndexFlatIP(dim)

    @property
    def ntotal(self) -> int:
        return int(self._inner.ntotal)

    def add(self, vectors: np.ndarray) -> None:
        assert vectors.dtype == np.float32
        self._inner.add(vectors.astype(np.float16).astype(np.float32) if self.half else vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if k > 2048:
            raise RuntimeError("GPU index only supports min/max-K selection up to 2048")
        return self._inner.search(queries, k)  # type: ignore[no-any-return]

    def reconstruct_n(self, start: int, count: int) -> np.ndarray:
        return self._inner.reconstruct_n(start, count)  # type: ignore[no-any-return]


@pytest.fixture
def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = types.SimpleNamespace(setTempMemory=lambda size: None)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: resources, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatConfig", types.SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatIP", PretendGpuFlat, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)


@pytest.mark.usefixtures("pretend_gpu")
@pytest.mark.parametrize("profile", ["flat", "fp16"])
def test_a_gpu_index_saves_removes_and_opens_on_a_cpu(profile: Any, tmp_path: Path) -> None:
    registry = PluginRegistry.discover(only=["faiss"])
    on_gpu = BuildContext(registry, device="cuda:1")
    vectors = np.eye(400, dtype=np.float32)
    ids = [f"p{row:03}" for row in range(400)]
    matcher = FaissMatcher(FaissConfig(profile=profile), on_gpu)
    matcher.add(ids[:300], vectors[:300])
    matcher.add(ids[300:], vectors[300:].astype(np.float16))
    matcher.remove(ids[:290])
    found = matcher.search(vectors[295:297], 2)
    assert found.ids[:, 0].tolist() == ["p295", "p296"]
    assert len(matcher) == 110
    matcher.save(str(tmp_path))
    for device in ("cpu", "cuda:1"):
        opened = FaissMatcher(FaissConfig(profile=profile), BuildContext(registry, device=device))
        opened.load(str(tmp_path))
        assert opened.search(vectors[295:297], 2).ids[:, 0].tolist() == ["p295", "p296"]
        assert len(opened) == 110


@pytest.mark.usefixtures("pretend_gpu")
def test_more_hits_than_a_gpu_returns() -> None:
    registry = PluginRegistry.discover(only=["faiss"])
    matcher = FaissMatcher(FaissConfig(), BuildContext(registry, device="cuda:1"))
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2200, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matcher.add([str(row) for row in range(2200)], vectors)
    with pytest.raises(OccframeError, match="k is 2049, and FAISS returns at most 2048 hits on a GPU"):
        matcher.search(vectors[:1], 2049)
    matcher.remove(["0", "1"])
    assert "" not in matcher.search(vectors[:1], 2048).ids
    matcher.remove([str(row) for row in range(2, 200)])
    # More than there is: what is there fits.
    assert (matcher.search(vectors[:1], 3000).ids == "").sum() == 1000
