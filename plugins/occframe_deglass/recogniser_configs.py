"""Options of the glasses recogniser. Imports nothing that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from occframe.component import BackboneBlock, Config, DataRef, ModelRef, OcclusionBlock
from occframe.precision import Precision
from occframe.step import StepConfig
from occframe.training.parts import Part


class GlassesRecogniserConfig(Config):
    """None, eyeglasses or sunglasses."""

    trunk: BackboneBlock | None = Field(
        None,
        description="a recogniser whose maps are looked at, with capability `split`, and which says what faces it is "
        "given; none: a network of its own",
    )
    maps: list[str] = Field(
        [], description="of the trunk's maps, by name, which are looked at; none: the deepest of stride 8 or less"
    )
    size: Literal[112, 128, 160, 224] = Field(
        112, description="without a trunk: height and width of the aligned faces it is given"
    )
    width: int = Field(
        16,
        ge=4,
        le=128,
        description="without a trunk: channels of the first layer; 16 makes 338 thousand parameters, 31 M "
        "multiplications a face",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the features that are dropped in training")

    @model_validator(mode="after")
    def _of_one_network(self) -> Self:
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        if self.trunk is not None and (self.size, self.width) != (defaults["size"], defaults["width"]):
            raise ValueError("size and width are those of the network that is built without a trunk: leave them out")
        if self.trunk is None and self.maps:
            raise ValueError("maps are a trunk's: name the trunk too")
        return self

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        trunk = {"use": "mobilefacenet", "input_size": [32, 32], "embedding_dim": 16}
        return [{"width": 4}, {"trunk": trunk, "maps": ["stage1", "stage2"]}]


_SYNTHETIC: dict[str, Any] = {
    "use": "choice",
    "of": [
        {"occlusion": {"use": "glasses", "severity": [0.1, 1.0]}, "weight": 2},
        {"occlusion": {"use": "sunglasses", "severity": [0.3, 1.0]}, "weight": 1},
    ],
}


class TrainGlassesRecogniserConfig(StepConfig):
    produces = "model"

    data: DataRef = Field(
        description="aligned faces with landmarks, with and without glasses, in colour where there is any"
    )
    backbone: BackboneBlock = Field(
        "glasses-recogniser",
        validate_default=True,
        description="the classifier; it has the columns glasses, sunglasses",
    )
    start: ModelRef | None = Field(
        None, description="a model to begin with: the recogniser that the trunk is of, or an earlier one of glasses"
    )
    parts: dict[str, Part] = Field(
        {},
        description="what learns at a pace of its own, by the beginning of a weight's name, as in `train`: "
        "`trunk: {rate: 0}` stands still, `trunk: {rate: 0.1, statistics: keep}` adapts",
    )
    attribute: str | None = Field(
        "eyeglasses",
        description="column that says who wears glasses: true or false, or the texts none, eyeglasses and sunglasses; "
        "none: nobody does, and only synthetic glasses are learnt from",
    )
    darkness: tuple[float, float] = Field(
        (0.2, 0.6),
        description="what true means: light from behind the lenses over that from the cheeks, below the first, is "
        "of sunglasses, above the second of eyeglasses; between them all that is learnt is that there are glasses",
    )
    occlusion: OcclusionBlock = Field(
        _SYNTHETIC, validate_default=True, description="glasses put on faces that have none"
    )
    synthetic: float = Field(0.4, ge=0, le=1, description="share of the faces without glasses that get synthetic ones")
    hidden: tuple[float, float] = Field(
        (0.45, 0.65),
        description="synthetic glasses that hide less of the eyes than the first are eyeglasses, more than the second "
        "sunglasses; between them only that there are glasses is learnt",
    )
    calibrate: float = Field(
        0.1, gt=0, lt=0.5, description="share of the identities that only the probabilities are calibrated on"
    )
    test: float = Field(0.3, ge=0, lt=0.8, description="share of the identities that are only measured on")
    epochs: int = Field(24, ge=1, description="passes over the faces without glasses")
    batch_size: int = Field(128, ge=8, description="images a step, a quarter of them real wearers")
    lr: float = Field(4e-3, gt=0, description="largest learning rate, of AdamW with a cosine schedule")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW")
    grey: float = Field(0.3, ge=0, le=1, description="share of the faces that lose their colours")
    precision: Precision = Field("auto", description="of the forward pass: auto, fp32, bf16 or fp16 (CUDA only)")
    threads: int | None = Field(
        None, ge=1, description="threads that decode and draw; none: as many as cores, at most 16"
    )
    checkpoint_minutes: float = Field(5.0, gt=0, description="longest time between two checkpoints")

    @field_validator("darkness", "hidden")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError(f"[low, high] with 0 <= low <= high expected, got [{value[0]}, {value[1]}]")
        return value
