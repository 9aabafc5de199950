"""Options of the drawn occlusions. Imports nothing that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from occframe.component import Config, OcclusionBlock
from occframe_occlusions.configs import Fraction, Severity


class OcclusionConfig(Config):
    severity: Severity = Field(
        (0.3, 0.8),
        description="0..1: 0 changes nothing, 0.5 is usual, 1 is the most; [low, high] is drawn for each image",
    )

    @property
    def severity_range(self) -> tuple[float, float]:
        return self.severity if isinstance(self.severity, tuple) else (self.severity, self.severity)


FrameShape = Literal[
    "rectangle", "oval", "round", "square", "aviator", "cat-eye", "browline", "half-rim", "rimless", "geometric"
]
FRAME_SHAPES: tuple[FrameShape, ...] = (
    "rectangle",
    "oval",
    "round",
    "square",
    "aviator",
    "cat-eye",
    "browline",
    "half-rim",
    "rimless",
    "geometric",
)
Lens = Literal["clear", "tinted", "gradient", "reflective", "dark", "mirror"]


class EyewearConfig(OcclusionConfig):
    shapes: tuple[FrameShape, ...] = Field(min_length=1, description="frame shapes; one named twice is twice as likely")
    lenses: tuple[Lens, ...] = Field(min_length=1, description="kinds of lenses; one named twice is twice as likely")
    thickness_mm: tuple[float, float] = Field(
        (0.9, 6.0), description="least and largest width of a rim; thin ones are metal, others plastic"
    )
    shadow: Fraction = Field(0.6, description="strength of the shadow on the face, 0..1")
    refraction: Fraction = Field(
        0.5, description="0..1: 1 lets the strongest lenses shrink or enlarge what is behind them by 9 %"
    )

    @field_validator("thickness_mm")
    @classmethod
    def _thickness(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.3 <= value[0] <= value[1] <= 12:
            raise ValueError("0.3 <= low <= high <= 12 mm expected")
        return value


class GlassesConfig(EyewearConfig):
    # As people wear them: mostly low frames and clear lenses.
    shapes: tuple[FrameShape, ...] = Field(
        ("rectangle", "rectangle", "rectangle", "half-rim", "half-rim", *FRAME_SHAPES),
        min_length=1,
        description="frame shapes; one named twice is twice as likely",
    )
    lenses: tuple[Lens, ...] = Field(
        ("clear",) * 8 + ("reflective", "reflective", "tinted", "gradient"),
        min_length=1,
        description="kinds of lenses; one named twice is twice as likely",
    )


class SunglassesConfig(EyewearConfig):
    shapes: tuple[FrameShape, ...] = Field(
        ("rectangle", "square", "square", "aviator", "aviator", "aviator", "cat-eye", "round", "oval", "browline"),
        min_length=1,
        description="frame shapes; one named twice is twice as likely",
    )
    lenses: tuple[Lens, ...] = Field(
        ("dark",) * 14 + ("gradient", "mirror"),
        min_length=1,
        description="kinds of lenses; one named twice is twice as likely",
    )
    thickness_mm: tuple[float, float] = Field(
        (1.2, 8.0), description="least and largest width of a rim; thin ones are metal, others plastic"
    )
    refraction: Fraction = Field(0.0, description="0..1: 1 lets the strongest lenses shrink what is behind them by 9 %")


class RandomEyewearConfig(EyewearConfig):
    shapes: tuple[FrameShape, ...] = Field(
        FRAME_SHAPES, min_length=1, description="frame shapes; one named twice is twice as likely"
    )
    lenses: tuple[Lens, ...] = Field(
        ("clear", "clear", "tinted", "gradient", "reflective", "dark", "dark", "dark", "mirror"),
        min_length=1,
        description="kinds of lenses that are not wild; one named twice is twice as likely",
    )
    thickness_mm: tuple[float, float] = Field(
        (0.7, 10.0), description="least and largest width of a rim; thin ones are metal, others plastic"
    )
    wild: Fraction = Field(0.6, description="share of the faces whose lenses tint and mirror in any colour")


MaskKind = Literal["surgical", "kn95", "cloth", "patterned"]
Wearing = Literal["full", "nose-out", "chin"]


class MedicalMaskConfig(OcclusionConfig):
    kinds: tuple[MaskKind, ...] = Field(
        ("surgical", "surgical", "kn95", "cloth", "patterned"),
        min_length=1,
        description="kinds of masks; one named twice is twice as likely",
    )
    wearing: tuple[Wearing, ...] = Field(
        ("full", "full", "full", "full", "full", "full", "nose-out", "chin"),
        min_length=1,
        description="full: nose and mouth; nose-out: below the nose; chin: below the mouth",
    )
    straps: bool = Field(True, description="draw the loops to the ears")
    shadow: Fraction = Field(0.6, description="strength of the shadow on the face, 0..1")


class ScarfConfig(OcclusionConfig):
    """severity moves the upper edge from below the mouth to the bridge of the nose."""


class HatConfig(OcclusionConfig):
    kinds: tuple[Literal["beanie", "cap", "hood"], ...] = Field(
        ("beanie", "cap", "hood"), min_length=1, description="kinds of headwear; one named twice is twice as likely"
    )
    shadow: Fraction = Field(0.7, description="strength of the shadow that falls on brow and eyes, 0..1")


class HairConfig(OcclusionConfig):
    """severity lengthens the bangs from the hairline to over the eyes."""


class HandConfig(OcclusionConfig):
    places: tuple[Literal["mouth", "eye", "cheek"], ...] = Field(
        ("mouth", "eye", "cheek"), min_length=1, description="what the hand is held before"
    )


class ObjectConfig(OcclusionConfig):
    kinds: tuple[Literal["phone", "cup"], ...] = Field(("phone", "cup"), min_length=1, description="what is held up")


class DirtConfig(OcclusionConfig):
    kinds: tuple[Literal["dirt", "water", "glare"], ...] = Field(
        ("dirt", "water", "glare"), min_length=1, description="what lies on the camera's lens"
    )


class WatermarkConfig(OcclusionConfig):
    texts: tuple[Annotated[str, Field(min_length=1, max_length=24, pattern=r"^[A-Za-z0-9 ©.:/-]+$")], ...] = Field(
        ("SAMPLE", "PREVIEW", "COPY", "DRAFT 2024", "© PHOTO"),
        min_length=1,
        description="texts, one drawn for each image: letters, digits, blanks and © . : / -",
    )


Fill = Literal["black", "white", "mean", "noise", "colour"]
_FILLS: tuple[Fill, ...] = ("black", "mean", "noise", "colour")


class BarConfig(OcclusionConfig):
    """severity grows the bar from nothing to well beyond what it covers."""

    fills: tuple[Fill, ...] = Field(
        ("black",),
        min_length=1,
        description="what the bar shows: black, white, the mean colour, noise, any colour",
    )


class HalfFaceConfig(OcclusionConfig):
    """severity is the share of the face, from the named side, that is hidden."""

    sides: tuple[Literal["left", "right", "upper", "lower"], ...] = Field(
        ("left", "right", "upper", "lower"), min_length=1, description="hidden side, as seen in the picture"
    )
    fills: tuple[Fill, ...] = Field(("black", "mean", "noise"), min_length=1, description="what the hidden half shows")


class BlockGridConfig(OcclusionConfig):
    """severity is the share of blocks that is hidden."""

    blocks: int = Field(5, ge=2, le=28, description="blocks along each side, K")
    pattern: Literal["rectangle", "scattered"] = Field(
        "rectangle", description="one rectangle of whole blocks, as FROM's patterns are, or blocks anywhere"
    )
    fills: tuple[Fill, ...] = Field(_FILLS, min_length=1, description="what the blocks show")


class ErasingConfig(OcclusionConfig):
    """severity is the share of the picture that is erased."""

    severity: Severity = Field(
        (0.05, 0.35), description="share of the picture that is erased; [low, high] is drawn for each image"
    )
    aspect: tuple[float, float] = Field((0.4, 2.5), description="least and largest height over width")
    fills: tuple[Fill, ...] = Field(("noise", "mean"), min_length=1, description="what the rectangle shows")

    @field_validator("aspect")
    @classmethod
    def _aspect(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.05 <= value[0] <= value[1] <= 20:
            raise ValueError("0.05 <= low <= high <= 20 expected")
        return value


class BlobsConfig(OcclusionConfig):
    """severity is the share of the picture that is covered."""

    grain: int = Field(4, ge=2, le=10, description="blobs along a side, roughly: more are smaller")


class PicturesConfig(OcclusionConfig):
    """The user's own occluders, with transparency."""

    url: str = Field(
        min_length=1,
        description="an RGBA picture, a folder of them, or a Parquet file or folder of such: a path or any fsspec URL",
    )
    image: str = Field("image", description="column of encoded pictures, where it is Parquet")
    match_light: bool = Field(True, description="give them the photograph's brightness and tint; FROM does not")


