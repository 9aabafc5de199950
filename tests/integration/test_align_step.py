"""Step ``align`` with real components: what it writes, what it lists, and how it goes on."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from occframe.component import BuildContext
from occframe.config import load_pipeline
from occframe.data import FaceParquetWriter, ParquetFaces, apply_split, decode
from occframe.data.splits import SplitPart
from occframe.errors import Interrupted, OccframeError
from occframe.pipeline import Runner
from occframe.plugins import PluginRegistry
from occframe.step import StepOutcome
from occframe.steps import align
from occframe.steps.align import AlignConfig, AlignStep
from occframe.types import Dataset
from occframe.yamlfile import parse_yaml
from occframe_aligners.arcface import TEMPLATE, ArcFaceAligner
from occframe_aligners.configs import ArcFaceConfig
from tests.faces import orl_face
from tests.fakes import FakeStepContext, stop_after
from tests.pictures import encode, noise

REGISTRY = PluginRegistry.discover()


def landmarks_of(row: int) -> np.ndarray:
    return ((TEMPLATE - 56) * (0.8 + row % 5) + [110 + row % 3, 90]).astype(np.float32)


def pictures(folder: Path, count: int, *, broken: Mapping[int, bytes] | None = None) -> ParquetFaces:
    """Noise with made-up landmarks, and attributes of every type."""
    broken = broken or {}
    url = str(folder / "pictures.parquet")
    columns = {"glasses": bool, "age": int, "blur": float, "camera": str}
    with FaceParquetWriter(url, extra=columns, aligned=False) as writer:
        for row in range(count):
            image = broken.get(row, encode(noise(180, 220, seed=row), ".jpg"))
            camera = None if row % 2 else f"c{row}"
            writer.add(
                f"f{row:03}",
                f"p{row % 4}",
                image,
                landmarks_of(row),
                glasses=row % 2 == 0,
                age=row,
                blur=0.5,
                camera=camera,
            )
    return ParquetFaces(url)


def context(folder: Path, data: Dataset, **options: Any) -> FakeStepContext:
    stop = options.pop("stop", lambda: False)
    options = {"data": "pictures"} | options
    return FakeStepContext(
        folder, options, AlignConfig, name="align", datasets={"pictures": data}, registry=REGISTRY, stop=stop
    )


def aligned(context: FakeStepContext) -> ParquetFaces:
    return ParquetFaces(f"{context.url}/faces.parquet")


def not_found(context: FakeStepContext) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(context.url, "not_found.jsonl").read_text().splitlines()]


def part_files(context: FakeStepContext) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(context.url, "faces.parquet").iterdir())}


def test_faces_with_landmarks_need_no_detector(tmp_path: Path) -> None:
    data = pictures(tmp_path, 9)
    run = context(tmp_path / "out", data, format="png", aligner={"use": "arcface", "width": 96})
    outcome = AlignStep().run(run)
    faces = aligned(run)
    assert faces.aligned
    assert (faces.ids, faces.subjects) == (data.ids, data.subjects)
    aligner = ArcFaceAligner(ArcFaceConfig(width=96), BuildContext(REGISTRY))
    for row, stored in enumerate(faces.read(range(9))):
        expected = aligner.align(decode(data.read([row])[0]), landmarks_of(row))
        np.testing.assert_array_equal(decode(stored), expected.image)
        np.testing.assert_allclose(faces.landmarks[row], expected.landmarks, atol=1e-3)
    attributes = faces.attributes
    assert attributes["glasses"].tolist() == [True, False] * 4 + [True]
    assert attributes["age"].tolist() == list(range(9))
    assert attributes["camera"].tolist() == [None if row % 2 else f"c{row}" for row in range(9)]
    assert set(attributes["source_height"]) == {180}
    assert set(attributes["source_width"]) == {220}
    assert np.isnan(attributes["detector_score"].astype(float)).all()
    assert not_found(run) == []
    assert outcome.metrics == {"aligned": 9.0, "not_found": 0.0}
    assert outcome.headlines == ["align: 9 of 9 faces aligned"]
    assert (run.bars[0].done, run.bars[0].total) == (9, 9)


def test_what_is_not_found_is_listed(tmp_path: Path) -> None:
    good = encode(noise(), ".jpg")
    data = pictures(tmp_path, 8, broken={1: b"", 4: good[:700], 6: b"not a picture"})
    run = context(tmp_path / "out", data)
    outcome = AlignStep().run(run)
    listed = not_found(run)
    assert [line["id"] for line in listed] == ["f001", "f004", "f006"]
    assert all(line["reason"] for line in listed)
    assert aligned(run).ids == ["f000", "f002", "f003", "f005", "f007"]
    assert outcome.metrics == {"aligned": 5.0, "not_found": 3.0}
    assert "3 images left out: " in run.notes[0]
    assert "not_found.jsonl" in run.notes[0]


def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "PART_ROWS", 7)
    data = pictures(tmp_path, 30, broken={3: b"", 20: b"x"})
    files = []
    for threads in (1, 4):
        run = context(tmp_path / str(threads), data, threads=threads)
        AlignStep().run(run)
        files.append(part_files(run))
    assert files[0] == files[1]
    assert len(files[0]) == 2 * 5
    assert cv2.getNumThreads() > 0


class Counting:
    """A data set that notes which rows were read."""

    def __init__(self, inner: Dataset) -> None:
        self.inner = inner
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        self.rows += rows
        return self.inner.read(rows)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "PART_ROWS", 8)
    data = pictures(tmp_path, 30, broken={2: b"", 19: b"x", 27: b"y"})
    whole = context(tmp_path / "whole", data)
    AlignStep().run(whole)
    with pytest.raises(Interrupted, match="stopped while aligning"):
        AlignStep().run(context(tmp_path / "stopped", data, stop=stop_after(20)))
    done = part_files(context(tmp_path / "stopped", data))
    assert [name for name in done if name.endswith(".parquet")] == ["part-00000.parquet", "part-00001.parquet"]
    counting = Counting(data)
    resumed = context(tmp_path / "stopped", counting)
    outcome = AlignStep().run(resumed)
    assert min(counting.rows) == 16
    assert part_files(resumed) == part_files(whole)
    assert not_found(resumed) == not_found(whole)
    assert outcome.metrics == {"aligned": 27.0, "not_found": 3.0}
    assert resumed.bars[0].done == 30


def test_a_part_in_which_nothing_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "PART_ROWS", 4)
    run = context(tmp_path / "out", pictures(tmp_path, 12, broken=dict.fromkeys(range(4), b"")))
    AlignStep().run(run)
    assert aligned(run).ids == [f"f{row:03}" for row in range(4, 12)]
    assert aligned(run).attributes["age"].tolist() == list(range(4, 12))


# --- splits -----------------------------------------------------------------------------------------------------------


def test_splits_are_declared_here_and_drawn_from_what_was_found(tmp_path: Path) -> None:
    splits = {"train": {"identities": 3}, "test": {"identities": "rest"}}
    run = context(tmp_path / "out", pictures(tmp_path, 12), splits=splits)
    assert run.config.outputs() == {"": "dataset", "train": "dataset", "test": "dataset"}
    outcome: StepOutcome = AlignStep().run(run)
    assert set(outcome.outputs) == {"", "train", "test"}
    recorded = json.loads(json.dumps(outcome.outputs[""]["splits"]))
    assert recorded == splits
    parts = {name: SplitPart.model_validate(part) for name, part in recorded.items()}
    train, test = (apply_split(aligned(run), parts, name, seed=1) for name in ("train", "test"))
    assert len(set(train.subjects)) == 3
    assert not set(train.subjects) & set(test.subjects)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": {"a": {"of": "b", "images": 1}}}, "`of: b` names no part"),
        ({"splits": {"a b": {"identities": 1}}}, "should match pattern"),
        ({"choose": "biggest"}, "'best', 'largest' or 'centre'"),
        ({"aligner": "arcfaces"}, "no aligner is called `arcfaces`"),
        ({"detector": "yunnet"}, "no detector is called `yunnet`"),
        ({"aligner": {"use": "arcface", "height": 4}}, "greater than or equal to 16"),
        ({"min_scor": 0.5}, "unknown option `min_scor`"),
    ],
)
def test_configuration_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlignConfig.model_validate({"data": "pictures"} | options, context={"registry": REGISTRY})


def test_other_steps_name_its_parts_in_a_pipeline(tmp_path: Path) -> None:
    """The runner opens what the step wrote, gives its declared parts, and skips it the second time."""
    text = f"""
