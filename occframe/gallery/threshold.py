"""From which score on a hit is somebody: calibrated on people who are not the one found, kept with the gallery.

A false positive identification is a search for somebody who is not enrolled that returns anybody at or above the
threshold; FPIR is their share (ISO/IEC 19795-1). It grows with the gallery, so a threshold is one of a gallery.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError

from occframe.component import Config
from occframe.errors import OccframeError, first_line
from occframe.gallery.searching import GallerySearcher
from occframe.gallery.store import Gallery
from occframe.storage import join, read_bytes, write_json

FILE = "threshold.json"
#: Fewer false positives than these among the searches, and the threshold is a guess.
LEAST_FALSE_POSITIVES = 5
#: A gallery that grew by more than this share has more people to be taken for.
MOST_GROWTH = 0.2


class Threshold(Config):
    """threshold: a cosine. fpir: the share of searches for strangers that reach it. searches: how many were made.

    enrolled: rows of the gallery then.
    """

    format: Literal["occframe-threshold"] = "occframe-threshold"
    version: Literal[1] = 1
    threshold: float
    fpir: float = Field(gt=0, lt=1)
    searches: int = Field(ge=1)
    enrolled: int = Field(ge=0)
    model_fingerprint: str
    strangers: str = Field(description="who was searched for: a gallery, or everybody without their own rows")

    def doubts(self, gallery: Gallery) -> str | None:
        """Why it should be calibrated again; None where it fits."""
        if self.model_fingerprint != gallery.fingerprint:
            return "the threshold is of another model"
        if abs(gallery.count - self.enrolled) > MOST_GROWTH * max(1, self.enrolled):
            return f"the threshold was calibrated on {self.enrolled:,} rows, there are {gallery.count:,}"
        return None


def threshold_at(scores: np.ndarray, fpir: float) -> float:
    """The lowest threshold that at most ``fpir`` of the scores reach. scores: float32 [n], best of each search.

    Raises OccframeError where so few searches cannot tell.
    """
    allowed = math.floor(fpir * len(scores))
    if allowed < LEAST_FALSE_POSITIVES:
        needed = math.ceil(LEAST_FALSE_POSITIVES / fpir)
        raise OccframeError(
            f"{len(scores):,} searches for strangers cannot tell an FPIR of {fpir:g}",
            remedy=f"it takes {needed:,} at least: give more, or accept a higher FPIR",
        )
    # Just above the highest score that must not reach it: of equal scores all do or none.
    return float(np.nextafter(np.sort(scores)[-allowed - 1], np.float32(np.inf)))


def scores_of_strangers(
    searcher: GallerySearcher, strangers: Gallery, advance: Callable[[int], None] = lambda rows: None
) -> np.ndarray:
    """Best score of a search for each row of ``strangers``, float32 [n].

    Raises OccframeError where a subject is in both, or the models differ.
    """
    if strangers.fingerprint != searcher.gallery.fingerprint:
        raise OccframeError(
            f"{strangers.url} holds embeddings of another model than {searcher.gallery.url}",
            remedy="embed the strangers with the same model",
        )
    enrolled = pc.unique(searcher.gallery.read_ids(column="subject"))
    known = pc.is_in(pc.unique(strangers.read_ids(column="subject")), value_set=enrolled)
    if pc.any(known).as_py():
        raise OccframeError(
            f"{pc.sum(known).as_py():,} subjects of {strangers.url} are enrolled in {searcher.gallery.url}",
            remedy="strangers must be people who are not in the gallery",
        )
    best = [np.empty(0, np.float32)]
    for vectors in strangers.iter_vectors():
        best.append(searcher.search(vectors, 1).scores[:, 0])
        advance(len(vectors))
    return np.concatenate(best)


def scores_without_own(
    gallery: Gallery, count: int, seed: int, advance: Callable[[int], None] = lambda rows: None
) -> np.ndarray:
    """Best score of ``count`` rows, drawn at random, among the rows of all other subjects: float32 [count].

    Each is a search for somebody who is not enrolled, in a gallery that lacks one person.
    """
    drawn = np.sort(np.random.default_rng(seed).choice(gallery.count, min(count, gallery.count), replace=False))
    queries = gallery.open_rows().take(drawn).astype(np.float32)
    codes, asked = _subject_codes(gallery, drawn)
    best = np.full(len(drawn), -np.inf, np.float32)
    first = 0
    for vectors in gallery.iter_vectors():
        scores = queries @ vectors.astype(np.float32).T
        scores[asked[:, None] == codes[first : first + len(vectors)]] = -np.inf
        np.maximum(best, scores.max(axis=1), out=best)
        first += len(vectors)
        advance(len(vectors))
    return best[best > -np.inf]


def _subject_codes(gallery: Gallery, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    encoded: pa.DictionaryArray = gallery.read_ids(column="subject").dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return codes, codes[rows]


def save_threshold(url: str, threshold: Threshold) -> None:
    write_json(join(url, FILE), threshold.model_dump(mode="json"))


def load_threshold(url: str) -> Threshold | None:
    """None where none was calibrated. Raises OccframeError where the file is not one."""
    where = join(url, FILE)
    try:
        return Threshold.model_validate(json.loads(read_bytes(where)))
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError) as error:
        raise OccframeError(
            f"{where} is no threshold: {first_line(error)}", remedy=f"`occframe gallery calibrate {url}`"
        ) from error
