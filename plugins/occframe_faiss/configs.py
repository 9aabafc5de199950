from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from occframe.component import Config
from occframe.errors import OccframeError

Profile = Literal["flat", "fp16", "ivf-fp16", "ivf-rabitq", "hnsw"]


class FaissConfig(Config):
    """Runs on the pipeline's device: on a GPU with faiss-gpu, otherwise on CPU, with a note where a GPU lies idle."""

    profile: Profile = Field(
        "flat",
        description="flat: exact, float32; fp16: exact, float16, half the memory; ivf-fp16: looks only into the "
        "nearest of many lists; ivf-rabitq: the same at one bit a dimension, re-ranked from the gallery; hnsw: a graph",
    )
    lists: int | None = Field(
        None, ge=1, le=1_048_576, description="ivf: into how many lists rows are sorted; none: about 2 √rows"
    )
    probes: int | None = Field(
        None, ge=1, le=65_536, description="ivf: how many lists a query looks into; none: an eighth of them"
    )
    candidates: int = Field(
        400, ge=1, le=10_000, description="ivf-rabitq: hits a query re-ranks exactly, or 10 k if that is more"
    )
    links: int = Field(32, ge=4, le=128, description="hnsw: neighbours of a row; more find more and take more memory")
    effort: int = Field(128, ge=1, le=4096, description="hnsw: rows a query keeps in view; more find more, slower")
    gpus: int = Field(1, ge=1, le=64, description="over how many GPUs rows are spread, from the pipeline's device on")
    gpu_memory: float | None = Field(
        None, gt=0, description="GiB of each GPU that rows may take; none: what is free, less the scratch memory"
    )
    gpu_scratch: float = Field(0.5, gt=0, le=16, description="GiB of each GPU that FAISS keeps for its searches")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        if find_spec("faiss") is None:
            raise OccframeError("FAISS is not installed", remedy="install occframe[cpu] or occframe[gpu]")
        # Every list is looked into, every row a candidate: so few rows are all found.
        whole = {"lists": 4, "probes": 4, "candidates": 1000}
        return [
            {"profile": "flat"},
            {"profile": "fp16"},
            {"profile": "ivf-fp16", **whole},
            {"profile": "hnsw", "effort": 1000},
        ]
