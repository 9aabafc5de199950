"""Options of the backbones. Imports nothing heavy: a pipeline is validated without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from occframe.component import Config, FileRef

# Both networks halve the image four times; another side would leave the feature strides inexact.
Side = Annotated[int, Field(ge=32, multiple_of=16)]


class IResNetConfig(Config):
    input_size: tuple[Side, Side] = Field(
        (112, 112),
        description="height and width of the aligned face in pixels; 112 x 112 and 112 x 96 are in common use",
    )
    embedding_dim: int = Field(512, ge=2, description="length of the embedding")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the embedding layer while training")
    colour: Literal["RGB", "BGR"] = Field(
        "RGB", description="channel order the weights were trained with; arcface_torch's own checkpoints are RGB"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"input_size": [32, 32], "embedding_dim": 16}]


class MobileFaceNetConfig(Config):
    preset: Literal["paper", "foamliu", "xiaoccer"] = Field(
        "paper",
        description=(
            "layer options, input and normalisation together: `paper` (PReLU, 112 x 112), `foamliu` (ReLU6, separable "
            "stem, ImageNet normalisation: foamliu/MobileFaceNet's weights) or `xiaoccer` (PReLU, 112 x 96: "
            "Xiaoccer/MobileFaceNet_Pytorch's weights)"
        ),
    )
    input_size: tuple[Side, Side] | None = Field(
        None, description="height and width of the aligned face in pixels; the preset's where left out"
    )
    embedding_dim: int = Field(128, ge=2, description="length of the embedding")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [
            {"preset": preset, "input_size": [32, 48], "embedding_dim": 16}
            for preset in ("paper", "foamliu", "xiaoccer")
        ]


class OnnxConfig(Config):
    path: FileRef = Field(description="the .onnx file, or an InsightFace model folder: a path or any fsspec URL")
    output: str | None = Field(None, description="name of the embedding; none: `embedding`, or else the first output")
    input_size: tuple[int, int] | None = Field(
        None, description="height and width where the file takes any; what occframe exported says it itself"
    )
    colour: Literal["RGB", "BGR"] = Field("RGB", description="channel order, unless the file says it itself")
    mean: tuple[float, float, float] = Field(
        (0.5, 0.5, 0.5), description="of (x / 255 - mean) / std, unless the file says it itself; InsightFace's: 0.5"
    )
    std: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="as `mean`; InsightFace's: 0.5")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_backbones.examples import onnx_file

        return [{"path": str(onnx_file(folder))}]


class CallableConfig(Config):
    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$",
        description="`package.module:name`: images, array [B, H, W, 3] uint8 RGB -> embeddings, array [B, D]; it is "
        "imported and called",
    )
    input_size: tuple[int, int] = Field((112, 112), description="height and width it is given")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"function": "occframe_backbones.examples:mean_colours", "input_size": [32, 32]}]
