"""Search results as one HTML file: each query beside the faces it found. Ids are text of strangers: all is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from occframe.data.loader import load_faces
from occframe.types import Dataset

_SIDE = 112


@dataclass(frozen=True)
class FoundFace:
    """picture: a data URI, None where there is none to show. known: its score reaches the threshold."""

    id: str
    subject: str
    score: float
    known: bool
    picture: str | None


@dataclass(frozen=True)
class QueryResult:
    """verdict: the subject that was found, or "unknown"; None where no threshold decides."""

    name: str
    picture: str | None
    verdict: str | None
    hits: Sequence[FoundFace]


def hits_page(title: str, facts: Sequence[tuple[str, str]], results: Sequence[QueryResult]) -> str:
    """facts: shown above the results."""
    environment = Environment(
        loader=PackageLoader("occframe.gallery", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("hits_page.html.j2").render(title=title, facts=facts, results=results, side=_SIDE)


def pictures(faces: Dataset, rows: Sequence[int]) -> list[str]:
    """Data URIs of small JPEGs."""
    return [_as_uri(image) for image in load_faces(faces, rows, _SIDE, _SIDE)]


def _as_uri(image: np.ndarray) -> str:
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
