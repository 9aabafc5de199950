"""Options of the trackers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from occframe.component import Config
from occframe.errors import OccframeError


class TensorBoardConfig(Config):
    url: str | None = Field(
        None, description="directory of the event files; where left out `tensorboard` in the run directory"
    )
    seconds: float = Field(10.0, gt=0, description="longest time until a figure is on disk")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        _ask_for("tensorboard")
        return [{}]


class MLflowConfig(Config):
    uri: str | None = Field(
        None, description="of the tracking server; where left out MLFLOW_TRACKING_URI, as MLflow itself reads it"
    )
    experiment: str = Field("occframe", min_length=1, description="made where there is none of that name")
    tags: dict[str, str] = Field({}, description="of the run, beside those that say what made it")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        _ask_for("mlflow")
        return [{"uri": (folder / "mlflow").as_uri()}]


def _ask_for(package: str) -> None:
    if find_spec(package) is None:
        raise OccframeError(f"{package} is not installed", remedy=f"install occframe[{package}]")
