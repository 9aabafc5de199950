"""A good aligner's registration, and registrations that break what every component promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_serializer

from occframe import Config, hookimpl


class Good(Config):
    size: int = Field(8, ge=1, description="of something")


class Invalid(Config):
    size: int = Field(description="has no default and no example")


class Lax(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    size: int = Field(8, description="of something")


class Lossy(Config):
    size: float = Field(0.123456, description="written down rounded")

    @field_serializer("size")
    def _rounded(self, size: float) -> float:
        return round(size, 2)


class Stuck(Config):
    size: int = Field(8, description="of something")
    _handle: Any = PrivateAttr(default_factory=lambda: lambda: None)


class Bare(Config):
    size: int = 8

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"size": 3}]


def build(config: Config, context: object) -> object:
    return object()


@hookimpl
def occframe_register_aligners(register):
    register("good", build, config=Good, summary="a good one", caps={"gpu", "a-capability-of-ours"})
    register("summary_is_one_line", build, config=Good, summary="one line\nand another")
    register("capabilities_are_spelt_right", build, config=Good, summary="misspelt", caps={"mask_ouput"})
    register("config_takes_its_example", build, config=Invalid, summary="no example")
    register("config_forbids_unknown_options", build, config=Lax, summary="takes anything")
    register("config_round_trips_json", build, config=Lossy, summary="forgets digits")
    register("config_is_picklable", build, config=Stuck, summary="holds a function")
    register("options_are_described", build, config=Bare, summary="says nothing of its option")
