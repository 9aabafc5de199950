"""Exact rows on GPUs, or beside them where they do not fit.

The rows lie in tensors of exactly the size they need and are searched by FAISS's brute force (``bfKnn``), a few queries
by ``few_queries``: an index of FAISS's own would grow by copying itself. Where the rows of a gallery exceed the memory
given to them they stay in the host's and pass through the GPU with every search, which is what ``knn_gpu`` with a
memory limit does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from occframe.gallery.matching import score_rows
from occframe_faiss.configs import FaissConfig
from occframe_faiss.few_queries import FEW, best_rows, reads_once
from occframe_faiss.flat import CpuFlat, best_of

_GIB = 2**30
#: Rows that pass through the host at a time: 128 MiB at 512 dimensions in float32.
_BLOCK = 65_536
#: Found beyond k and scored anew in float32: a GPU compares float16 rows with queries rounded to float16.
_SPARE = 16
#: Of the free memory, what is left to others where no budget is given.
_LEAVE = 0.1


@dataclass
class _Slab:
    """Rows on one GPU. rows: Tensor [capacity, D]. first: number of its first row among all."""

    gpu: int
    rows: Tensor
    first: int
    filled: int = 0


class GpuRows:
    """float32 or float16 rows; k is at most 2048."""

    most_hits: int | None = 2048
    trained = True

    def __init__(self, faiss: ModuleType, config: FaissConfig, dim: int, half: bool, gpus: list[int]) -> None:
        self._faiss, self._config, self._dim, self._half, self._gpus = faiss, config, dim, half, gpus
        self._dtype = torch.float16 if half else torch.float32
        # The scratch memory is taken first, so that what is then free is for rows. One thread at a time may use it.
        self._resources = {gpu: faiss.StandardGpuResources() for gpu in gpus}
        for resources in self._resources.values():
            resources.setTempMemory(int(config.gpu_scratch * _GIB))
        self._slabs: list[_Slab] = []
        self._host: CpuFlat | None = None

    def __len__(self) -> int:
        return len(self._host) if self._host is not None else sum(slab.filled for slab in self._slabs)

    @property
    def _row_bytes(self) -> int:
        return self._dim * self._dtype.itemsize

    @property
    def in_host_memory(self) -> bool:
        """The rows do not fit the GPUs."""
        return self._host is not None

    def reserve(self, rows: int) -> None:
        """Decides where ``rows`` rows will be, before any of them is there."""
        more = rows - sum(len(slab.rows) for slab in self._slabs)
        if self._host is not None:
            self._host.reserve(rows)
        elif more > 0:
            share = -(-more // len(self._gpus))
            if all(share * self._row_bytes <= self._budget(gpu) for gpu in self._gpus):
                for gpu in self._gpus:
                    size = min(share, more)
                    more -= size
                    if size:
                        self._add_slab(gpu, size)
            else:
                self._move_to_host(rows)

    def _budget(self, gpu: int) -> int:
        """Bytes of a GPU that further rows may take."""
        taken = sum(slab.rows.nbytes for slab in self._slabs if slab.gpu == gpu)
        if self._config.gpu_memory is not None:
            return int(self._config.gpu_memory * _GIB) - taken
        return int(free_memory(gpu) * (1 - _LEAVE))

    def _add_slab(self, gpu: int, size: int) -> None:
        first = sum(len(slab.rows) for slab in self._slabs)
        rows = torch.empty(size, self._dim, dtype=self._dtype, device=device_of(gpu))
        self._slabs.append(_Slab(gpu, rows, first))

    def _move_to_host(self, capacity: int) -> None:
        host = CpuFlat(self._faiss, self._half, self._dim)
        host.reserve(capacity)
        for block in self._blocks():
            host.add(block)
        self._host, self._slabs = host, []

    def _blocks(self) -> Any:
        for slab in self._slabs:
            for start in range(0, slab.filled, _BLOCK):
                yield slab.rows[start : min(start + _BLOCK, slab.filled)].cpu().numpy()

    def add(self, vectors: np.ndarray) -> None:
        """vectors: array [n, D] float16 or float32."""
        room = sum(len(slab.rows) - slab.filled for slab in self._slabs)
        if self._host is None and len(vectors) > room:
            # Rows that nobody announced: a slab more, as large as half of what is there, so that slabs stay few.
            self.reserve(len(self) + max(len(vectors), len(self) // 2, min(_BLOCK, 16 * len(vectors))))
        if self._host is not None:
            self._host.add(vectors)
            return
        for slab in self._slabs:
            taken, vectors = np.split(vectors, [min(len(vectors), len(slab.rows) - slab.filled)])
            if len(taken):
                slab.rows[slab.filled : slab.filled + len(taken)] = torch.from_numpy(np.ascontiguousarray(taken))
                slab.filled += len(taken)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """queries: array [Q, D] float32."""
        if self._host is not None:
            return self._search_host(self._host, queries, k)
        slabs = [slab for slab in self._slabs if slab.filled]
        by_gpu = [[slab for slab in slabs if slab.gpu == gpu] for gpu in self._gpus]

        def search(mine: list[_Slab]) -> list[tuple[np.ndarray, np.ndarray]]:
            return [self._search_slab(slab, queries, k) for slab in mine]

        found = [pair for pairs in self._pool.map(search, by_gpu) for pair in pairs]
        return best_of(found, [0] * len(found), k)

    def _search_slab(self, slab: _Slab, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slab.rows[: slab.filled]
        wanted = min(k + _SPARE, slab.filled, self.most_hits or slab.filled)
        if len(queries) <= FEW and reads_once(rows):
            at = best_rows(rows, queries, wanted)
        else:
            asked = queries.astype(np.float16) if self._half else queries
            if rows.is_cuda:
                torch.cuda.synchronize(slab.gpu)  # FAISS works in a stream of its own
            at = brute_force(self._faiss, self._resources[slab.gpu], slab.gpu, asked, rows, wanted)

        def exact(numbers: np.ndarray) -> np.ndarray:
            picked: np.ndarray = rows[torch.from_numpy(numbers).to(rows.device)].float().cpu().numpy()
            return picked

        scores, at = score_rows(queries, at, exact, k)
        return scores, np.where(at >= 0, at + slab.first, -1)

    def _search_host(self, host: CpuFlat, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        wanted = min(k + _SPARE, len(host), self.most_hits or len(host))
        asked = queries.astype(np.float16) if self._half else queries
        limit = int((self._config.gpu_memory or free_memory(self._gpus[0]) * (1 - _LEAVE) / _GIB) * _GIB)
        # Two tiles are on the card at a time, one searched and one on its way.
        resources = self._resources[self._gpus[0]]
        at = brute_force(self._faiss, resources, self._gpus[0], asked, host.rows, wanted, limit=limit // 2)
        return score_rows(queries, at, host.reconstruct, k)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(self._gpus), thread_name_prefix="faiss-gpu")

    def keep(self, rows: np.ndarray) -> None:
        """rows: int64, ascending. Through the host: two copies of a large gallery seldom fit the card."""
        host = self._host or self._as_host()
        host.keep(rows)
        if self._host is None:
            self._slabs = []
            self._fill(host)

    def _as_host(self) -> CpuFlat:
        host = CpuFlat(self._faiss, self._half, self._dim)
        host.reserve(len(self))
        for block in self._blocks():
            host.add(block)
        return host

    def as_cpu(self) -> Any:
        return (self._host or self._as_host()).as_cpu()

    def load(self, index: Any, reopen: Callable[[], Any] | None) -> None:
        host = CpuFlat(self._faiss, self._half, self._dim)
        host.load(index, reopen)
        self._slabs, self._host = [], None
        self._fill(host)

    def _fill(self, host: CpuFlat) -> None:
        self.reserve(len(host))
        if self._host is not None:
            self._host = host  # it does not fit the GPUs: stays where it is, mapped or not
            return
        for start in range(0, len(host), _BLOCK):
            self.add(host.rows[start : start + _BLOCK])


def device_of(gpu: int) -> torch.device:
    return torch.device("cuda", gpu)


def free_memory(gpu: int) -> int:
    """Bytes."""
    return int(torch.cuda.mem_get_info(gpu)[0])


def brute_force(
    faiss: ModuleType, resources: Any, gpu: int, queries: np.ndarray, rows: Tensor | np.ndarray, k: int, limit: int = 0
) -> np.ndarray:
    """The k rows of largest inner product with each query, int64 [Q, k].

    queries: array [Q, D]. rows: Tensor [N, D] on that GPU, or an array in host memory of which at most ``limit`` bytes
    are on the GPU at a time. Both float32, or both float16: FAISS takes no mixture.
    """
    queries = np.ascontiguousarray(queries)
    scores, found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    address = rows.data_ptr() if isinstance(rows, Tensor) else rows.ctypes.data
    kind = faiss.DistanceDataType_F16 if queries.dtype == np.float16 else faiss.DistanceDataType_F32
    task = faiss.GpuDistanceParams()
    task.metric, task.k, task.dims, task.device = faiss.METRIC_INNER_PRODUCT, k, queries.shape[1], gpu
    task.vectors, task.vectorType, task.vectorsRowMajor = faiss.cast_integer_to_void_ptr(address), kind, True
    task.numVectors, task.numQueries = len(rows), len(queries)
    task.queries, task.queryType, task.queriesRowMajor = faiss.swig_ptr(queries), kind, True
    task.outDistances, task.outIndices = faiss.swig_ptr(scores), faiss.swig_ptr(found)
    task.outIndicesType = faiss.IndicesDataType_I64
    if limit:
        faiss.bfKnn_tiling(resources, task, limit, 0)
    else:
        faiss.bfKnn(resources, task)
    return found
