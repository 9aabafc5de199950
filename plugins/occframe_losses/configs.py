"""Options of the losses. Imports nothing heavy: a pipeline is validated without torch."""

from __future__ import annotations

from pydantic import Field

from occframe.component import Config


class SampledCentres(Config):
    """Partial FC: for more identities than a device has memory for."""

    rate: float = Field(0.1, gt=0, le=1, description="share of the class centres that a step sees")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the centres' own SGD; their rate is the training's")
    weight_decay: float = Field(5e-4, ge=0, description="of the centres' own SGD")


class MarginConfig(Config):
    scale: float = Field(64.0, gt=0, description="s, the factor on the cosines; less for few identities")
    sampled: SampledCentres | None = Field(
        None, description="see a share of the class centres in each step, and spread them over the processes"
    )


class CosFaceConfig(MarginConfig):
    margin: float = Field(0.35, ge=0, le=1, description="m, taken off the cosine to the own class centre")


class ArcFaceConfig(MarginConfig):
    margin: float = Field(0.5, ge=0, le=1.5, description="m, added to the angle to the own class centre, in radians")


class AdaFaceConfig(MarginConfig):
    margin: float = Field(0.4, ge=0, le=1, description="m, in radians and as a cosine")
    concentration: float = Field(0.333, gt=0, description="h, how soon a length counts as good or bad quality")
    momentum: float = Field(0.01, gt=0, le=1, description="weight of a batch in the running mean of lengths")
