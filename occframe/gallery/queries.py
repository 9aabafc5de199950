"""What a search on the command line is given: pictures, a data set of them, vectors, or another gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.gallery.checks import check_vectors
from occframe.gallery.manifest import MANIFEST
from occframe.gallery.store import Gallery
from occframe.storage import exists, filesystem, join

if TYPE_CHECKING:
    from occframe.types import Dataset

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
#: A file of vectors larger than this is no list of queries.
_MOST_BYTES = 4 * 2**30

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Queries:
    """vectors: array [Q, D], normalised. faces: the data set they are of, with ``rows`` in it; None for vectors.

    unreadable: names of pictures that could not be read. aligned: False where the pictures were only cut to size.
    """

    names: Sequence[str]
    vectors: np.ndarray
    faces: Dataset | None = None
    rows: Sequence[int] = ()
    unreadable: Sequence[str] = ()
    aligned: bool = True


def read_queries(
    sources: Sequence[str],
    gallery: Gallery,
    context: BuildContext,
    *,
    model: str | None,
    use: str | None,
    options: Mapping[str, Any],
    threads: int,
    advance: Advance = lambda faces: None,
) -> Queries:
    """sources: picture files; or one .npy file of vectors, one gallery, or one data set of faces.

    Raises OccframeError: nothing there, pictures without a model, a model other than the gallery's, or bad vectors.
    """
    if not use and len(sources) == 1 and (sources[0].endswith(".npy") or exists(join(sources[0], MANIFEST))):
        return read_vectors(sources[0], gallery)
    if model is None:
        raise OccframeError(
            "pictures are searched through the model that made the gallery",
            remedy="name it with --model RUN/STEP, or give vectors: a .npy file or another gallery",
        )
    from occframe.data.inspection import embed_readable
    from occframe.data.sources import open_source
    from occframe.models import load_model

    loaded = load_model(model, context)
    if loaded.fingerprint != gallery.fingerprint:
        raise OccframeError(
            f"the gallery {gallery.url} is of model {gallery.fingerprint[:12]}, {model} is {loaded.fingerprint[:12]}",
            remedy="scores between two models mean nothing: search with the model that embedded the gallery",
        )
    loose = all(source.lower().endswith(PICTURES) for source in sources) and not use
    if not loose and len(sources) > 1:
        raise OccframeError(
            f"several data sets at once: {', '.join(sources[:3])}", remedy="give one, or picture files only"
        )
    faces = PictureFiles(sources) if loose else open_source(sources[0], context, use=use, **options)
    rows, vectors = embed_readable(faces, loaded, threads=threads, advance=advance)
    left_out = sorted(set(range(len(faces.ids))) - set(rows))
    if not rows:
        raise OccframeError("none of the pictures can be read", remedy="check the files")
    return Queries(
        [faces.ids[row] for row in rows], vectors, faces, rows, [faces.ids[row] for row in left_out], faces.aligned
    )


def read_vectors(source: str, gallery: Gallery) -> Queries:
    """The rows of a .npy file or of a gallery. Raises OccframeError: neither, of another model, or bad vectors."""
    if not source.endswith(".npy"):
        return _rows_of(Gallery.open(source), gallery)
    fs, path = filesystem(source)
    try:
        if fs.size(path) > _MOST_BYTES:
            raise OccframeError(f"{source} has {fs.size(path):,} bytes", remedy="give queries in smaller files")
        with fs.open(path, "rb") as file:
            vectors = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise OccframeError(f"there is nothing at {source}", remedy="check the path") from error
    except (ValueError, EOFError, OSError) as error:
        raise OccframeError(f"{source} holds no array: {error}", remedy="write it with numpy.save") from error
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.dtype == np.float64:
        vectors = vectors.astype(np.float32)
    names = [f"{source}[{row}]" for row in range(len(vectors))]
    check_vectors(vectors, names, dim=gallery.dim)
    return Queries(names, vectors)


def _rows_of(probes: Gallery, gallery: Gallery) -> Queries:
    if probes.fingerprint != gallery.fingerprint:
        raise OccframeError(
            f"{probes.url} holds embeddings of another model than {gallery.url}",
            remedy="scores between two models mean nothing: embed both with the same one",
        )
    return Queries(probes.read_ids().to_pylist(), probes.read_vectors())


class PictureFiles:
    """Single files as a data set: fulfils ``occframe.types.Dataset``. They are taken to be aligned face crops."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.ids = list(urls)
        self.subjects = ["?"] * len(urls)
        self.landmarks = None
        self.attributes: Mapping[str, np.ndarray] = {}
        self.blocks = [range(len(urls))]
        self.aligned = True
        if missing := [url for url in urls if not exists(url)]:
            raise OccframeError(f"there is nothing at {missing[0]}", remedy="check the path")

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        def content(url: str) -> bytes:
            fs, path = filesystem(url)
            return bytes(fs.cat_file(path))

        return [content(self.ids[row]) for row in rows]

    def fingerprint(self) -> str:
        return "picture files"
