"""Rows on GPUs as far as they can be checked without one: two pretended cards of 1 MiB each, in the host's memory."""

from __future__ import annotations

import ctypes
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe_faiss import gpu as gpu_module
from occframe_faiss.backend import gpu_numbers, load_faiss
from occframe_faiss.configs import FaissConfig
from occframe_faiss.gpu import GpuRows, brute_force
from occframe_faiss.matcher import FaissMatcher

faiss = load_faiss()
MIB = 2**20
CONTEXT = BuildContext(PluginRegistry.discover(only=["faiss"]), device="cuda:0")


class Cards:
    """What was asked of the cards. limits: of the searches through host memory."""

    def __init__(self) -> None:
        self.scratch: list[int] = []
        self.limits: list[int] = []

    def brute_force(
        self, library: Any, resources: Any, gpu: int, queries: np.ndarray, rows: Any, k: int, limit: int = 0
    ) -> np.ndarray:
        if k > 2048:
            raise RuntimeError("GPU index only supports min/max-K selection up to 2048")
        stored = rows.numpy() if isinstance(rows, torch.Tensor) else rows
        assert stored.dtype == queries.dtype
        self.limits += [limit] if limit else []
        return np.argsort(-(queries.astype(np.float32) @ stored.astype(np.float32).T), axis=1, kind="stable")[:, :k]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    cards = Cards()
    monkeypatch.setattr(
        faiss, "StandardGpuResources", lambda: types.SimpleNamespace(setTempMemory=cards.scratch.append), raising=False
    )
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(gpu_module, "device_of", lambda gpu: torch.device("cpu"))
    monkeypatch.setattr(gpu_module, "free_memory", lambda gpu: MIB)
    monkeypatch.setattr(gpu_module, "brute_force", cards.brute_force)
    return cards


