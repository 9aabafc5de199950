"""What a matcher says of itself to the planner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Offer:
    """One way to search a gallery of a given size. The class of a matcher with capability ``plan`` has the static
    method ``offers(count, dim, cores, gpu)`` that returns some; gpu: bytes of memory of each GPU, None without one.

    options: of the matcher's block, ``use`` left out. memory, gpu_memory: bytes while searching, of the host and of
    each GPU. build_seconds: from Parquet. recall: expected share of the true nearest 10 that is found; 1 is exact.
    latency_ms: of a query alone. queries_per_s: in batches of 256. why: one sentence.
    """

    options: Mapping[str, Any]
    memory: int
    build_seconds: float
    recall: float
    latency_ms: float
    queries_per_s: float
    why: str
    gpu_memory: int = 0
