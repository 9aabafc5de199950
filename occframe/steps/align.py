"""Step ``align``: one aligned face for every picture of a data set, or a line that says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from occframe.component import AlignerBlock, DataRef, DetectorBlock
from occframe.config import Name
from occframe.data.part_files import FACE_COLUMNS, PART_ROWS, carried_columns, carried_values, parts
from occframe.data.splits import SplitPart, part_problems
from occframe.errors import Interrupted, OccframeError
from occframe.machine import default_threads
from occframe.step import StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    import numpy as np

    from occframe.data.alignment import FaceCut, FaceCutter
    from occframe.data.headers import BadImage
    from occframe.data.quarantine import Quarantine
    from occframe.step import Progress
    from occframe.types import Dataset


class AlignConfig(StepConfig):
    produces = "dataset"

    data: DataRef = Field(description="the pictures; where landmarks come with them, no face is looked for")
    aligner: AlignerBlock = Field("arcface", validate_default=True, description="how five landmarks become a crop")
    detector: DetectorBlock | None = Field(None, description="finds the face in pictures without landmarks")
    choose: Literal["best", "largest", "centre"] = Field(
        "best", description="which of several faces: the best scored, the largest, or the nearest to the centre"
    )
    min_score: float = Field(0.5, ge=0, le=1, description="detected faces scored lower are not taken")
    splits: dict[Name, SplitPart] = Field(
        {}, description="named parts of the aligned faces, by identity and by image, as under `data`"
    )
    format: Literal["jpeg", "png"] = Field("jpeg", description="how aligned faces are stored; png keeps every bit")
    quality: int = Field(95, ge=50, le=100, description="of jpeg")
    threads: int | None = Field(
        None, ge=1, description="threads that decode, detect and align; none: as many as cores, at most 16"
    )

    @field_validator("splits")
    @classmethod
    def _splits_add_up(cls, splits: dict[str, SplitPart]) -> dict[str, SplitPart]:
        for name, problem in part_problems(splits):
            raise ValueError(f"`{name}`: {problem}")
        return splits

    def outputs(self) -> Mapping[str, str]:
        return dict.fromkeys(("", *self.splits), "dataset")


class AlignStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data.alignment import FaceCutter, encoder, one_thread_each
        from occframe.data.quarantine import Quarantine
        from occframe.storage import join

        config: AlignConfig = context.config
        data = context.dataset(config.data)
        _check_landmarks(context, data)
        cutter = FaceCutter(
            context.build.build(config.aligner),
            context.build.build(config.detector) if config.detector else None,
            config.choose,
            config.min_score,
            encoder(config.format, config.quality),
        )
        missed = Quarantine()
        with one_thread_each():
            _Alignment(context, data, cutter, missed).run()
        missed.write(join(context.url, "not_found.jsonl"))
        total, lost = len(data.ids), len(missed)
        if lost == total:
            raise OccframeError(
                f"no face was aligned: {missed.summary()}",
                remedy="check that the pictures show faces; a detector finds more with a lower min_score",
            )
        if lost:
            context.note(f"{missed.summary()}; each is listed in {join(context.url, 'not_found.jsonl')}")
        splits = {name: part.model_dump(mode="json", exclude_defaults=True) for name, part in config.splits.items()}
        return StepOutcome(
            outputs={part: {"splits": splits} if part == "" else {} for part in config.outputs()},
            metrics={"aligned": float(total - lost), "not_found": float(lost)},
            headlines=[f"{context.name}: {total - lost:,} of {total:,} faces aligned"],
        )


def build(config: AlignConfig, context: object) -> AlignStep:
    return AlignStep()


def _check_landmarks(context: StepContext, data: Dataset) -> None:
    """Fail before the first picture where no picture can have landmarks."""
    config: AlignConfig = context.config
    if data.landmarks is None and config.detector is None:
        raise OccframeError(
            f"the data set `{config.data}` has no landmarks, and step `{context.name}` has no detector",
            remedy="write `detector: mtcnn` (needs the extra `detect`) or `detector: yunet`; see docs/alignment.md",
        )
    if data.aligned:
        context.note(f"`{config.data}` says that it is aligned already; aligning again samples every face once more")


@dataclass(frozen=True)
class _Alignment:
    """``faces.parquet`` is a folder of part files; a part that an interrupted attempt finished is left as it is."""

    context: StepContext
    data: Dataset
    cutter: FaceCutter
    missed: Quarantine

    def run(self) -> None:
        from occframe.storage import exists, join, make_dirs

        config: AlignConfig = self.context.config
        folder = join(self.context.url, "faces.parquet")
        make_dirs(folder)
        total = len(self.data.ids)
        pool = ThreadPoolExecutor(config.threads or default_threads())
        try:
            with self.context.progress("aligning", total, "face") as progress:
                for number, name, rows in parts(total, PART_ROWS):
                    part = join(folder, name)
                    # A leading underscore hides a file from whoever reads the folder as a data set.
                    missed = join(folder, f"_not_found-{number:05}.jsonl")
                    if exists(part):
                        self._recall(missed)
                        progress.advance(len(rows))
                    else:
                        self._align(rows, pool, part, missed, progress)
        finally:
            pool.shutdown(cancel_futures=True)

    def _recall(self, url: str) -> None:
        from occframe.data.headers import BadImage
        from occframe.storage import read_bytes

        for line in map(json.loads, read_bytes(url).splitlines()):
            self.missed.add(line["id"], BadImage(line["reason"], line["detail"]))

    def _align(self, rows: range, pool: Executor, part: str, missed_url: str, progress: Progress) -> None:
        from occframe.data.headers import BadImage
        from occframe.data.parquet_writer import FaceParquetWriter
        from occframe.data.quarantine import Quarantine

        ids, subjects = self.data.ids, self.data.subjects
        extra = {"source_height": int, "source_width": int, "detector_score": float}
        extra |= {name: kind for name, (kind, _) in self._carried.items()}
        missed_here = Quarantine()
        with FaceParquetWriter(part, extra=extra, aligned=True) as writer:
            # In the order of the rows, whichever thread is done first.
            for row, face in zip(rows, pool.map(self._cut, rows), strict=True):
                if self.context.stop_requested():
                    raise Interrupted("stopped while aligning", remedy="run the same command again to go on")
                if isinstance(face, BadImage):
                    missed_here.add(ids[row], face)
                    self.missed.add(ids[row], face)
                else:
                    columns = carried_values(self._carried, row)
                    columns |= {"source_height": face.source_height, "source_width": face.source_width}
                    columns["detector_score"] = self._given_score(row) if face.score is None else face.score
                    writer.add(ids[row], subjects[row], face.image, face.landmarks, **columns)
                progress.advance()
            missed_here.write(missed_url)  # before the part appears, which says that both are there

    def _cut(self, row: int) -> FaceCut | BadImage:
        from occframe.data.headers import BadImage

        landmarks = self.data.landmarks
        try:
            return self.cutter.cut(self.data.read([row])[0], None if landmarks is None else landmarks[row])
        except BadImage as error:
            return error

    @cached_property
    def _carried(self) -> dict[str, tuple[type, np.ndarray]]:
        return carried_columns(self.data.attributes, without=FACE_COLUMNS)

    def _given_score(self, row: int) -> float | None:
        """Landmarks that came with the data may have come with their detector's score."""
        scores = self.data.attributes.get("detector_score")
        return float(scores[row]) if scores is not None and scores.dtype.kind == "f" else None
