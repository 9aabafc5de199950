"""Options of the losses. Imports nothing heavy: a pipeline is validated without torch."""

from __future__ import annotations

from pydantic import Field

from occframe.component import Config


class CosFaceConfig(Config):
    scale: float = Field(64.0, gt=0, description="s, the factor on the cosines; less for few identities")
    margin: float = Field(0.35, ge=0, le=1, description="m, taken off the cosine to the own class centre")


class ArcFaceConfig(Config):
    scale: float = Field(64.0, gt=0, description="s, the factor on the cosines; less for few identities")
    margin: float = Field(0.5, ge=0, le=1.5, description="m, added to the angle to the own class centre, in radians")
