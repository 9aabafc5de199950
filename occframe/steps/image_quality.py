"""Step ``image_quality``: restored pictures beside what they should be, in pixels and in what recognisers see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from occframe.component import DataRef, ModelRef
from occframe.errors import Interrupted, OccframeError
from occframe.machine import keep_freed_memory
from occframe.precision import Precision
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe.steps.evaluate import Condition

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from occframe.models import LoadedModel
    from occframe.types import Dataset, ProtocolResult

#: Impostor pairs are all pairs of this many faces at most, evenly chosen: 16 million.
MOST_FACES = 4000


class ImageQualityConfig(StepConfig):
    produces = "evaluation"

    reference: DataRef = Field(description="the pictures as they should be, such as clean faces")
    conditions: dict[Condition, DataRef] = Field(
        min_length=1,
        description="the same faces, by id: first as they were before, e.g. `{glasses: occluded}`, then restored",
    )
    masks: DataRef | None = Field(
        None, description="an `occlude` step: figures inside and outside of what it covered, too"
    )
    inside: float = Field(
        0.5,
        gt=0,
        le=1,
        description="alpha from which a pixel is inside; of clear lenses that is the frame. Outside is 0",
    )
    model: ModelRef | None = Field(
        None, description="a face recogniser, another one than was trained against: how much of the identity is kept"
    )
    recogniser: ModelRef | None = Field(None, description="a glasses recogniser: in how many faces it still sees some")
    harm: float = Field(0.05, gt=0, lt=2, description="a face is harmed whose cosine falls by more than this")
    far: float = Field(
        0.01, gt=0, lt=1, description="false accept rate of the first condition; others keep its threshold"
    )
    height: int = Field(112, ge=16, le=2048, description="pixels; pictures of another size are scaled and cut")
    width: int = Field(112, ge=16, le=2048, description="pixels")
    batch_size: int = Field(64, ge=1, description="images at a time; changes no result")
    precision: Precision = Field("auto", description="of the networks: auto, fp32, bf16 or fp16 (CUDA only)")


class ImageQualityStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.evaluation.figures import side_by_side
        from occframe.evaluation.results import Evaluation, save_evaluation
        from occframe.step import Artefact

        config: ImageQualityConfig = context.config
        if context.device.startswith("cpu"):
            keep_freed_memory()
        results = _Comparison(context).results()
        # Embeddings would be artefacts of their own; of a data set all that a report asks is its name and size.
        reference = Artefact(str(config.reference), "dataset", "", {})
        probes = {condition: Artefact(str(name), "dataset", "", {}) for condition, name in config.conditions.items()}
        evaluation = Evaluation(reference, probes, {"image quality": results})
        save_evaluation(context.url, evaluation)
        return StepOutcome(
            outputs={"": {"conditions": list(results), "protocols": ["image quality"]}},
            metrics=evaluation.metrics(),
            headlines=side_by_side({"image quality": {c: r.metrics for c, r in results.items()}}, 6),
        )


def build(config: ImageQualityConfig, context: object) -> ImageQualityStep:
    return ImageQualityStep()


class _Comparison:
    def __init__(self, context: StepContext) -> None:
        from occframe.models import load_model
        from occframe.removal import check_tells_glasses

        self.context = context
        self.config: ImageQualityConfig = context.config
        self.reference = context.dataset(self.config.reference)
        self.sets = {condition: context.dataset(name) for condition, name in self.config.conditions.items()}
        self.ids = _shared_ids(self.reference, self.sets)
        self.masks = self._mask_data()
        self._row_maps: dict[int, dict[str, int]] = {}

        def load(reference: ModelRef | None) -> LoadedModel | None:
            if reference is None:
                return None
            return load_model(context.artefact(reference).url, context.build, purpose="explain")

        self.model, self.recogniser = load(self.config.model), load(self.config.recogniser)
        if self.recogniser is not None:
            check_tells_glasses(self.recogniser)
        # One tensor or array a batch, by condition; None is the reference.
        self.pixels: dict[str, dict[str, list[Tensor]]] = {condition: {} for condition in self.sets}
        self.vectors: dict[str | None, list[np.ndarray]] = {name: [] for name in (None, *self.sets)}
        self.glasses: dict[str, list[np.ndarray]] = {condition: [] for condition in self.sets}

    def results(self) -> dict[str, ProtocolResult]:
        import torch

        with self.context.progress("comparing", len(self.ids), "faces") as progress:
            for ids in _chunks(self.ids, self.config.batch_size):
                if self.context.stop_requested():
                    raise Interrupted("stopped while comparing", remedy="run the same command again")
                with torch.inference_mode():
                    self._compare(ids)
                progress.advance(len(ids))
        return {condition: self._result(condition) for condition in self.sets}

    def _compare(self, ids: Sequence[str]) -> None:
        from occframe.evaluation.image_quality import psnr, ssim
        from occframe.removal import GLASSES, tell_glasses

        clean = self._pictures(self.reference, ids)
        self._embed(None, clean)
        parts: dict[str, Tensor | None] = {"": None}
        if self.masks is not None:
            alpha = self._pictures(self.masks, ids)[:, :1].float() / 255
            parts |= {"_inside": (alpha >= self.config.inside).float(), "_outside": (alpha == 0).float()}
        for condition, faces in self.sets.items():
            images = self._pictures(faces, ids)
            for part, weights in parts.items():
                self.pixels[condition].setdefault(f"psnr_db{part}", []).append(psnr(images, clean, weights))
                self.pixels[condition].setdefault(f"ssim{part}", []).append(ssim(images, clean, weights))
            self._embed(condition, images)
            if self.recogniser is not None:
                seen = tell_glasses(self.recogniser, images, precision=self.config.precision)
                self.glasses[condition].append(seen[GLASSES].numpy())

    def _embed(self, condition: str | None, images: Tensor) -> None:
        from occframe.models import embed_images
        from occframe.removal import fit_faces

        if self.model is not None:
            fitted = fit_faces(images, self.model.image_spec)
            vectors = embed_images(self.model, fitted, precision=self.config.precision)
            self.vectors[condition].append(vectors.cpu().numpy())

    def _result(self, condition: str) -> ProtocolResult:
        import numpy as np
        import torch

        from occframe.evaluation.image_quality import mean_db
        from occframe.evaluation.restoration import false_accepts, firing_rate, harm_rate, impostor_scores, lowest_mean
        from occframe.types import EmbeddingTable, ProtocolResult

        first = next(iter(self.sets))
        metrics: dict[str, float] = {}
        notes = []
        if self.recogniser is not None:
            metrics["glasses_seen"] = firing_rate(np.concatenate(self.glasses[condition]))
        if self.model is not None:
            clean, before, after = (np.concatenate(self.vectors[name]) for name in (None, first, condition))
            kept, then = (clean * after).sum(1), (clean * before).sum(1)
            metrics |= {"cosine": float(kept.mean()), "cosine_lowest": lowest_mean(kept)}
            rows = np.linspace(0, len(self.ids) - 1, min(len(self.ids), MOST_FACES)).astype(int)
            of = dict(zip(self.reference.ids, self.reference.subjects, strict=True))
            ids, subjects = [self.ids[row] for row in rows], [of[self.ids[row]] for row in rows]
            tables = [EmbeddingTable(ids, subjects, vectors[rows]) for vectors in (clean, before, after)]
            try:
                accepted = false_accepts(
                    impostor_scores(tables[0], tables[1]), impostor_scores(tables[0], tables[2]), self.config.far
                )
                metrics["false_accepts"] = accepted.after
            except OccframeError as error:
                notes.append(f"False accepts are left out: {error.message}.")
            if condition != first:
                metrics["harmed"] = harm_rate(then, kept, self.config.harm)
        for name, batches in self.pixels[condition].items():
            values = torch.cat(batches)
            metrics[name] = mean_db(values) if name.startswith("psnr") else float(values.nanmean())
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        notes += [f"{name} is left out: no pixel is there." for name in metrics.keys() - finite.keys()]
        return ProtocolResult(metrics=finite, counts={"faces": len(self.ids)}, notes=sorted(notes))

    def _mask_data(self) -> Dataset | None:
        from occframe.data import ParquetFaces
        from occframe.storage import join

        if self.config.masks is None:
            return None
        url = join(self.context.artefact(self.config.masks).url, "faces.parquet")
        return ParquetFaces(url, image="mask")

    def _pictures(self, faces: Dataset, ids: Sequence[str]) -> Tensor:
        """[n, 3, H, W] uint8. Raises OccframeError for one that cannot be read: a mean would hide it."""
        import numpy as np
        import torch

        from occframe.data import BadImage, decode, fit

        row_of = self._rows(faces)
        missing = [name for name in ids if name not in row_of]
        if missing:
            raise OccframeError(f"the masks have none for `{missing[0]}`", remedy="name the step that made the faces")
        pictures = []
        for name, stored in zip(ids, faces.read([row_of[name] for name in ids]), strict=True):
            try:
                picture = decode(stored) if isinstance(stored, bytes) else stored
            except BadImage as error:
                raise OccframeError(f"`{name}` cannot be read: {error.message}", remedy="leave it out") from error
            pictures.append(fit(picture, self.config.height, self.config.width))
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

    def _rows(self, faces: Dataset) -> dict[str, int]:
        if id(faces) not in self._row_maps:
            self._row_maps[id(faces)] = {name: row for row, name in enumerate(faces.ids)}
        return self._row_maps[id(faces)]


def _shared_ids(reference: Dataset, sets: dict[str, Dataset]) -> list[str]:
    """Ids of faces that every set has, in the reference's order. Raises OccframeError where there are none."""
    everywhere = set(reference.ids).intersection(*(set(faces.ids) for faces in sets.values()))
    if not everywhere:
        raise OccframeError(
            "no face is there in every data set: their ids differ", remedy="compare sets that were made of one another"
        )
    return [name for name in reference.ids if name in everywhere]


def _chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
