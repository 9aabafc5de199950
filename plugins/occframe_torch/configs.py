from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from occframe.component import Config


class TorchConfig(Config):
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="how vectors are kept; float16 takes half the memory, scores are computed in float32"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"dtype": "float32"}, {"dtype": "float16"}]
