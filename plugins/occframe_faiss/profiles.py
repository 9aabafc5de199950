"""Which rows a profile keeps, where, and what it costs: the figures behind ``occframe gallery plan``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from occframe.gallery.offers import Offer
from occframe_faiss.backend import on_cpu_instead
from occframe_faiss.configs import FaissConfig
from occframe_faiss.flat import CpuFlat
from occframe_faiss.graph import Hnsw
from occframe_faiss.inverted import GpuIvf, Ivf


def make_rows(faiss: ModuleType, config: FaissConfig, dim: int, gpus: list[int], device: str) -> Any:
    """The rows of a profile: on GPUs where there are some and the profile can."""
    profile = config.profile
    if profile in ("flat", "fp16"):
        if not gpus:
            return CpuFlat(faiss, profile == "fp16", dim)
        from occframe_faiss.gpu import GpuRows

        return GpuRows(faiss, config, dim, profile == "fp16", gpus)
    if profile == "ivf-fp16" and gpus:
        return GpuIvf(faiss, config, dim, gpus)
    if gpus:
        on_cpu_instead(profile, device)
    return Hnsw(faiss, config, dim) if profile == "hnsw" else Ivf(faiss, config, dim)


# --- what a profile costs ---------------------------------------------------------------------------------------------

# Measured on cores with AVX-512; GPU figures are arithmetic from a bandwidth, no card was at hand.
_SCAN = 8e9  # bytes/s and core, a query against rows one by one
_PRODUCT = 80e9  # floating-point operations/s and core, a batch against blocks of rows
_CODES = 100e6  # RaBitQ codes/s and core
_RERANK = 4e-6  # s for a candidate fetched from the gallery and scored
_READ = 1.0e9  # bytes/s from Parquet into an index
_HOPS = 0.4e-6  # s for a row of 512 dimensions that a graph's search looks at
_GRAPH = 54e3  # rows/s and core while a graph is built, 512 dimensions and 32 links, over log2 of the rows
_GPU_BANDWIDTH = 1.0e12  # bytes/s, half of what an A100's memory moves
_ROUNDS = 10  # of k-means
_ID = 24  # bytes of an id and its place


def offers(count: int, dim: int, cores: int, gpu: int | None) -> list[Offer]:
    """See ``occframe.gallery.offers``."""
    found = [*_exact(count, dim, cores), *_inverted(count, dim, cores)]
    if count >= 10_000:
        found += _graph(count, dim, cores)
    return [*found, *_on_gpu(count, dim, cores, gpu)] if gpu else found


def _exact(count: int, dim: int, cores: int) -> Iterator[Offer]:
    rate = cores * _PRODUCT / max(1, 2 * count * dim)
    for profile, width, why in (
        ("fp16", 2, "exact, and the smallest form that is"),
        ("flat", 4, "exact, float32: twice the memory for batches that need no widening"),
    ):
        size = count * dim * width
        yield Offer(
            {"profile": profile},
            memory=size + count * _ID,
            build_seconds=size / _READ,
            recall=1.0,
            latency_ms=1e3 * size / (_SCAN * max(1, cores / 2)),
            queries_per_s=rate * (0.8 if profile == "fp16" else 1.0),
            why=why,
        )


#: Recall@10 of 128 inverted lists by the share of them that a query looks into, and by what half as many lists multiply
#: what is missed: 12,000 LFW faces, 600 others as queries, a MobileFaceNet of 128 dimensions.
_SHARES = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
_RECALL = (0.428, 0.521, 0.610, 0.713, 0.811, 0.903, 0.972, 1.0)
_DOUBLED = (0.83, 0.83, 0.80, 0.76, 0.70, 0.62, 0.60, 0.60)
#: Recall@10 of a graph by its effort, there; a hundredth less is expected for every ten times the rows.
_EFFORTS = ((64, 0.965), (128, 0.989), (256, 0.999))
#: Of what ivf-fp16 finds, what one bit a dimension and 400 candidates leave, there.
_RABITQ = 0.97


def expected_recall(share: float, lists: int = 128) -> float:
    """Of the nearest ten, by the share of the inverted lists that a query looks into.

    More lists find more at the same share. How much more was measured once, from 64 to 128; beyond, half of that is
    expected for every doubling.
    """
    if share >= 1:
        return 1.0
    at = math.log2(max(share, _SHARES[0]))
    places = [math.log2(value) for value in _SHARES]
    missed = 1 - float(np.interp(at, places, _RECALL))
    factor = float(np.interp(at, places, _DOUBLED))
    return 1 - missed * factor ** (0.5 * math.log2(lists / 128))


def _inverted(count: int, dim: int, cores: int) -> Iterator[Offer]:
    from occframe_faiss.inverted import default_lists, default_probes

    lists = default_lists(count)
    if lists < 16:
        return
    build = _lists_seconds(count, dim, cores, lists)
    probes = default_probes(lists)
    while probes < lists:
        share = probes / lists
        seen = count * share
        options = {"lists": lists, "probes": probes}
        coarse = 2 * lists * dim / _PRODUCT
        scan = seen * dim * 2 / _SCAN + coarse
        yield Offer(
            {"profile": "ivf-fp16", **options},
            memory=count * (2 * dim + 8 + _ID) + lists * dim * 4,
            build_seconds=build + count * dim * 2 / _READ,
            recall=expected_recall(share, lists),
            latency_ms=1e3 * scan,
            queries_per_s=cores / scan,
            why=f"looks into {share:.1%} of the rows, whose scores are exact",
        )
        scan = seen / _CODES + coarse + FaissConfig().candidates * _RERANK
        yield Offer(
            {"profile": "ivf-rabitq", **options},
            memory=count * (dim // 8 + 16 + _ID) + lists * dim * 4,
            build_seconds=build + count * dim * 2 / _READ,
            recall=expected_recall(share, lists) * _RABITQ,
            latency_ms=1e3 * scan,
            queries_per_s=cores / scan,
            why="one bit a dimension in memory, the best candidates scored exactly from the Parquet parts",
        )
        probes *= 2


def _lists_seconds(count: int, dim: int, cores: int, lists: int) -> float:
    from occframe_faiss.inverted import TRAINING_ROWS

    products = 2 * dim * lists * (_ROUNDS * min(count, TRAINING_ROWS * lists) + count)
    return products / (cores * _PRODUCT)


def _graph(count: int, dim: int, cores: int) -> Iterator[Offer]:
    links, width = FaissConfig(profile="hnsw").links, dim / 512
    for effort, recall in _EFFORTS:
        looked_at = effort * math.log2(count) * width
        yield Offer(
            {"profile": "hnsw", "effort": effort},
            memory=count * (dim * 2 + 2 * links * 4 + 8 + _ID),
            build_seconds=count * width * math.log2(count) / (_GRAPH * cores),
            recall=min(recall, recall - 0.01 * math.log10(count / 12_000)),
            latency_ms=1e3 * looked_at * _HOPS,
            queries_per_s=cores / (looked_at * _HOPS),
            why="a graph: quick to search, slow to build, and taking rows out builds it again",
        )


def _on_gpu(count: int, dim: int, cores: int, gpu: int) -> Iterator[Offer]:
    scratch = int(FaissConfig().gpu_scratch * 2**30)
    for profile, width in (("fp16", 2), ("flat", 4)):
        size = count * dim * width
        fits = size + scratch <= 0.9 * gpu
        bandwidth = _GPU_BANDWIDTH if fits else 12e9
        yield Offer(
            {"profile": profile},
            memory=count * _ID + (0 if fits else size),
            gpu_memory=min(size + scratch, gpu),
            build_seconds=size / _READ,
            recall=1.0,
            latency_ms=1e3 * size / bandwidth,
            queries_per_s=256 / (size / bandwidth + 256 * 2 * count * dim / 50e12),
            why="exact on the GPU" if fits else "exact; does not fit the GPU, so the rows pass through it every search",
        )
