"""What a data set holds, before anything is trained on it: people, pictures, duplicates, labels that look wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from occframe.data.decoding import decode
from occframe.data.headers import BadImage
from occframe.types import Dataset

if TYPE_CHECKING:
    from occframe.models import LoadedModel

_CHUNK = 512  # pictures read together
_PARTS = 4096  # embeddings compared at once


@dataclass(frozen=True)
class LabelNoise:
    """Pictures that lie nearer to another identity's centroid than to the rest of their own.

    compared: pictures whose identity has at least two. suspects: (id, its identity, the nearer identity, cosine with
    the rest of its own, cosine with the nearer), most suspicious first.
    """

    compared: int
    suspects: Sequence[tuple[str, str, str, float, float]]


@dataclass
class Inspection:
    """images_per_identity: how many identities have so many. sizes: "HxW" -> images. grey: images whose channels are
    equal. duplicates: groups of ids with the same bytes; across: those of them that carry several identities.
    unreadable: by reason; first_unreadable: (id, reason) of some.
    """

    images: int
    identities: int
    images_per_identity: Mapping[int, int]
    blocks: int
    landmarks: int
    attributes: Sequence[str]
    sizes: dict[str, int] = field(default_factory=dict)
    grey: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    first_unreadable: list[tuple[str, str]] = field(default_factory=list)
    duplicates: Sequence[Sequence[str]] = ()
    across: Sequence[Sequence[str]] = ()
    noise: LabelNoise | None = None


def inspect(dataset: Dataset, *, threads: int = 1, advance: Callable[[int], None] = lambda images: None) -> Inspection:
    """Decode every picture of ``dataset`` once and count. advance: told how many are done."""
    per_identity = Counter(dataset.subjects)
    found = Inspection(
        images=len(dataset.ids),
        identities=len(per_identity),
        images_per_identity=dict(sorted(Counter(per_identity.values()).items())),
        blocks=len(dataset.blocks),
        landmarks=0 if dataset.landmarks is None else int((~np.isnan(dataset.landmarks).any((1, 2))).sum()),
        attributes=sorted(dataset.attributes),
    )
    same: dict[bytes, list[int]] = {}
    sizes, unreadable = Counter[str](), Counter[str]()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(dataset.ids), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(dataset.ids)))
            for row, seen in zip(rows, pool.map(_look, dataset.read(rows)), strict=True):
                if isinstance(seen, BadImage):
                    unreadable[seen.reason] += 1
                    if len(found.first_unreadable) < 10:
                        found.first_unreadable.append((dataset.ids[row], seen.message))
                    continue
                size, grey, digest = seen
                sizes[size] += 1
                found.grey += grey
                same.setdefault(digest, []).append(row)
            advance(len(rows))
    found.sizes, found.unreadable = dict(sizes), dict(unreadable)
    groups = [rows for rows in same.values() if len(rows) > 1]
    found.duplicates = [[dataset.ids[row] for row in rows] for rows in groups]
    found.across = [
        [dataset.ids[row] for row in rows] for rows in groups if len({dataset.subjects[row] for row in rows}) > 1
    ]
    return found


def find_label_noise(ids: Sequence[str], subjects: Sequence[str], embeddings: np.ndarray) -> LabelNoise:
    """Leave-one-out: each picture against the centroid of the *other* pictures of its identity, and of all identities.

    embeddings: [N, D] float32, L2-normalised. Identities of one picture have nothing to be compared with; they are no
    suspects, but count among the identities that others may be nearer to.
    """
    names, labels, counts = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), embeddings.shape[1]), np.float64)
    np.add.at(sums, labels, embeddings)
    centroids = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    rows = np.flatnonzero(counts[labels] > 1)
    rest = sums[labels[rows]] - embeddings[rows]
    own = (embeddings[rows] * rest).sum(1) / np.maximum(np.linalg.norm(rest, axis=1), 1e-12)
    nearest, nearer = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PARTS):
        part = slice(start, start + _PARTS)
        cosines = embeddings[rows[part]] @ centroids.T
        cosines[np.arange(len(cosines)), labels[rows[part]]] = -np.inf
        nearest[part] = cosines.argmax(1)
        nearer[part] = cosines.max(1)
    order = np.argsort(own - nearer, kind="stable")
    suspects = [
        (
            ids[rows[at]],
            str(names[labels[rows[at]]]),
            str(names[nearest[at]]),
            round(float(own[at]), 4),
            round(float(nearer[at]), 4),
        )
        for at in order.tolist()
        if nearer[at] > own[at]
    ]
    return LabelNoise(len(rows), suspects)


def embed_readable(
    dataset: Dataset, model: LoadedModel, *, threads: int, advance: Callable[[int], None] = lambda images: None
) -> tuple[list[int], np.ndarray]:
    """Rows that can be read, and their embeddings [n, D] float32, L2-normalised."""
    from occframe.data.loader import FaceLoader
    from occframe.data.quarantine import Quarantine
    from occframe.models import embed_images

    spec = model.image_spec
    loader = FaceLoader(
        dataset,
        height=spec.height,
        width=spec.width,
        batch_size=64,
        threads=threads,
        seed=0,
        quarantine=Quarantine(share=1.0),
    )
    rows: list[int] = []
    vectors = []
    for batch in loader.epoch(0):
        vectors.append(embed_images(model, batch.images).cpu().numpy())
        rows += batch.index.tolist()
        advance(len(batch.index))
    return rows, np.concatenate(vectors) if vectors else np.empty((0, model.embedding_dim), np.float32)


def contact_sheet(dataset: Dataset, *, people: int, pictures: int, size: int, seed: int) -> np.ndarray:
    """Faces side by side, a row a person: array [people * size, pictures * size, 3] uint8 RGB.

    People are drawn with ``seed``, those of several pictures first; black where one has fewer or is unreadable.
    """
    from occframe.data.loader import load_faces

    rows_of: dict[str, list[int]] = {}
    for row, subject in enumerate(dataset.subjects):
        rows_of.setdefault(subject, []).append(row)
    draw = np.random.default_rng(seed)
    names = draw.permutation(sorted(rows_of)).tolist()
    names = sorted(names, key=lambda name: len(rows_of[name]) < 2)[:people]
    sheet = np.zeros((len(names) * size, pictures * size, 3), np.uint8)
    for line, name in enumerate(names):
        chosen = rows_of[name][:pictures]
        for column, face in enumerate(load_faces(dataset, chosen, size, size)):
            sheet[line * size : (line + 1) * size, column * size : (column + 1) * size] = face
    return sheet


def _look(picture: bytes | np.ndarray) -> tuple[str, bool, bytes] | BadImage:
    """Size, whether it is grey, and a digest of its bytes."""
    try:
        pixels = decode(picture) if isinstance(picture, bytes) else picture
    except BadImage as error:
        return error
    grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
    stored = picture if isinstance(picture, bytes) else np.ascontiguousarray(picture).tobytes()
    return f"{pixels.shape[0]}x{pixels.shape[1]}", grey, hashlib.blake2b(stored, digest_size=16).digest()
