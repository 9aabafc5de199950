"""What is known of embedded faces besides their embeddings, for protocols that group by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from occframe.errors import OccframeError
from occframe.step import Artefact, StepContext

if TYPE_CHECKING:
    import numpy as np

    from occframe.gallery import Gallery
    from occframe.types import EmbeddingTable

_CHUNK = 512  # faces replayed at a time
_HIDDEN = "hidden_"


def read_table(context: StepContext, artefact: Artefact, columns: Sequence[str]) -> EmbeddingTable:
    """The embeddings of an artefact with those of ``columns`` that are known: stored beside them, an attribute of their
    data set, or ``hidden_face``, ``hidden_eyes``, ``hidden_nose``, ``hidden_mouth``, measured on the replayed masks.

    Raises OccframeError: the data set is not the one that was embedded.
    """
    from dataclasses import replace

    from occframe.gallery import Gallery

    gallery = Gallery.open(artefact.url)
    table = gallery.read()
    found: dict[str, np.ndarray] = {}
    stored = [name for name in columns if name in gallery.schema.columns]
    if stored:
        found |= _stored(gallery, stored)
    missing = [name for name in columns if name not in found]
    if missing and "data" in artefact.meta:
        found |= _attributes(context, artefact, table.ids, missing)
        if hidden := [name for name in missing if name.startswith(_HIDDEN) and name not in found]:
            found |= _hidden(context, artefact, table.ids, hidden)
    return replace(table, columns=found)


def _stored(gallery: Gallery, names: Sequence[str]) -> dict[str, np.ndarray]:
    import numpy as np

    batches = list(gallery.iter_batches(columns=names))
    return {name: np.concatenate([batch.columns[name] for batch in batches]) for name in names}


def _attributes(
    context: StepContext, artefact: Artefact, ids: Sequence[str], names: Sequence[str]
) -> dict[str, np.ndarray]:
    import numpy as np

    faces = context.dataset(str(artefact.meta["data"]))
    wanted = [name for name in names if name in faces.attributes]
    if not wanted:
        return {}
    if faces.fingerprint() != artefact.meta["data_fingerprint"]:
        raise OccframeError(
            f"`{artefact.meta['data']}` is not the data that `{artefact.name}` was made of, so {', '.join(wanted)} of "
            "its faces are not known",
            remedy="run the pipeline that made these embeddings, or embed again",
        )
    row_of = {name: row for row, name in enumerate(faces.ids)}
    rows = np.array([row_of[name] for name in ids], np.int64)
    return {name: np.asarray(faces.attributes[name])[rows] for name in wanted}


def _hidden(
    context: StepContext, artefact: Artefact, ids: Sequence[str], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Shares of regions that the occlusion hides; 0 where there was none."""
    import numpy as np

    from occframe.face_frame import template_landmarks
    from occframe.hidden import REGIONS, hidden_fractions
    from occframe.steps.replay import replay_faces

    regions = [name for name in names if name.removeprefix(_HIDDEN) in REGIONS]
    values = {name: np.zeros(len(ids), np.float32) for name in regions}
    if artefact.meta.get("occlusion") is None or not regions:
        return values
    with context.progress(f"measuring what is hidden, {artefact.name}", len(ids), "faces") as progress:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            batch = replay_faces(context, artefact, chunk)
            assert batch.mask is not None  # there was an occlusion
            landmarks = batch.landmarks
            if landmarks is None:
                landmarks = template_landmarks(*batch.mask.shape[2:]).expand(len(chunk), 5, 2)
            fractions = hidden_fractions(batch.mask, landmarks)
            for name in regions:
                values[name][start : start + len(chunk)] = fractions[name.removeprefix(_HIDDEN)].numpy()
            progress.advance(len(chunk))
    return values
