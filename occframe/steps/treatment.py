"""What was done to faces before a recogniser sees them: kept with their embeddings, so that search can compare."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from occframe.steps.restore import COLUMNS, OUTCOME, SYNTHESISED, TREATMENT, describe

if TYPE_CHECKING:
    from occframe.gallery.manifest import ColumnType
    from occframe.removal import Remover
    from occframe.types import Dataset, FaceBatch

#: Key of ``GallerySchema.treatment``.
GLASSES = "glasses"

_TYPES: dict[type, ColumnType] = {bool: "bool", str: "string", float: "float64"}


class Treatment:
    """By a ``restore`` step that made the faces, by a remover here, by both or none.

    columns: of a gallery, what became of each face. name: for its manifest, empty where nothing was done.
    """

    def __init__(self, faces: Dataset, remover: Remover | None) -> None:
        self._remover = remover
        earlier = faces.attributes.get(TREATMENT)
        names = sorted({str(name) for name in earlier.tolist()}) if earlier is not None else []
        names += [remover.treatment] if remover else []
        self.name = {GLASSES: " then ".join(names)} if names else {}
        self._carried = () if earlier is None else (SYNTHESISED, OUTCOME)
        kept = COLUMNS if remover else {name: COLUMNS[name] for name in self._carried}
        self.columns: dict[str, ColumnType] = {name: _TYPES[kind] for name, kind in kept.items()}

    def __call__(self, batch: FaceBatch, faces: Dataset) -> tuple[FaceBatch, dict[str, list[Any]]]:
        """The batch as the model is to see it, and ``columns`` of its images, which are rows ``index`` of ``faces``."""
        rows = batch.index.numpy()
        earlier = {name: faces.attributes[name][rows].tolist() for name in self._carried}
        if self._remover is None:
            return batch, earlier
        done = self._remover(batch.images)
        said = describe(done)
        if earlier:
            said[SYNTHESISED] = [bool(a) or b for a, b in zip(earlier[SYNTHESISED], said[SYNTHESISED], strict=True)]
        return replace(batch, images=done.images), said
