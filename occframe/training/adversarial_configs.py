"""What an image-to-image network is trained for: the weights of its errors. Imports nothing that computes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from occframe.component import Config, DataRef


class AdversarialError(Config):
    weight: float = Field(1.0, ge=0, description="of the generative loss; 0: no discriminator is trained")
    loss: Literal["least-squares", "bce"] = Field(
        "least-squares", description="squared distance of scores to 0 and 1 (LSGAN), or cross-entropy of their sigmoid"
    )


class FeatureError(Config):
    weight: float = Field(10.0, ge=0, description="of 1 - cosine of the recogniser's features; 0: none is needed")
    share: float = Field(
        1.0, gt=0, le=1, description="of a batch that the recogniser looks at; on a CPU it may cost as much as the rest"
    )
    shake: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="how far faces are turned, zoomed and moved, drawn anew each time, before the recogniser looks at "
        "them: 0.1 is up to 0.1 radians, 10 % and a tenth of half the width. Without, it can be pleased by patterns of "
        "single pixels that no other recogniser sees",
    )


class PixelError(Config):
    weight: float = Field(10.0, ge=0, description="of the mean absolute difference of pixels in -1..1")
    inside: float = Field(
        1.0,
        ge=0,
        description="weight of pixels under the mask relative to others: 1 counts all alike, 0 leaves them to the "
        "other errors, more than 1 attends to them. The mask: what was put on, or unpaired the region of the eyes",
    )


class IdentityError(Config):
    weight: float = Field(10.0, ge=0, description="of the mean absolute change of faces that need none")
    share: float = Field(0.25, gt=0, le=1, description="of the real faces of a batch that are passed through for it")


class WearersError(Config):
    """Real glasses have looks that no drawn ones have; what removal is for can be learnt from them all the same, where
    there are pictures of the same people without."""

    data: DataRef = Field(description="faces that really wear it")
    bare: DataRef = Field(description="pictures of the same people without it")
    weight: float = Field(
        5.0,
        gt=0,
        description="of 1 - cosine between the recogniser's features after removal and the person's without, plus the "
        "mean change of pixels in -1..1 outside the region of the eyes",
    )
    batch_size: int = Field(8, ge=2, description="of these faces in every update, beside those of `batch_size`")
