"""Step ``occlude``: what it writes, how it goes on, and that its recipe says enough to do it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from occframe.component import OcclusionBlock
from occframe.data import FaceParquetWriter, ParquetFaces, load_faces
from occframe.errors import Interrupted, OccframeError
from occframe.occlusion_record import from_plain, recipe_hash, source_digest
from occframe.standalone import parse_block, standalone_context
from occframe.steps import occlude
from occframe.types import FaceBatch
from occframe_datasets.synthetic import SyntheticFaces
from occframe_occlusions.rectangles import Rectangles
from tests.fakes import FakeStepContext, stop_after

FACES = SyntheticFaces(identities=6, images=3, size=112, seed=4)
GLASSES = {"use": "glasses", "severity": 0.6}


def run(folder: Path, occlusion: Any = GLASSES, **options: Any) -> tuple[Any, ParquetFaces]:
    stop = options.pop("stop", lambda: False)
    data = options.pop("data", FACES)
    written = {"use": "occlude", "data": "faces", "occlusion": occlusion, "threads": 1} | options
    written.pop("use")
    context = FakeStepContext(folder, written, occlude.OccludeConfig, datasets={"faces": data}, stop=stop)
    outcome = occlude.build(context.config, None).run(context)
    return outcome, ParquetFaces(str(folder / "faces.parquet"))


def test_an_occluded_copy_reads_back(tmp_path: Path) -> None:
    outcome, faces = run(tmp_path)
    assert list(faces.ids) == list(FACES.ids)
    assert list(faces.subjects) == list(FACES.subjects)
    assert faces.aligned
    assert np.allclose(faces.landmarks, FACES.landmarks)
    before, after = (load_faces(some, list(range(len(FACES.ids))), 112, 112) for some in (FACES, faces))
    table = pq.read_table(tmp_path / "faces.parquet").to_pylist()
    for row in table:
        at = list(FACES.ids).index(row["id"])
        mask = cv2.imdecode(np.frombuffer(row["mask"], np.uint8), cv2.IMREAD_GRAYSCALE)
        changed = (before[at] != after[at]).any(axis=2)
        assert changed.any()
        assert not (changed & (mask == 0)).any()
        assert {"mask_frame", "mask_lens", "mask_shadow"} <= row.keys()
        assert 0 < row["hidden_eyes"] <= 1
        assert row["hidden_mouth"] < 0.1
    assert outcome.outputs[""]["count"] == len(table)
    assert outcome.metrics["hidden_eyes"] > outcome.metrics["hidden_mouth"]
    assert json.loads((tmp_path / "recipe.json").read_text())["hash"] in outcome.headlines[0]


def test_parameters_in_the_file_make_the_same_pictures(tmp_path: Path) -> None:
    """Replay from the file alone: structure from the generator, numbers from the rows."""
    _, faces = run(tmp_path)
    context = standalone_context()
    generator = context.build(parse_block(OcclusionBlock, GLASSES, context))
    rows = pq.read_table(tmp_path / "faces.parquet").to_pylist()
    clean = torch.from_numpy(load_faces(FACES, list(range(len(rows))), 112, 112)).permute(0, 3, 1, 2)
    batch = FaceBatch(images=clean, index=torch.arange(len(rows)), landmarks=torch.from_numpy(FACES.landmarks))
    like = generator.sample(batch, torch.arange(len(rows)))
    params = from_plain([json.loads(row["params"]) for row in rows], like)
    again = generator.apply(clean, params).images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(again, load_faces(faces, list(range(len(rows))), 112, 112))
    with pytest.raises(OccframeError, match="not of this generator"):
        from_plain([{"severity": 0.5}], like)


def test_batches_and_stops_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run(tmp_path / "whole")
    monkeypatch.setattr(occlude, "PART_ROWS", 5)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", batch_size=2, stop=stop_after(4))
    assert sorted((tmp_path / "parts" / "faces.parquet").glob("part-*.parquet"))
    parts, faces = run(tmp_path / "parts", batch_size=2)
    assert parts.outputs[""]["recipe_hash"] == whole.outputs[""]["recipe_hash"]
    first = pq.read_table(tmp_path / "whole" / "faces.parquet").to_pylist()
    second = pq.read_table(tmp_path / "parts" / "faces.parquet").to_pylist()
    assert first == second
    assert len(faces.ids) == len(FACES.ids)


def test_the_recipe_tells_what_matters(tmp_path: Path) -> None:
    hashes = {
        run(tmp_path / "a")[0].outputs[""]["recipe_hash"],
        run(tmp_path / "b", seed=1)[0].outputs[""]["recipe_hash"],
        run(tmp_path / "c", occlusion={"use": "glasses", "severity": 0.7})[0].outputs[""]["recipe_hash"],
        run(tmp_path / "d", data=SyntheticFaces(6, 3, 112, 5))[0].outputs[""]["recipe_hash"],
    }
    assert len(hashes) == 4


def test_a_recipe_says_what_pictures_were_used_not_where_they_lie(tmp_path: Path) -> None:
    def recipe(folder: str, shade: int) -> tuple[str, str]:
        (tmp_path / folder).mkdir()
        sprite = np.full((20, 30, 4), shade, np.uint8)
        cv2.imwrite(str(tmp_path / folder / "sprite.png"), sprite)
        writing = tmp_path / f"{folder}.parquet"
        with FaceParquetWriter(str(writing)) as writer:
            writer.add("a", "a", np.full((112, 112, 3), shade, np.uint8))
        sprites = {"use": "sprites", "url": str(tmp_path / folder)}
        patches = {"use": "rectangles", "fills": ["patch"], "patches": {"use": "parquet", "url": str(writing)}}
        choice = {"use": "choice", "of": [{"occlusion": sprites}, {"occlusion": patches}], "severity": 0.4}
        outcome, _ = run(tmp_path / f"of {folder}", occlusion=choice)
        return outcome.outputs[""]["recipe_hash"], json.dumps(outcome.outputs[""]["recipe"])

    (one, text), (two, _), (other, _) = recipe("here", 90), recipe("there", 90), recipe("changed", 91)
    assert str(tmp_path) not in text
    assert one == two != other


def test_the_recipe_hash_is_a_fixed_function_of_the_recipe() -> None:
    """Golden values: a change here makes every stored recipe a stranger."""
    assert recipe_hash({"b": [1, 2.5], "a": {"é": None}}) == recipe_hash({"a": {"é": None}, "b": [1, 2.5]})
    assert recipe_hash({"a": 1}) == "1f8c00645b7df6ce"
    one, two = ("1", "x", b"abc", b""), ("2", "y", b"", b"points")
    assert source_digest([one, two]) == source_digest([two, one]) == "f9ba9d3e97e2caa2832e758b30429958"
    assert source_digest([one]) != source_digest([("1", "xa", b"bc", b"")])
    assert source_digest([one]) != source_digest([("1", "x", b"ab", b"c")])


def test_plugin_generators_without_parts_or_version_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Rectangles, "version")
    outcome, _ = run(tmp_path, occlusion={"use": "rectangles"})
    assert outcome.outputs[""]["recipe"]["generator_version"] == "0.1.0"
    outcome, _ = run(
        tmp_path / "choice", occlusion={"use": "choice", "of": [{"occlusion": "scarf"}, {"occlusion": "erasing"}]}
    )
    assert "1" in outcome.outputs[""]["recipe"]["generator_version"]


def test_a_choice_writes_the_parts_of_what_was_chosen(tmp_path: Path) -> None:
    run(tmp_path, occlusion={"use": "choice", "of": [{"occlusion": "scarf"}, {"occlusion": "hat"}], "severity": 0.7})
    rows = pq.read_table(tmp_path / "faces.parquet").to_pylist()
    worn = [(row["mask_scarf"] is not None, row["mask_hat"] is not None) for row in rows]
    assert set(worn) == {(True, False), (False, True)}


def written(path: Path, points: Any, **options: Any) -> ParquetFaces:
    """Three faces with these landmarks, each [5, 2] or None."""
    with FaceParquetWriter(str(path)) as writer:
        for at, (picture, place) in enumerate(zip(FACES.read([0, 1, 2]), points, strict=True)):
            writer.add(str(at), str(at), picture, place)
    return ParquetFaces(str(path), **options)


def test_other_landmarks_are_another_recipe(tmp_path: Path) -> None:
    hashes = set()
    for name, shift in (("one", 0), ("two", 15), ("three", 0)):
        faces = written(tmp_path / f"{name}.parquet", FACES.landmarks[:3] + shift, aligned=True)
        hashes.add(run(tmp_path / name, data=faces)[0].outputs[""]["recipe_hash"])
    assert len(hashes) == 2


def test_what_is_hidden_of_faces_nobody_knows_the_place_of(tmp_path: Path) -> None:
    points = [FACES.landmarks[0], None, FACES.landmarks[2] + 1000]
    run(tmp_path / "one", data=written(tmp_path / "some.parquet", points, aligned=False))
    first, second, third = pq.read_table(tmp_path / "one" / "faces.parquet").to_pylist()
    assert first["hidden_eyes"] > 0.03
    assert second["landmarks"] is second["hidden_face"] is second["hidden_eyes"] is None
    assert second["hidden_picture"] > 0.01
    assert third["hidden_picture"] == 0
    assert third["landmarks"] is not None
    nobody = written(tmp_path / "none.parquet", [None] * 3, aligned=False)
    outcome, _ = run(tmp_path / "two", data=nobody, occlusion={"use": "medical-mask", "wearing": ["full"]})
    share = outcome.metrics["hidden_picture"]
    assert share > 0.2
    assert f"{share:.0%} of the picture hidden on average" in outcome.headlines[0]
    assert "hidden_face" not in outcome.metrics


def test_what_shows_nothing_and_what_is_replaced_is_said(tmp_path: Path) -> None:
    away = written(tmp_path / "away.parquet", [FACES.landmarks[0] + 1000, *FACES.landmarks[1:3]], aligned=True)
    folder = tmp_path / "once"
    notes = notes_of(folder, away)
    assert notes == ["1 of 3 faces show nothing of it: their hidden_picture is 0"]
    notes = notes_of(tmp_path / "twice", ParquetFaces(str(folder / "faces.parquet"), aligned=True))
    assert notes[0].startswith("`faces` has columns of the names that this step writes; these replace them: ")
    assert "hidden_face" in notes[0]
    assert "seed" in notes[0]


def notes_of(folder: Path, data: Any) -> list[str]:
    options = {"data": "faces", "occlusion": GLASSES, "threads": 1}
    context = FakeStepContext(folder, options, occlude.OccludeConfig, datasets={"faces": data})
    occlude.build(context.config, None).run(context)
    return context.notes


def test_the_batch_size_changes_no_parameter(tmp_path: Path) -> None:
    parts = [{"occlusion": name} for name in ("glasses", "rectangles", "scarf", "erasing")]
    for size in (1, 7, 64):
        run(tmp_path / str(size), occlusion={"use": "choice", "of": parts}, batch_size=size)
    tables = [pq.read_table(tmp_path / str(size) / "faces.parquet").to_pylist() for size in (1, 7, 64)]
    assert tables[0] == tables[1] == tables[2]
