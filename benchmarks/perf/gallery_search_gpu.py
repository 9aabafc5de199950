"""Exact search on a GPU through the matcher: one query against a plain reading of the rows, many against bare FAISS.

    python benchmarks/perf/gallery_search_gpu.py --device cuda

Needs faiss-gpu. Ten million rows of 512 float16 take 10 GB of the card. Without ``--device cuda`` it measures nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from side_by_side import Comparison, interleave, main, seconds

DIM = 512
K = 10
_BLOCK = 1 << 18


def filled(rows: int) -> Any:
    """The matcher ``faiss``, profile fp16, with so many random rows on the GPU."""
    from occframe.component import MatcherBlock
    from occframe.standalone import parse_block, standalone_context

    context = standalone_context(device="cuda")
    matcher = context.build(parse_block(MatcherBlock, {"use": "faiss", "profile": "fp16"}, context))
    matcher.prepare(rows, DIM, lambda count: drawn(count).cpu().numpy())
    for first in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - first)
        ids = pa.array([f"{number:08}" for number in range(first, first + count)], pa.large_string())
        matcher.add_known(ids, drawn(count).cpu().numpy())
    return matcher


def drawn(count: int) -> torch.Tensor:
    """[count, DIM] float16 of norm 1, on the GPU."""
    return torch.nn.functional.normalize(torch.randn(count, DIM, device="cuda")).half()


def on_cpu(quick: bool) -> list[Comparison]:
    print("measures GPUs only: --device cuda")
    return []


def on_cuda(quick: bool) -> list[Comparison]:
    import faiss

    from occframe_faiss.gpu import brute_force

    rows, rounds = (200_000, 2) if quick else (10_000_000, 15)
    torch.manual_seed(0)
    matcher = filled(rows)
    (slab,) = matcher._rows._slabs
    one, many = (drawn(count).float().cpu().numpy() for count in (1, 1024))
    as_numbers = slab.rows.view(torch.int64)  # the fastest reading that torch has: no rounding, eight bytes at a time
    resources = matcher._rows._resources[0]
    rounded = many.astype(np.float16)

    def timed(task: Any) -> float:
        def waited() -> None:
            task()
            torch.cuda.synchronize()

        return seconds(waited)

    def bare(queries: np.ndarray) -> Any:
        return lambda: brute_force(faiss, resources, 0, queries, slab.rows, K)

    name = f"{rows:,} x {DIM} float16"
    return [
        interleave(
            f"one query, {name}: search / sum of the same bytes",
            lambda: timed(lambda: matcher.search(one, K)),
            lambda: timed(lambda: as_numbers.sum()),
            unit="s",
            bar="<= 1.18",
            rounds=rounds,
        ),
        interleave(
            f"one query, {name}: search / bare bfKnn",
            lambda: timed(lambda: matcher.search(one, K)),
            lambda: timed(bare(one.astype(np.float16))),
            unit="s",
            bar="<= 1",
            rounds=rounds,
        ),
        interleave(
            f"1,024 queries, {name}: search / bare bfKnn",
            lambda: timed(lambda: matcher.search(many, K)),
            lambda: timed(bare(rounded)),
            unit="s",
            bar="<= 1.05",
            rounds=max(2, rounds // 3),
        ),
    ]


if __name__ == "__main__":
    main(on_cpu, on_cuda=on_cuda)
