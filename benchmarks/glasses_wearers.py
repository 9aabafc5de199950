"""People of LFW who are there both with and without eyeglasses: what the row ``wearers`` learns from, beside the rest.

Nobody marked them: the study's recogniser of glasses says who wears any, and who surely none. Sunglasses are left out,
since what they hide is not there to be found. Many people of LFW are in CelebA too, under other names: whoever the
frozen recogniser takes for one of those who are measured is left out as well.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from occframe.data import FaceLoader, ParquetFaces
from occframe.models import LoadedModel, embed_images
from occframe.removal import GLASSES, SUNGLASSES, fit_faces, tell_glasses
from occframe.training.adversarial_batches import people_features

#: Probabilities from which on somebody wears glasses, and up to which surely none, or no sunglasses.
WORN, BARE, SUN = 0.3, 0.02, 0.3
#: Faces of a person at most: a few people have hundreds.
MOST_WORN, MOST_BARE = 6, 10
#: Cosine of two people's mean directions from which on they are taken for one: so of 324 of LFW's 5,749.
SAME = 0.4
MEASURED = ("real-bare", "bare-test")


def wearers(shared: Path, into: Path, detector: LoadedModel, recogniser: LoadedModel) -> dict[str, int]:
    """Write ``wearers-worn.parquet`` and ``wearers-bare.parquet``, unless they are there. Returns how many faces each
    holds."""
    targets = {name: into / f"wearers-{name}.parquet" for name in ("worn", "bare")}
    if not all(target.exists() for target in targets.values()):
        source = shared / "data" / "lfw112_gray.parquet"
        chosen = choose(*described(source, detector), among_measured(source, into, recogniser))
        table = pq.read_table(source)
        for name, rows in chosen.items():
            pq.write_table(table.take(rows), targets[name], row_group_size=512)
    return {name: pq.read_metadata(target).num_rows for name, target in targets.items()}


def described(source: Path, detector: LoadedModel) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Who each face of the file is, and the probabilities of glasses and of sunglasses."""
    faces = ParquetFaces(str(source), aligned=True)
    told = [tell_glasses(detector, batch.images) for batch in loader(faces).epoch(0)]
    glasses, sunglasses = (torch.cat([each[name] for each in told]).numpy() for name in (GLASSES, SUNGLASSES))
    return list(faces.subjects), glasses, sunglasses


def choose(people: list[str], glasses: np.ndarray, sunglasses: np.ndarray, left_out: set[str]) -> dict[str, list[int]]:
    """Rows of the faces with and without eyeglasses of everyone who has both, and is not ``left_out``; the first ones
    of each."""
    found: dict[str, dict[str, list[int]]] = {"worn": defaultdict(list), "bare": defaultdict(list)}
    for row, person in enumerate(people):
        if glasses[row] > WORN and sunglasses[row] < SUN:
            found["worn"][person].append(row)
        elif glasses[row] < BARE:
            found["bare"][person].append(row)
    both = (found["worn"].keys() & found["bare"].keys()) - left_out
    most = {"worn": MOST_WORN, "bare": MOST_BARE}
    return {name: sorted(row for person in both for row in found[name][person][: most[name]]) for name in found}


def among_measured(source: Path, data: Path, recogniser: LoadedModel) -> set[str]:
    """Whoever of the file looks like somebody of the study's test."""
    people, directions = directions_of(ParquetFaces(str(source), aligned=True), recogniser)
    nearest = np.zeros(len(people))
    for name in MEASURED:
        measured = directions_of(ParquetFaces(str(data / f"{name}.parquet")), recogniser)[1]
        nearest = np.maximum(nearest, (directions @ measured.T).max(axis=1))
    return {person for person, cosine in zip(people, nearest, strict=True) if cosine >= SAME}


def directions_of(faces: ParquetFaces, recogniser: LoadedModel) -> tuple[list[str], np.ndarray]:
    """Everyone of a data set, and the mean direction of each one's embeddings: float32 [people, D]."""
    people = sorted(set(faces.subjects))

    def features(images: Tensor) -> Tensor:
        return embed_images(recogniser, fit_faces(images, recogniser.image_spec)).cpu()

    return people, people_features(loader(faces, people), features, len(people)).numpy()


def loader(faces: ParquetFaces, people: list[str] | None = None) -> FaceLoader:
    return FaceLoader(faces, height=112, width=112, batch_size=64, threads=1, seed=0, classes=people)
