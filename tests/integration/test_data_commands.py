from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from occframe import BuildContext, OccframeError
from occframe.cli import cli
from occframe.component import BackboneBlock
from occframe.data import FaceParquetWriter, ParquetFaces
from occframe.data.conversion import convert
from occframe.data.inspection import find_label_noise
from occframe.data.sources import recognise
from occframe.models import save_model
from occframe.plugins import PluginRegistry
from occframe_datasets.synthetic import SyntheticFaces
from tests.pictures import encode, noise


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for person in ("ann", "zoe"):
        for number in range(4):
            path = root / person / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(noise(16, 16, number + 4 * (person == "zoe")), ".jpg"))
    (root / "zoe" / "1.jpg").write_bytes(b"\xff\xd8\xff cut")
    return root


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def test_convert_a_folder(photos, tmp_path):
    target = tmp_path / "faces"
    output = run("data", "convert", photos, target, "--rows-per-file", 3, "--most-dropped", 0.5)
    assert "7 faces of 2 people in 3 files" in output
    assert "left out: 1 " in output
    faces = ParquetFaces(str(target))
    assert sorted(faces.ids) == [f"{who}/{n}.jpg" for who in ("ann", "zoe") for n in range(4) if (who, n) != ("zoe", 1)]
    assert faces.read([0]) == [(photos / "ann" / "0.jpg").read_bytes()]
    assert json.loads((target / "_dropped.jsonl").read_text())["id"] == "zoe/1.jpg"


def test_a_stopped_conversion_goes_on(photos, tmp_path):
    target = tmp_path / "faces"
    run("data", "convert", photos, target, "--rows-per-file", 3, "--most-dropped", 1)
    whole = {path.name: path.read_bytes() for path in target.glob("*.parquet")}
    # As a kill leaves it that came before the list of files was renewed.
    state = json.loads((target / "_conversion.json").read_text())
    del state["done"]["part-00002.parquet"]
    (target / "_conversion.json").write_text(json.dumps(state))
    (target / "_dropped.jsonl").unlink()
    result = json.loads(run("data", "convert", photos, target, "--rows-per-file", 3, "--most-dropped", 1, "--json"))
    assert (result["rows"], result["files"], result["files_before"]) == (7, 3, 2)
    assert sum(result["dropped"].values()) == 1
    assert {path.name: path.read_bytes() for path in target.glob("*.parquet")} == whole
    assert (target / "_dropped.jsonl").read_text().count("zoe/1.jpg") == 1


def test_other_faces_are_not_mixed_in(photos, tmp_path):
    target = tmp_path / "faces"
    run("data", "convert", photos, target, "--most-dropped", 1)
    with pytest.raises(OccframeError, match=r"with other options \(rows_per_file\)"):
        run("data", "convert", photos, target, "--rows-per-file", 3)
    (photos / "ann" / "0.jpg").unlink()
    with pytest.raises(OccframeError, match="conversion of other faces"):
        run("data", "convert", photos, target)
    with pytest.raises(OccframeError, match="is not empty"):
        run("data", "convert", photos, photos)


def test_too_many_bad_pictures(photos, tmp_path):
    with pytest.raises(OccframeError, match="1 of 8 images cannot be read, more than 10%"):
        run("data", "convert", photos, tmp_path / "faces")


