"""Options of the glasses-removing generator. Imports nothing heavy: a pipeline is validated without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from occframe.component import Config


class DiscriminatorConfig(Config):
    width: int = Field(64, ge=4, le=256, description="channels of its first layer; doubled in each of the next three")
    spectral_norm: bool = Field(False, description="divide each layer's weights by their largest singular value")


class CseConfig(Config):
    """The convolution-SE generator, and the discriminator it is trained against."""

    size: int = Field(112, ge=32, le=1024, multiple_of=4, description="height and width it is trained at, pixels")
    width: int = Field(32, ge=4, le=256, description="c, channels of the first layer")
    blocks: int = Field(6, ge=1, le=32, description="n, SE residual blocks in the middle")
    reduction: int = Field(16, ge=1, le=256, description="r, by how much the squeeze narrows; at least 4 stay")
    se: Literal["all", "middle", "none"] = Field(
        "all",
        description="where squeeze and excitation stand: everywhere, in the residual blocks, or nowhere",
    )
    norm: Literal["batch", "instance"] = Field(
        "batch",
        description="batch: its statistics are frozen at inference and fold into the convolutions; instance: of each "
        "image. With both an image's result does not depend on its batch",
    )
    upsampling: Literal["nearest", "bilinear", "transposed"] = Field(
        "nearest", description="on the way up: enlarge then convolve, or a transposed convolution"
    )
    blend: bool = Field(
        False, description="also predict how much of each pixel is new, so that all others stay as they were"
    )
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="the PatchGAN")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        small = {"size": 32, "width": 4, "blocks": 1, "discriminator": {"width": 4}}
        return [small, {**small, "blend": True, "norm": "instance"}]
