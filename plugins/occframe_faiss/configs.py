from __future__ import annotations

from typing import Literal

from pydantic import Field

from occframe.component import Config


class FaissConfig(Config):
    """Runs on the pipeline's device: on a GPU with faiss-gpu, otherwise on CPU, with a note where a GPU lies idle."""

    profile: Literal["flat", "fp16"] = Field(
        "flat", description="flat keeps float32; fp16 keeps float16 in half the memory, searched somewhat slower on CPU"
    )
