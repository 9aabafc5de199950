"""Options of the occlusion generators."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from occframe.component import Config, DatasetBlock


def _ordered(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(value, tuple) and value[0] > value[1]:
        raise ValueError(f"[low, high] expected, got [{value[0]}, {value[1]}]")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
#: One number, or [low, high] that every image draws its own from.
Severity = Annotated[Fraction | tuple[Fraction, Fraction], AfterValidator(_ordered)]
Share = Annotated[float, Field(gt=0, le=1)]
Place = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0.05, le=20)]
Fill = Literal["colour", "texture", "patch"]


class RectanglesConfig(Config):
    """Opaque rectangles. Ranges are [lowest, highest]."""

    coverage: tuple[Share, Share] = Field(
        (0.1, 0.4),
        description="share of the image that the rectangles cover together; less with `border: clip`",
    )
    severity: Severity | None = Field(
        None, description="in place of `coverage`, from 0, which changes nothing; [low, high] is drawn for each image"
    )
    aspect: tuple[Ratio, Ratio] = Field((0.5, 2.0), description="width of a rectangle over its height")
    centre_x: tuple[Place, Place] = Field((0.0, 1.0), description="where centres lie, 0 left edge, 1 right edge")
    centre_y: tuple[Place, Place] = Field((0.0, 1.0), description="where centres lie, 0 top edge, 1 bottom edge")
    border: Literal["inside", "clip"] = Field(
        "inside", description="a rectangle that would cross the border is moved inside, or what lies outside is lost"
    )
    count: tuple[Annotated[int, Field(ge=1, le=16)], Annotated[int, Field(ge=1, le=16)]] = Field(
        (1, 1), description="how many rectangles"
    )
    fills: tuple[Fill, ...] = Field(
        ("colour", "texture"),
        min_length=1,
        description="what rectangles show, each as often: a colour, a texture, a patch",
    )
    patches: DatasetBlock | None = Field(None, description="the faces that fill `patch` is cut from")
    patch_pool: int = Field(256, ge=1, le=65536, description="how many of these faces are kept in memory")

    @property
    def severity_range(self) -> tuple[float, float]:
        """Least and largest share of the image that is covered."""
        if self.severity is None:
            return self.coverage
        return self.severity if isinstance(self.severity, tuple) else (self.severity, self.severity)

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name in ("coverage", "aspect", "centre_x", "centre_y", "count"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low} is more than {high}; a range is written [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _patches_have_a_source(self) -> Self:
        if ("patch" in self.fills) != (self.patches is not None):
            raise ValueError("fill `patch` and the data set in `patches` need each other: give both or neither")
        return self
