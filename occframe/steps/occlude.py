"""Step ``occlude``: an occluded copy of a data set, with what was hidden and how to do it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field

from occframe.component import DataRef, OcclusionBlock
from occframe.data.part_files import FACE_COLUMNS, PART_ROWS, carried_columns, carried_values, unfinished_parts
from occframe.errors import Interrupted, OccframeError
from occframe.machine import default_threads
from occframe.step import StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from occframe.data import FaceParquetWriter
    from occframe.step import Progress
    from occframe.types import Dataset, FaceBatch, Occluded

#: Of a face, known where it is, and last the whole picture.
_REGIONS = ("face", "eyes", "nose", "mouth", "picture")


class OccludeConfig(StepConfig):
    produces = "dataset"

    data: DataRef = Field(description="aligned faces")
    occlusion: OcclusionBlock = Field(description="what every face gets")
    seed: int = Field(0, ge=0, description="of the test set: its images follow from this, their ids and the occlusion")
    height: int = Field(112, ge=16, le=2048, description="pixels; pictures of another size are scaled and cut")
    width: int = Field(112, ge=16, le=2048, description="pixels")
    batch_size: int = Field(64, ge=1, description="images at a time; changes no result")
    threads: int | None = Field(None, ge=1, description="threads that decode; none: as many as cores, at most 16")


class OccludeStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data import Quarantine
        from occframe.occlusion_record import described, recipe_hash
        from occframe.storage import join, write_json

        config: OccludeConfig = context.config
        faces = context.dataset(config.data)
        if not faces.ids:
            raise OccframeError(f"`{config.data}` has no faces", remedy="check the data set and its splits")
        if not faces.aligned:
            context.note(f"the faces of `{config.data}` are not aligned; put an `align` step before this one")
        generator = context.build.build(config.occlusion, device="cpu")
        component = context.build.registry.find("occlusion", config.occlusion.use)
        version = str(getattr(generator, "version", component.version))
        quarantine = Quarantine()
        work = _Occluding(context, faces, generator, version, quarantine)
        work.run()
        quarantine.tell(context.note, context.url)
        recipe = {
            "format": 2,
            "source": work.source(),
            "occlusion": described(generator, config.occlusion),
            "provider": config.occlusion.owner,
            "generator_version": version,
            "seed": config.seed,
            "height": config.height,
            "width": config.width,
        }
        digest = recipe_hash(recipe)
        write_json(join(context.url, "recipe.json"), {"hash": digest} | recipe)
        hidden = work.hidden()
        region = "face" if "face" in hidden else "picture"
        if untouched := work.untouched():
            context.note(f"{untouched:,} of {work.count:,} faces show nothing of it: their hidden_picture is 0")
        return StepOutcome(
            outputs={"": {"recipe": recipe, "recipe_hash": digest, "count": work.count}},
            metrics={"occluded": float(work.count), **{f"hidden_{name}": value for name, value in hidden.items()}},
            headlines=[
                f"{context.name}: {work.count:,} faces occluded by {config.occlusion.use}, "
                f"{hidden.get(region, 0):.0%} of the {region} hidden on average, recipe {digest}"
            ],
        )


def build(config: OccludeConfig, context: object) -> OccludeStep:
    return OccludeStep()


@dataclass(frozen=True)
class _Occluding:
    """``faces.parquet`` is a folder of part files; a part that an interrupted attempt finished is left as it is."""

    context: StepContext
    faces: Dataset
    generator: Any
    version: str
    quarantine: Any

    def run(self) -> None:
        from occframe.storage import join

        if replaced := sorted(self.faces.attributes.keys() & self._own_columns.keys()):
            names = f"`{self.context.config.data}` has columns of the names that this step writes"
            self.context.note(f"{names}; these replace them: {', '.join(replaced)}")
        folder = join(self.context.url, "faces.parquet")
        total = len(self.faces.ids)
        with self.context.progress("occluding", total, "face") as progress:
            for part, rows in unfinished_parts(folder, total, PART_ROWS, progress):
                self._occlude(rows, part, progress)

    def _occlude(self, rows: range, part: str, progress: Progress) -> None:
        from occframe.data import FaceLoader, FaceParquetWriter, Subset

        config: OccludeConfig = self.context.config
        chosen = Subset(self.faces, list(rows))
        loader = FaceLoader(
            chosen,
            height=config.height,
            width=config.width,
            batch_size=config.batch_size,
            threads=config.threads or default_threads(),
            seed=0,
            quarantine=self.quarantine,
        )
        with FaceParquetWriter(part, extra=self._columns, aligned=self.faces.aligned) as writer:
            for batch in loader.epoch(0):
                if self.context.stop_requested():
                    raise Interrupted("stopped while occluding", remedy="run the same command again to go on")
                self._write(writer, batch, chosen)
                progress.advance(len(batch.index))

    def _write(self, writer: FaceParquetWriter, batch: FaceBatch, chosen: Dataset) -> None:
        import torch

        from occframe.face_frame import face_frame
        from occframe.hidden import hidden_fractions
        from occframe.occlusion_record import to_plain
        from occframe.random import derive_seed, id_seeds, mix

        config: OccludeConfig = self.context.config
        ids = [chosen.ids[row] for row in batch.index.tolist()]
        seeds = torch.from_numpy(mix(derive_seed("occlude", config.seed), 0, id_seeds(ids)))
        params = self.generator.sample(batch, seeds)
        occluded: Occluded = self.generator.apply(batch.images, params)
        points = torch.full((len(ids), 5, 2), torch.nan) if batch.landmarks is None else batch.landmarks
        found = points.isfinite().flatten(1).all(1)
        fractions = hidden_fractions(occluded.mask, points)
        placed = face_frame(points, config.height, config.width).known | chosen.aligned
        for at, row in enumerate(batch.index.tolist()):
            extra: dict[str, Any] = {
                "mask": _png(occluded.mask[at, 0]),
                "occlusion": config.occlusion.use,
                "generator_version": self.version,
                "seed": int(seeds[at]),
                "params": json.dumps(to_plain(params, at)),
            }
            for name in self._parts:
                alpha = occluded.parts.get(name)
                extra[f"mask_{name}"] = None if alpha is None or not alpha[at].any() else _png(alpha[at, 0])
            for region, shares in fractions.items():
                share = float(shares[at])
                extra[f"hidden_{region}"] = share if placed[at] and share == share else None
            extra["hidden_picture"] = float(occluded.mask[at].mean())
            extra |= carried_values(self._carried, self._row_of[ids[at]])
            landmarks = points[at].numpy() if found[at] else None
            writer.add(
                chosen.ids[row], chosen.subjects[row], occluded.images[at].permute(1, 2, 0).numpy(), landmarks, **extra
            )

    @property
    def _parts(self) -> tuple[str, ...]:
        return tuple(getattr(self.generator, "parts", ()))

    @property
    def _own_columns(self) -> dict[str, type]:
        named: dict[str, type] = {"mask": bytes, "occlusion": str, "generator_version": str, "seed": int, "params": str}
        named |= {f"mask_{name}": bytes for name in self._parts}
        return named | {f"hidden_{region}": float for region in _REGIONS}

    @property
    def _columns(self) -> dict[str, type]:
        return self._own_columns | {name: kind for name, (kind, _) in self._carried.items()}

    @cached_property
    def _carried(self) -> dict[str, tuple[type, np.ndarray]]:
        """Attributes of the data that go on with the faces."""
        return carried_columns(self.faces.attributes, without=FACE_COLUMNS | self._own_columns.keys())

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.faces.ids)}

    def source(self) -> str:
        """A digest of the faces that went in, the same for the same pictures and landmarks on every machine."""
        from occframe.occlusion_record import source_digest

        def pictures() -> Any:
            ids, subjects, points = self.faces.ids, self.faces.subjects, self.faces.landmarks
            for start in range(0, len(ids), 256):
                rows = range(start, min(start + 256, len(ids)))
                for row, picture in zip(rows, self.faces.read(rows), strict=True):
                    seen = picture if isinstance(picture, bytes) else picture.tobytes()
                    yield ids[row], subjects[row], seen, b"" if points is None else points[row].astype("<f4").tobytes()

        return source_digest(pictures())

    @cached_property
    def _written(self) -> Dataset:
        from occframe.data import ParquetFaces
        from occframe.storage import join

        return ParquetFaces(join(self.context.url, "faces.parquet"))

    @property
    def count(self) -> int:
        return len(self._written.ids)

    def untouched(self) -> int:
        return int((self._written.attributes["hidden_picture"] == 0).sum())

    def hidden(self) -> dict[str, float]:
        """Mean share of each region that is hidden, where it is known."""
        import numpy as np

        columns = self._written.attributes
        means = {region: columns[f"hidden_{region}"].astype(np.float64) for region in _REGIONS}
        return {region: float(np.nanmean(values)) for region, values in means.items() if not np.isnan(values).all()}


def _png(alpha: Tensor) -> bytes:
    """Alpha [H, W] 0..1 as an 8-bit grey PNG. What is hidden ever so little stays above 0."""
    import cv2

    values: np.ndarray = (alpha * 255).ceil().clamp(0, 255).byte().numpy()
    return bytes(cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