run_dir: {tmp_path / "run"}
device: cpu
data:
  photographs: {{use: parquet, url: {pictures(tmp_path, 12).url}}}
steps:
  - use: align
    name: crops
    data: photographs
    splits: {{train: {{identities: 3}}, test: {{identities: rest}}}}
"""
    pipeline = load_pipeline(parse_yaml(text, "pipeline.yaml"), REGISTRY)
    Runner(pipeline, REGISTRY, Console(quiet=True)).run()
    again = Runner(pipeline, REGISTRY, Console(quiet=True))
    assert [step.action for step in again.plan()] == ["skip"]
    train, test = again.dataset("crops.train"), again.dataset("crops.test")
    assert train.aligned
    assert sorted([*train.ids, *test.ids]) == again.dataset("crops").ids
    assert not set(train.subjects) & set(test.subjects)
    assert decode(test.read([0])[0]).shape == (112, 112, 3)


# --- bad input --------------------------------------------------------------------------------------------------------


class Unmarked:
    """The same pictures without landmarks."""

    landmarks = None

    def __init__(self, inner: Dataset) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_no_landmarks_and_no_detector(tmp_path: Path) -> None:
    run = context(tmp_path / "out", Unmarked(pictures(tmp_path, 3)))
    with pytest.raises(OccframeError, match=r"`pictures` has no landmarks, and step `align` has no detector") as caught:
        AlignStep().run(run)
    assert "detector: mtcnn" in str(caught.value.remedy)


def test_no_face_at_all(tmp_path: Path) -> None:
    run = context(tmp_path / "out", pictures(tmp_path, 3, broken=dict.fromkeys(range(3), b"")))
    with pytest.raises(OccframeError, match=r"no face was aligned: 3 images left out: 3 "):
        AlignStep().run(run)
    assert len(not_found(run)) == 3


def test_faces_that_are_aligned_already_are_remarked_upon(tmp_path: Path) -> None:
    first = context(tmp_path / "first", pictures(tmp_path, 3))
    AlignStep().run(first)
    second = context(tmp_path / "second", aligned(first))
    AlignStep().run(second)
    assert "aligned already" in second.notes[0]
    np.testing.assert_allclose(aligned(second).landmarks, aligned(first).landmarks, atol=0.01)


# --- with a detector --------------------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path: Path) -> ParquetFaces:
    """Ten ORL faces in grey surroundings, stored in five ways; an empty wall; half a file."""
    try:
        importlib.metadata.distribution("mtcnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra `detect` is not installed: pip install 'occframe[detect]'")
    url = str(tmp_path / "photographs.parquet")
    with FaceParquetWriter(url, aligned=False) as writer:
        for person in range(1, 11):
            picture = np.full((260, 330, 3), 128, np.uint8)
            picture[70:182, 110:202] = orl_face(person, 1)
            stored = [
                encode(picture, ".jpg"),
                encode(picture, ".png"),
                encode(picture[:, :, 0], ".jpg"),
                encode(picture, ".webp"),
                encode(picture, ".bmp"),
            ]
            writer.add(f"s{person:02}", f"s{person}", stored[person % 5])
        writer.add("wall", "nobody", encode(np.full((200, 200, 3), 150, np.uint8), ".jpg"))
        writer.add("half", "nobody", encode(noise(), ".jpg")[:500])
    return ParquetFaces(url)


def test_photographs_are_aligned_by_a_detector_from_a_package(tmp_path: Path, photographs: ParquetFaces) -> None:
    run = context(tmp_path / "out", photographs, detector="mtcnn")
    AlignStep().run(run)
    faces = aligned(run)
    assert faces.ids == [f"s{person:02}" for person in range(1, 11)]
    assert [(line["id"], line["reason"]) for line in not_found(run)] == [
        ("half", "truncated JPEG"),
        ("wall", "no face found"),
    ]
    assert (faces.attributes["detector_score"] > 0.7).all()
    # Every face's eyes, nose and mouth lie near the template's, and all of them together right on it.
    distances = np.linalg.norm(faces.landmarks - TEMPLATE, axis=2)
    assert distances.max() < 12
    assert np.linalg.norm(faces.landmarks.mean(0) - TEMPLATE, axis=1).max() < 4
