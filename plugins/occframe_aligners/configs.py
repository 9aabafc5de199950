"""Options of the aligner and the detectors."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from occframe.component import Config
from occframe.errors import OccframeError


class ArcFaceConfig(Config):
    height: int = Field(112, ge=16, le=2048, description="pixels of the aligned face; the template scales with it")
    width: int = Field(112, ge=16, le=2048, description="pixels; 96 beside height 112 cuts 8 off either side")


class YuNetConfig(Config):
    weights: str = Field(
        "registry:face_detection_yunet_2026may", description="a path, any fsspec URL, or registry:NAME"
    )
    score_threshold: float = Field(0.3, ge=0, lt=1, description="faces scored lower are not reported")
    nms_threshold: float = Field(0.3, gt=0, le=1, description="overlap (IoU) above which the lower-scored box goes")
    max_side: int = Field(640, ge=64, le=8192, description="bigger pictures are scaled down to this many pixels first")
    refine: bool = Field(
        True, description="look at every face again, cut out upright; better landmarks for about 4 ms a face"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe.weights import locate_weights

        located = locate_weights(cls.model_fields["weights"].default)
        return [{"weights": located}]


class MTCNNConfig(Config):
    min_face_size: int = Field(
        40, ge=12, le=2048, description="smallest face looked for, pixels; half costs 4x the time"
    )
    max_side: int = Field(
        640, ge=64, le=8192, description="pixels; in bigger pictures min_face_size grows by as much as they exceed it"
    )
    scale_factor: float = Field(0.709, gt=0.3, lt=0.95, description="between neighbouring scales of the image pyramid")
    thresholds: tuple[float, float, float] = Field(
        (0.6, 0.7, 0.7), description="face probability needed to pass the first, second and third network"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        if find_spec("mtcnn") is None:
            raise OccframeError("mtcnn is not installed", remedy="install occframe[detect]")
        return [{"max_side": 160}]
