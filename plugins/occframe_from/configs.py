"""Options of FROM. Imports nothing heavy: a pipeline is validated without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from occframe.component import BackboneBlock, Config

Side = Annotated[int, Field(ge=32, multiple_of=16)]


class _MaskAndPatterns(Config):
    """What every network that masks corrupted features has to choose."""

    mask_shape: Literal["3d", "2d"] = Field(
        "3d", description="3d: a mask for every channel and place of the deepest map; 2d: one for every place"
    )
    mask_on: Literal["features", "embedding"] = Field(
        "features", description="what the mask multiplies: the deepest feature map, or the embedding itself"
    )
    patterns: Literal["classification", "regression", "none"] = Field(
        "classification",
        description=(
            "what is learnt of the occlusion from the mask: which pattern of the codebook, the corners of its box, or "
            "nothing (then nothing teaches the mask where the occlusion is)"
        ),
    )
    blocks: int = Field(5, ge=1, le=16, description="K: patterns are rectangles of blocks of a K x K grid")
    open_bias: float | None = Field(
        None,
        ge=0,
        le=6,
        description=(
            "none: a sigmoid that begins at random, as published; b: a mask sigmoid(z + b) / sigmoid(b) that begins "
            "at 1 everywhere, so that an adapted recogniser starts as it was (0 lets it rise to 2, 2 to 1.14)"
        ),
    )

    fill: Literal["zero", "mean"] = Field(
        "zero",
        description=(
            "what masked features become: zero, as published; or their mean over the training faces, which tells the "
            "head of a trunk that is already trained nothing"
        ),
    )

    @model_validator(mode="after")
    def _flat_masks_lie_on_features(self) -> Self:
        if self.mask_on == "embedding" and self.mask_shape == "2d":
            raise ValueError("mask_shape: 2d is a map of places; an embedding has none: use mask_on: features")
        if self.mask_on == "embedding" and self.fill == "mean":
            raise ValueError("fill: mean stands in for features; an embedding is masked to zero: use mask_on: features")
        return self


class FromConfig(_MaskAndPatterns):
    trunk: BackboneBlock = Field(description="the recogniser to wrap; it needs capability `split`")
    pyramid: int = Field(256, ge=4, description="channels of the feature pyramid; 16 to 64 suit a mobile trunk")
    head: Literal["trunk", "reference"] = Field(
        "trunk",
        description="what makes the embedding: the trunk's own head, or batch norm, dropout, linear, batch norm",
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        trunk = {"use": "mobilefacenet", "input_size": [32, 32], "embedding_dim": 16}
        return [
            {"trunk": trunk, "pyramid": 8},
            {"trunk": trunk, "pyramid": 8, "patterns": "regression", "open_bias": 2.0},
        ]


class FromReferenceConfig(_MaskAndPatterns):
    input_size: tuple[Side, Side] = Field(
        (112, 96), description="height and width of the aligned face in pixels; published: 112 x 96"
    )
    masked: bool = Field(
        True, description="false: trunk and head alone, which stage 1 of the published recipe trains on clean faces"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"input_size": [32, 32]}]


class OcclusionPatternConfig(Config):
    match: Literal["box", "mask"] = Field(
        "box",
        description="label: the pattern nearest to the occlusion's bounding box (published), or to its pixels",
    )
    threshold: float = Field(0.5, gt=0, le=1, description="alpha from which a pixel counts as occluded")


class OcclusionBoxConfig(Config):
    distance: Literal["mse", "smooth-l1"] = Field("mse", description="between corners as fractions of width and height")
    beta: float = Field(0.1, gt=0, description="smooth-l1: the error at which its square gives way to its size")
    match: Literal["box", "mask"] = Field(
        "box",
        description="target: the occlusion's bounding box, or the box of the pattern nearest to its pixels",
    )
    blocks: int = Field(5, ge=1, le=16, description="K of the patterns, for match: mask")
    threshold: float = Field(0.5, gt=0, le=1, description="alpha from which a pixel counts as occluded")


class DistilCleanConfig(Config):
    """Has no options."""


class MaskCoverageConfig(Config):
    """Has no options."""