def unit(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def names(count: int) -> list[str]:
    return [f"p{row:05}" for row in range(count)]


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("profile", ["flat", "fp16", "ivf-fp16"])
def test_what_gpus_find_is_what_a_cpu_finds(
    cards: Cards, profile: Any, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []

    def copy(resources: Any, *arguments: Any, **options: Any) -> Any:
        copied.append((arguments, options))
        return faiss.clone_index(next(item for item in arguments if isinstance(item, faiss.Index)))

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copy, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu_multiple_py", copy, raising=False)
    monkeypatch.setattr(faiss, "GpuMultipleClonerOptions", types.SimpleNamespace, raising=False)
    vectors, queries = unit(700), unit(9, seed=1)
    config = FaissConfig(profile=profile, gpus=gpus, lists=4, probes=4)
    on_gpu, on_cpu = FaissMatcher(config, CONTEXT), FaissMatcher(config, BuildContext(CONTEXT.registry))
    for matcher in (on_gpu, on_cpu):
        matcher.prepare(600, 16, lambda count: vectors[:count])
        matcher.add(names(600), vectors[:600])
        matcher.add([f"late {row}" for row in range(100)], vectors[600:].astype(np.float16))
        matcher.remove(names(40))
    found, expected = on_gpu.search(queries, 12), on_cpu.search(queries, 12)
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    on_gpu.remove(names(300)[40:])
    on_cpu.remove(names(300)[40:])
    assert on_gpu.search(queries, 12).ids.tolist() == on_cpu.search(queries, 12).ids.tolist()
    on_gpu.save(str(tmp_path))
    for context in (CONTEXT, BuildContext(CONTEXT.registry)):
        opened = FaissMatcher(config, context)
        opened.load(str(tmp_path))
        assert opened.search(queries, 12).ids.tolist() == on_cpu.search(queries, 12).ids.tolist()
        opened.add(["one more"], vectors[:1])
        assert opened.search(vectors[:1], 1).ids.tolist() == [["one more"]]
    assert set(cards.scratch) == {FaissConfig().gpu_scratch * 2**30}
    if profile == "ivf-fp16":
        assert all((len(options["gpus"]) == 2 if options else gpus == 1) for _, options in copied)
        assert all(arguments[-1].shard for arguments, options in copied if options)


def test_rows_are_spread_over_the_cards_and_reserved_once(cards: Cards) -> None:
    rows = GpuRows(faiss, FaissConfig(gpus=2), 16, True, [0, 1])
    rows.reserve(1001)
    assert [(slab.gpu, len(slab.rows), slab.first) for slab in rows._slabs] == [(0, 501, 0), (1, 500, 501)]
    memory = [slab.rows.data_ptr() for slab in rows._slabs]
    for start in range(0, 1001, 100):
        rows.add(unit(1001)[start : start + 100])
    assert [slab.rows.data_ptr() for slab in rows._slabs] == memory
    _, found = rows.search(unit(1001)[[0, 500, 501, 1000]], 1)
    assert found.ravel().tolist() == [0, 500, 501, 1000]


@pytest.mark.parametrize("announced", [True, False])
def test_what_does_not_fit_stays_in_the_host_and_passes_through(cards: Cards, announced: bool) -> None:
    vectors = unit(40_000)  # 1.2 MiB of float16, and 0.9 MiB are for rows
    rows = GpuRows(faiss, FaissConfig(), 16, True, [0])
    if announced:
        rows.reserve(len(vectors))
    for start in range(0, len(vectors), 4000):
        rows.add(vectors[start : start + 4000])
    assert rows.in_host_memory
    assert len(rows) == 40_000
    _, found = rows.search(vectors[[7, 39_999]], 1)
    assert found.ravel().tolist() == [7, 39_999]
    assert cards.limits == [int(0.9 * MIB / 2)]
    budgeted = GpuRows(faiss, FaissConfig(gpu_memory=1e-5), 16, True, [0])
    budgeted.reserve(1000)
    assert budgeted.in_host_memory


def test_more_hits_than_a_gpu_returns(cards: Cards) -> None:
    matcher = FaissMatcher(FaissConfig(), CONTEXT)
    vectors = unit(2200, 4)
    matcher.add([str(row) for row in range(2200)], vectors)
    with pytest.raises(OccframeError, match="k is 2049, and FAISS returns at most 2048 hits on a GPU"):
        matcher.search(vectors[:1], 2049)
    matcher.remove(["0", "1"])
    assert "" not in matcher.search(vectors[:1], 2048).ids
    matcher.remove([str(row) for row in range(2, 200)])
    # More than there is: what is there fits.
    assert (matcher.search(vectors[:1], 3000).ids == "").sum() == 1000


@pytest.mark.parametrize("profile", ["hnsw", "ivf-rabitq"])
def test_a_profile_that_gpus_do_not_have_runs_on_the_cpu_and_says_so(cards: Cards, profile: Any) -> None:
    matcher = FaissMatcher(FaissConfig(profile=profile, lists=1, probes=1), CONTEXT)
    with pytest.warns(RuntimeWarning, match=f"no `{profile}` for GPUs and searches on the CPU, not cuda:0"):
        matcher.add(names(50), unit(50))
    assert len(matcher) == 50


def test_fewer_gpus_than_asked_for_are_told(cards: Cards) -> None:
    assert gpu_numbers(faiss, "cuda:0", 2) == [0, 1]
    with pytest.warns(RuntimeWarning, match="FAISS sees 2 GPUs, 3 from cuda:1 on are asked for: it searches on 1"):
        assert gpu_numbers(faiss, "cuda:1", 3) == [1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("limit", [0, 4096])
def test_faiss_is_told_where_everything_lies(dtype: type, limit: int) -> None:
    rows, queries = unit(50).astype(dtype), unit(3, seed=1).astype(dtype)
    seen = []

    def array_at(address: int, shape: tuple[int, int]) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)

    def search(resources: Any, task: Any, *limits: int) -> None:
        seen.append((resources, task.device, limits))
        assert task.metric == "inner product"
        assert (task.vectorType, task.queryType) == (f"{np.dtype(dtype)}",) * 2
        assert task.vectorsRowMajor
        assert task.queriesRowMajor
        assert task.outIndicesType == "int64"
        stored = array_at(task.vectors, (task.numVectors, task.dims))
        scores = task.queries.astype(np.float32) @ stored.astype(np.float32).T
        task.outIndices[:] = np.argsort(-scores, axis=1)[:, : task.k]

    library: Any = types.SimpleNamespace(
        GpuDistanceParams=types.SimpleNamespace,
        METRIC_INNER_PRODUCT="inner product",
        DistanceDataType_F16="float16",
        DistanceDataType_F32="float32",
        IndicesDataType_I64="int64",
        cast_integer_to_void_ptr=lambda address: address,
        swig_ptr=lambda array: array,
        bfKnn=search,
        bfKnn_tiling=search,
    )
    expected = np.argsort(-(queries.astype(np.float32) @ rows.astype(np.float32).T), axis=1)[:, :4]
    given: list[Any] = [rows] if limit else [rows, torch.from_numpy(rows)]
    for stored in given:
        assert brute_force(library, "resources", 1, queries, stored, 4, limit).tolist() == expected.tolist()
    assert seen == [("resources", 1, (limit, 0) if limit else ())] * len(given)


@pytest.mark.gpu
@pytest.mark.skipif(
    not (torch.cuda.is_available() and hasattr(faiss, "StandardGpuResources")), reason="no CUDA device or no faiss-gpu"
)
@pytest.mark.parametrize("profile", ["flat", "fp16", "ivf-fp16"])
def test_a_real_gpu_agrees_with_the_cpu(profile: Any) -> None:
    """Scores to float16's tolerance, and ids wherever scores differ by more than it."""
    vectors, queries = unit(50_000, 128), unit(64, 128, seed=1)
    config = FaissConfig(profile=profile, lists=64, probes=64)
    found = []
    for context in (CONTEXT, BuildContext(CONTEXT.registry)):
        matcher = FaissMatcher(config, context)
        matcher.prepare(len(vectors), 128, lambda count: vectors[:count])
        matcher.add(names(len(vectors)), vectors)
        found.append(matcher.search(queries, 50))
    left, right = found
    tolerance = 2e-3
    np.testing.assert_allclose(left.scores, right.scores, atol=tolerance)
    gaps = np.abs(np.diff(right.scores, axis=1)) > tolerance
    clear = np.ones(right.scores.shape, bool)
    clear[:, 1:] &= gaps
    clear[:, :-1] &= gaps
    clear[:, -1] = False  # what comes after the last is not known
    assert (left.ids[clear] == right.ids[clear]).all()


@pytest.mark.gpu
@pytest.mark.skipif(
    not (torch.cuda.is_available() and hasattr(faiss, "StandardGpuResources")), reason="no CUDA device or no faiss-gpu"
)
def test_a_real_gpu_searches_what_does_not_fit() -> None:
    vectors = unit(50_000, 128)
    rows = GpuRows(faiss, FaissConfig(gpu_memory=0.002), 128, True, [0])
    rows.reserve(len(vectors))
    rows.add(vectors)
    assert rows.in_host_memory
    _, found = rows.search(vectors[::5000], 1)
    assert found.ravel().tolist() == list(range(0, 50_000, 5000))
