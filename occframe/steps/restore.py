"""Step ``restore``: a data set whose faces have their glasses taken off, with what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from occframe.component import Config, DataRef, GeneratorRef, ModelRef
from occframe.data.part_files import FACE_COLUMNS, PART_ROWS, carried_columns, carried_values, unfinished_parts
from occframe.errors import Interrupted, OccframeError
from occframe.machine import default_threads, keep_freed_memory
from occframe.precision import Precision
from occframe.step import Materials, StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    import numpy as np

    from occframe.data import FaceParquetWriter
    from occframe.models import LoadedModel
    from occframe.removal import Removed, Remover
    from occframe.step import Progress
    from occframe.types import Dataset, FaceBatch

#: Columns that say what became of a face, in data sets and in galleries.
SYNTHESISED, OUTCOME, TREATMENT = "synthesised", "removal", "treatment"
COLUMNS: dict[str, type] = {
    SYNTHESISED: bool,
    OUTCOME: str,
    "glasses_probability": float,
    "sunglasses_probability": float,
    "identity_kept": float,
}


class RemovalConfig(Config):
    """What is taken off faces, by which networks, and when their result is not used."""

    generator: GeneratorRef = Field(description="removes the glasses")
    recogniser: ModelRef | None = Field(
        None,
        description="says who wears glasses, so that all others stay as they are; none: every face goes through the "
        "generator",
    )
    threshold: float = Field(0.5, gt=0, le=1, description="probability from which a face wears glasses")
    refuse_sunglasses: bool = Field(
        False, description="leave faces whose eyes are hidden as they are: what would come out is invented"
    )
    identity: ModelRef | None = Field(
        None, description="a face recogniser that compares each face before and after; in `embed`, its own where absent"
    )
    least_identity: float = Field(
        0.3, ge=-1, le=1, description="cosine below which the result is not used, and the face as it was goes on"
    )


class RestoreConfig(RemovalConfig, StepConfig):
    produces = "dataset"

    data: DataRef = Field(description="aligned faces")
    height: int | None = Field(None, ge=8, le=2048, description="pixels; none: what the generator was trained at")
    width: int | None = Field(None, ge=8, le=2048, description="pixels; none: what the generator was trained at")
    batch_size: int = Field(64, ge=1, description="images at a time; changes no result but by rounding")
    precision: Precision = Field("auto", description="of the networks: auto, fp32, bf16 or fp16 (CUDA only)")
    threads: int | None = Field(None, ge=1, description="threads that decode; none: as many as cores, at most 16")


def build_remover(
    context: Materials, config: RemovalConfig, precision: Precision, *, identity: LoadedModel | None = None
) -> Remover:
    """identity: the model that compares before and after where the configuration names none."""
    from occframe.generators import load_generator
    from occframe.models import load_model
    from occframe.removal import Remover

    def load(reference: ModelRef) -> LoadedModel:
        return load_model(context.artefact(reference).url, context.build, purpose="explain")

    return Remover(
        load_generator(context.artefact(config.generator).url, context.build),
        load(config.recogniser) if config.recogniser else None,
        load(config.identity) if config.identity else identity,
        threshold=config.threshold,
        refuse_sunglasses=config.refuse_sunglasses,
        least_identity=config.least_identity,
        precision=precision,
    )


class RestoreStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data import Quarantine

        config: RestoreConfig = context.config
        if context.device.startswith("cpu"):
            keep_freed_memory()
        faces = context.dataset(config.data)
        if not faces.ids:
            raise OccframeError(f"`{config.data}` has no faces", remedy="check the data set and its splits")
        if not faces.aligned:
            context.note(f"the faces of `{config.data}` are not aligned; put an `align` step before this one")
        remover = build_remover(context, config, config.precision)
        quarantine = Quarantine()
        work = _Restoring(context, faces, remover, quarantine)
        work.run()
        quarantine.tell(context.note, context.url)
        counts = work.counts()
        return StepOutcome(
            outputs={"": {TREATMENT: remover.treatment, "count": sum(counts.values()), "outcomes": counts}},
            metrics={outcome.replace(" ", "_"): float(number) for outcome, number in counts.items()},
            headlines=[f"{context.name}: {told(counts)}"],
        )


def build(config: RestoreConfig, context: object) -> RestoreStep:
    return RestoreStep()


def told(counts: dict[str, int]) -> str:
    """``1,204 faces: 1,100 no glasses, 98 removed, 6 still glasses``."""
    return f"{sum(counts.values()):,} faces: " + ", ".join(f"{number:,} {name}" for name, number in counts.items())


class _Restoring:
    """``faces.parquet`` is a folder of part files; a part that an interrupted attempt finished is left as it is."""

    def __init__(self, context: StepContext, faces: Dataset, remover: Remover, quarantine: Any) -> None:
        self.context = context
        self.config: RestoreConfig = context.config
        self.faces = faces
        self.remover = remover
        self.quarantine = quarantine
        self._carried = carried_columns(faces.attributes, without=FACE_COLUMNS | {*COLUMNS, TREATMENT})
        self._columns = COLUMNS | {TREATMENT: str} | {name: kind for name, (kind, _) in self._carried.items()}

    def run(self) -> None:
        from occframe.storage import join

        folder = join(self.context.url, "faces.parquet")
        total = len(self.faces.ids)
        with self.context.progress("restoring", total, "faces") as progress:
            for part, rows in unfinished_parts(folder, total, PART_ROWS, progress):
                self._restore(rows, part, progress)

    def _restore(self, rows: range, part: str, progress: Progress) -> None:
        from occframe.data import FaceLoader, FaceParquetWriter, Subset

        config, spec = self.config, self.remover.generator.image_spec
        chosen = Subset(self.faces, list(rows))
        loader = FaceLoader(
            chosen,
            height=config.height or spec.height,
            width=config.width or spec.width,
            batch_size=config.batch_size,
            threads=config.threads or default_threads(),
            seed=0,
            quarantine=self.quarantine,
        )
        with FaceParquetWriter(part, extra=self._columns, aligned=self.faces.aligned) as writer:
            for batch in loader.epoch(0):
                if self.context.stop_requested():
                    raise Interrupted("stopped while restoring", remedy="run the same command again to go on")
                self._write(writer, batch, self.remover(batch.images), rows.start)
                progress.advance(len(batch.index))

    def _write(self, writer: FaceParquetWriter, batch: FaceBatch, done: Removed, first: int) -> None:
        described = describe(done)
        for at, place in enumerate(batch.index.tolist()):
            row = first + place
            extra: dict[str, Any] = {name: values[at] for name, values in described.items()}
            extra[TREATMENT] = self.remover.treatment
            extra |= carried_values(self._carried, row)
            image = done.images[at].permute(1, 2, 0).numpy()
            landmarks = None if batch.landmarks is None else batch.landmarks[at].numpy()
            stored = _marked(image) if extra[SYNTHESISED] else image
            writer.add(self.faces.ids[row], self.faces.subjects[row], stored, landmarks, **extra)

    def counts(self) -> dict[str, int]:
        """How many faces came to which end, the most frequent first."""
        from collections import Counter

        from occframe.data import ParquetFaces
        from occframe.storage import join

        outcomes = ParquetFaces(join(self.context.url, "faces.parquet")).attributes[OUTCOME].tolist()
        return dict(Counter(outcomes).most_common())


def describe(done: Removed) -> dict[str, list[Any]]:
    """``COLUMNS`` of each face, None where a figure is unknown."""

    def known(values: Any) -> list[float | None]:
        return [None if value != value else value for value in values.tolist()]

    columns = (done.synthesised, list(done.outcomes), known(done.glasses), known(done.sunglasses), known(done.identity))
    return dict(zip(COLUMNS, columns, strict=True))


def _marked(image: np.ndarray) -> bytes:
    import cv2

    from occframe.marking import GLASSES_REMOVED, mark_synthesised

    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return mark_synthesised(bytes(encoded), GLASSES_REMOVED)
