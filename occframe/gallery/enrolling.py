"""Pictures into a gallery: what an ``embed`` step does in a pipeline, for a gallery that lives on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from occframe.data import FaceLoader, Quarantine, Subset
from occframe.errors import OccframeError
from occframe.gallery.importing import Existing
from occframe.gallery.store import Gallery
from occframe.gallery.writer import GalleryWriter
from occframe.machine import default_threads
from occframe.models import LoadedModel, embed_and_describe
from occframe.types import Dataset


@dataclass(frozen=True)
class Enrolled:
    """added: rows written. skipped: faces whose ids were there already. unreadable: what was left out, and why."""

    added: int
    skipped: int
    unreadable: str | None


def enrol(
    gallery: Gallery,
    faces: Dataset,
    model: LoadedModel,
    *,
    existing: Existing = "error",
    flip: bool = False,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda images: None,
) -> Enrolled:
    """Embed ``faces`` with ``model`` and add them; the gallery's further columns are what the model says of a face.

    flip: average with the mirrored image, as the gallery was made. Raises OccframeError where it is another model's,
    has columns that the model cannot fill, or has an id already and ``existing`` is "error".
    """
    if model.fingerprint != gallery.fingerprint:
        raise OccframeError(
            f"the gallery {gallery.url} is of model {gallery.fingerprint}, not of {model.fingerprint}",
            remedy="scores between two models mean nothing: use the model that the gallery was made with",
        )
    columns = gallery.schema.columns
    if missing := set(columns) - set(getattr(model.backbone, "columns", {})):
        raise OccframeError(
            f"the gallery has the columns {', '.join(sorted(missing))}, and the model says nothing of them",
            remedy="add these rows from a file that has them",
        )
    quarantine = Quarantine()
    with GalleryWriter(gallery.url, gallery.schema, replace=existing == "replace") as writer:
        there = writer.known(faces.ids) if existing != "replace" else set()
        if there and existing == "error":
            raise OccframeError(
                f"the id `{min(there)}` is there already ({len(there)} of {len(faces.ids)} are)",
                remedy="replace or skip those that exist, or delete them first",
            )
        left = [row for row, name in enumerate(faces.ids) if name not in there]
        if left:
            loader = FaceLoader(
                Subset(faces, left),
                height=model.image_spec.height,
                width=model.image_spec.width,
                batch_size=batch_size,
                threads=default_threads(),
                seed=0,
                quarantine=quarantine,
            )
            for batch in loader.epoch(0):
                rows = [left[row] for row in batch.index.tolist()]
                vectors, said = embed_and_describe(model, batch.images, flip=flip, describe=bool(columns))
                writer.write(
                    [faces.ids[row] for row in rows],
                    [faces.subjects[row] for row in rows],
                    vectors.cpu().numpy(),
                    {name: said[name].tolist() for name in columns},
                )
                advance(len(rows))
    gallery.reload()
    return Enrolled(len(left) - len(quarantine), len(there), quarantine.summary() or None)
