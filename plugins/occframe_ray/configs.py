"""Options of the engine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from occframe.component import Config
from occframe.errors import OccframeError


class RayConfig(Config):
    address: str = Field(
        "local",
        min_length=1,
        description="local: a Ray of this run's own on this machine; auto: the cluster this machine belongs to; else "
        "HOST:PORT of a cluster's head",
    )
    actors: int | None = Field(
        None, ge=1, le=100_000, description="workers; none: as many as there are CPUs, or GPUs where they use some, for"
    )
    cpus_per_actor: float = Field(1.0, ge=0, description="cores of each, which bound its threads, too")
    gpus_per_actor: float = Field(
        0.0, ge=0, description="GPUs of each: a fraction lets several share one; 0: they compute on CPUs"
    )
    restarts: int = Field(
        3,
        ge=0,
        description="how often a worker that died is started again before the run gives up; what is lost is "
        "done again each time",
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        if find_spec("ray") is None:
            raise OccframeError("Ray is not installed", remedy="pip install 'occframe[ray]'")
        return [{"actors": 2, "cpus_per_actor": 0.5}]