class SpritesConfig(PicturesConfig):
    """The user's own occluders, pasted as FROM does: scaled by one of ``scales``, centred anywhere, clipped."""

    severity: Severity = Field(
        0.5, description="0.5 pastes at the drawn scale, 1 twice as large, 0 nothing; [low, high] is drawn"
    )
    scales: tuple[Annotated[float, Field(gt=0, le=20)], ...] = Field(
        (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5), min_length=1, description="factors of the size, drawn with equal odds"
    )
    unit: float = Field(
        0.2, gt=0, le=1, description="longer side of a sprite at scale 1, as a share of the picture's shorter side"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_occlusions.examples import sprite_folder

        return [{"url": str(sprite_folder(folder))}]


class FaceSpritesConfig(PicturesConfig):
    """The user's own occluders, each drawn over a square picture of an aligned face, and put in its place on others."""

    severity: Severity = Field(
        0.5, description="0.5 as large as drawn, 0.1 and 1 a fifth smaller and larger, 0 nothing; [low, high] is drawn"
    )
    shift: float = Field(0.15, ge=0, le=2, description="farthest from its place, in half distances between the eyes")
    stretch: float = Field(0.06, ge=0, le=0.5, description="most that its size differs from what severity asks for")
    turn: float = Field(0.1, ge=0, le=1, description="sine of the largest angle that it is turned by")
    mirror: bool = Field(True, description="mirror half of them")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_occlusions.examples import face_sprite_folder

        return [{"url": str(face_sprite_folder(folder))}]


class _Item(Config):
    """An occlusion by itself will do where nothing is to be said beside it."""

    occlusion: OcclusionBlock = Field(description="an occlusion")

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"occlusion": value}
        if not isinstance(value, dict) or "use" not in value:
            return value
        beside = {key: item for key, item in value.items() if key in cls.model_fields}
        return {"occlusion": {key: item for key, item in value.items() if key not in beside}} | beside

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = handler(schema)
        return {"anyOf": [whole, handler.resolve_ref_schema(whole)["properties"]["occlusion"]]}


class ChoiceItem(_Item):
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="how often it is taken, relative to the others")


class ChoiceConfig(Config):
    """One of several occlusions for each image."""

    of: tuple[ChoiceItem, ...] = Field(min_length=1, description="what is chosen from")
    severity: Severity | None = Field(None, description="of all of them, in place of their own")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"of": [{"occlusion": "glasses"}, {"occlusion": "erasing", "weight": 2}]}]


class ComposeItem(_Item):
    probability: Fraction = Field(1.0, description="share of the images that get it")


class ComposeConfig(Config):
    """Several occlusions, one over the other."""

    layers: tuple[ComposeItem, ...] = Field(min_length=1, description="what is put on, the first one first")
    severity: Severity | None = Field(None, description="of all of them, in place of their own")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"layers": [{"occlusion": "blobs", "probability": 0.7}, {"occlusion": "sunglasses"}]}]
