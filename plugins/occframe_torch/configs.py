from __future__ import annotations

from typing import Literal

from pydantic import Field

from occframe.component import Config


class TorchConfig(Config):
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="how vectors are kept; float16 takes half the memory, scores are computed in float32"
    )