def test_landmarks_and_attributes_stay(tmp_path):
    source = SyntheticFaces(identities=3, images=2, size=32, seed=0)
    with FaceParquetWriter(
        str(tmp_path / "a.parquet"), extra={"age": int, "mood": str, "score": float, "hat": bool}
    ) as writer:
        for row, name in enumerate(source.ids):
            facts = {"age": row, "mood": "glad", "score": None if row == 2 else row / 8}
            facts["hat"] = None if row == 3 else row < 2
            points = None if row == 1 else source.landmarks[row]
            writer.add(name, source.subjects[row], source.read([row])[0], points, **facts)
    before = ParquetFaces(str(tmp_path / "a.parquet"))
    convert(before, str(tmp_path / "b"), rows_per_file=4, shuffle=5)
    after = ParquetFaces(str(tmp_path / "b"))
    assert after.aligned
    assert sorted(after.ids) == sorted(before.ids)
    assert list(after.ids) != list(before.ids)
    for row, name in enumerate(after.ids):
        old = list(before.ids).index(name)
        assert after.subjects[row] == before.subjects[old]
        assert after.read([row]) == before.read([old])
        assert np.array_equal(after.landmarks[row], before.landmarks[old], equal_nan=True)
        for column in ("age", "mood", "score", "hat"):
            assert str(after.attributes[column][row]) == str(before.attributes[column][old])


@pytest.mark.parametrize(
    ("names", "use"),
    [
        (["train.rec", "train.idx", "property"], "recordio"),
        (["a-000.tar", "a-001.tar"], "webdataset"),
        (["lfw.bin"], "insightface-bin"),
        (["part-0.parquet", "_SUCCESS"], "parquet"),
        (["ann/1.jpg", "README"], "folder"),
    ],
)
def test_recognised_by_names(tmp_path, names, use):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert recognise(str(tmp_path), PluginRegistry.discover()) == use


def test_not_recognised(tmp_path):
    with pytest.raises(OccframeError, match=r"(?s)like nothing a data set plugin reads.*--use"):
        run("data", "convert", tmp_path, tmp_path / "b")
    for name in ("a.tar", "b.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OccframeError, match="looks like parquet and webdataset at once"):
        recognise(str(tmp_path), BuildContext(PluginRegistry.discover()).registry)


def test_inspect(photos, tmp_path):
    (photos / "zoe" / "3.jpg").write_bytes((photos / "ann" / "0.jpg").read_bytes())
    (photos / "zoe" / "grey.png").write_bytes(encode(noise(20, 16)[:, :, 0], ".png"))
    found = json.loads(run("data", "inspect", photos, "--sheet", tmp_path / "sheet.png", "--json"))
    assert (found["images"], found["identities"], found["images_per_identity"]) == (9, 2, {"4": 1, "5": 1})
    assert found["sizes"] == {"16x16": 7, "20x16": 1}
    assert found["grey"] == 1
    assert sum(found["unreadable"].values()) == 1
    assert found["first_unreadable"][0][0] == "zoe/1.jpg"
    assert ["ann/0.jpg", "zoe/3.jpg"] in found["across"]
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 96, 8 * 96, 3)
    assert "1 of them under several identities" in run("data", "inspect", photos)


def test_inspect_with_a_model(tmp_path):
    faces = SyntheticFaces(identities=4, images=3, size=32, seed=0)
    with FaceParquetWriter(str(tmp_path / "faces.parquet")) as writer:
        for row, name in enumerate(faces.ids):
            writer.add(name, faces.subjects[row], faces.read([row])[0])
    registry = PluginRegistry.discover()
    block = BackboneBlock.model_validate("mobilefacenet", context={"registry": registry})
    save_model(str(tmp_path / "model"), BuildContext(registry).build(block), block)
    output = run("data", "inspect", tmp_path / "faces.parquet", "--model", tmp_path / "model")
    assert "of 12 images" in output


def test_label_noise_finds_the_swapped_label():
    draw = np.random.default_rng(0)
    people = draw.normal(size=(6, 16))
    vectors = (np.repeat(people, 5, 0) + 0.2 * draw.normal(size=(30, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    subjects = [f"p{at // 5}" for at in range(30)]
    ids = [f"i{at}" for at in range(30)]
    assert find_label_noise(ids, subjects, vectors).suspects == []
    subjects[7] = "p4"  # is p1
    subjects.append("alone")
    ids.append("i30")
    found = find_label_noise(ids, subjects, np.vstack([vectors, vectors[:1]]))
    assert found.compared == 30
    assert found.suspects[0][:3] == ("i7", "p4", "p1")
