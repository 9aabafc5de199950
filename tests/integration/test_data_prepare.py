"""``occframe data prepare`` on small archives of drawn faces, shaped as the official ones."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from occframe.cli import cli
from occframe.component import AlignerBlock
from occframe.data import ParquetFaces
from occframe.errors import OccframeError
from occframe.evaluation.pairs import parse_pairs
from occframe.face_frame import template_landmarks
from occframe.preparation.archives import read_archive
from occframe.preparation.lfw import pictures
from occframe.preparation.prepare import prepare
from occframe.preparation.sources import SourceFile, find_entry, find_files
from occframe.standalone import parse_block, standalone_context
from occframe.types import DetectedFace
from occframe_registry import protocols


def jpeg(seed: int, height: int = 218, width: int = 178) -> bytes:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", cv2.resize(small, (width, height)))[1])


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    folder = tmp_path / "celeba"
    folder.mkdir()
    names = [f"{number:06}.jpg" for number in range(1, 7)]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(f"img_align_celeba/{name}", b"not a picture" if number == 5 else jpeg(number))
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} {n // 2 + 1}\n" for n, name in enumerate(names)))
    (folder / "list_landmarks_align_celeba.txt").write_text(
        "6\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y\n"
        + "".join(f"{name}  69 111 108 111 88 136 73 152 105 152\n" for name in names)
    )
    (folder / "list_attr_celeba.txt").write_text(
        "6\nEyeglasses Young \n" + "".join(f"{name} {1 if n % 2 else -1} -1\n" for n, name in enumerate(names))
    )
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {n % 3}\n" for n, name in enumerate(names)))
    return folder


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["data", "prepare", *arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def test_celeba_from_its_landmarks(tmp_path: Path, celeba: Path) -> None:
    out = tmp_path / "out"
    code, said = run("celeba", str(celeba), "-o", str(out), "--accept-licence", "--any-version")
    assert code == 0, said
    assert "non-commercial research only" in said
    assert "5 faces of 3 people" in said
    assert "another one: 6 pictures instead of 202,599" in said
    assert "another one: 3 people instead of 10,177" in said
    assert "no checksum vouches for img_align_celeba.zip" in said
    assert f"data: {{celeba: {{use: parquet, url: {out}/faces.parquet}}}}" in said
    faces = ParquetFaces(str(out / "faces.parquet"))
    assert faces.aligned
    assert list(faces.subjects) == ["1", "1", "2", "2", "3"]
    assert faces.attributes["eyeglasses"].tolist() == [False, True, False, True, False]
    assert faces.attributes["partition"].tolist() == ["train", "valid", "test", "train", "valid"]
    assert faces.landmarks is not None
    np.testing.assert_allclose(faces.landmarks[0], template_landmarks(112, 112).numpy(), atol=4)
    record = json.loads((out / "protocol.json").read_text())
    assert record["licence"] == "CelebA agreement"
    assert [file["verified"] for file in record["files"]] == [False] * 5
    assert all(len(file["sha256"]) == 64 for file in record["files"])
    assert json.loads((out / "lost.jsonl").read_text())["id"] == "000006.jpg"


def test_files_in_the_folders_of_their_origin_and_the_archive_that_is_named(celeba: Path, tmp_path: Path) -> None:
    origin = {"identity_CelebA.txt": "Anno", "list_attr_celeba.txt": "Anno", "list_eval_partition.txt": "Eval"}
    for name, folder in origin.items():
        (celeba / folder).mkdir(exist_ok=True)
        (celeba / name).rename(celeba / folder / name)
    found = find_files(find_entry("celeba"), celeba)
    assert found["identity_CelebA.txt"] == celeba / "Anno" / "identity_CelebA.txt"
    assert len(found) == 5
    for name in ("lfw.tgz", "lfw-funneled.tgz", "pairs.txt"):
        (tmp_path / name).touch()
    assert set(find_files(find_entry("lfw"), tmp_path)) == {"lfw.tgz", "pairs.txt"}
    assert set(find_files(find_entry("lfw"), tmp_path / "lfw-funneled.tgz")) == {"lfw-funneled.tgz", "pairs.txt"}


def test_another_file_than_the_known_one_is_refused(tmp_path: Path, celeba: Path) -> None:
    code, said = run("celeba", str(celeba), "-o", str(tmp_path / "out"), "--accept-licence")
    assert code != 0
    assert "img_align_celeba.zip that others know: its md5 is" in said
    assert "--any-version" in said
    assert not (tmp_path / "out").exists()


def test_a_licence_is_shown_and_accepted_first(tmp_path: Path, celeba: Path) -> None:
    code, said = run("celeba", str(celeba), "-o", str(tmp_path / "out"))
    assert code == 2
    assert "Terms:   non-commercial research only" in said
    assert "--accept-licence" in said


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    code, said = run("lfw", str(tmp_path), "--accept-licence")
    assert code != 0
    assert "lacks lfw.tgz or lfw-funneled.tgz, pairs.txt of lfw" in said
    assert "http://vis-www.cs.umass.edu/lfw/" in said
    assert "the registry knows no test set `lwf`" in run("lwf", str(tmp_path))[1]
    assert "there is nothing at" in run("lfw", str(tmp_path / "nowhere"))[1]
    code, said = run()
    assert code == 0
    assert all(name in said for name in protocols())


# --- LFW, with a detector that knows where faces are ------------------------------------------------------------------


class Finds:
    """A face where the picture is bright in its middle; eyes and mouth about where LFW has them."""

    LANDMARKS = np.array([[105, 112], [145, 112], [125, 135], [109, 156], [141, 156]], np.float32)

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        if image[125, 125].max() < 100:
            return []
        far = DetectedFace((0, 0, 30, 30), self.LANDMARKS / 4, 0.99)
        return [far, DetectedFace((80, 80, 90, 100), self.LANDMARKS, 0.9)]


def lfw_archive(path: Path, names: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def square(value: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((250, 250, 3), value, np.uint8))[1])


def test_lfw_keeps_every_picture_of_its_pairs(tmp_path: Path) -> None:
    """Where no face is found, it is cut where the others have it."""
    source = tmp_path / "lfw"
    source.mkdir()
    names = {f"lfw/{who}/{who}_{n:04}.jpg": square(200) for who in ("Ada_L", "Bob") for n in (1, 2)}
    names["lfw/Bob/Bob_0002.jpg"] = square(20)
    names["lfw/Bob/Bob_0003.jpg"] = b"no picture"
    names["lfw/README"] = b"text"
    lfw_archive(source / "lfw.tgz", names)
    (source / "pairs.txt").write_text("1\t1\nAda_L\t1\t2\nAda_L\t1\tBob\t2\n")
    context = standalone_context()
    made = prepare(
        find_entry("lfw"),
        source,
        str(tmp_path / "out"),
        aligner=context.build(parse_block(AlignerBlock, {"use": "arcface"}, context)),
        detector=Finds,
        any_version=True,
        progress=lambda *_: Bar(),
    )
    faces = ParquetFaces(made.faces)
    assert sorted(faces.ids) == ["Ada_L/Ada_L_0001.jpg", "Ada_L/Ada_L_0002.jpg", "Bob/Bob_0001.jpg", "Bob/Bob_0002.jpg"]
    detected = dict(zip(faces.ids, faces.attributes["detected"].tolist(), strict=True))
    assert [name for name, found in detected.items() if not found] == ["Bob/Bob_0002.jpg"]
    assert faces.landmarks is not None
    assert np.ptp(faces.landmarks, axis=0).max() < 0.01
    assert made.count == 4
    assert made.people == 2
    assert list(made.lost.values()) == [1]
    assert made.pairs is not None
    assert len(parse_pairs(made.pairs)) == 2


class Bar:
    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, amount: int = 1) -> None: ...


def source_of(path: Path) -> dict[str, SourceFile]:
    return {"pictures": SourceFile("lfw.tgz", "pictures", path, 0, "", False)}


def test_archives_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    path = tmp_path / "lfw.tgz"
    lfw_archive(path, {"lfw/Ada/Bob_0001.jpg": b"x"})
    with pytest.raises(OccframeError, match=r"is not Name/Name_0001\.jpg"):
        list(pictures(source_of(path)))
    lfw_archive(path, {"readme": b"x"})
    with pytest.raises(OccframeError, match=r"holds no \.jpg"):
        list(pictures(source_of(path)))
    lfw_archive(path, {"lfw/Ada/Ada_0001.jpg": bytes(1000)})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(OccframeError, match="cannot be read"):
        list(pictures(source_of(path)))


def test_members_too_large_for_a_picture_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occframe.preparation.archives.MAX_MEMBER", 1000)
    lfw_archive(tmp_path / "a.tgz", {"a.jpg": bytes(1001)})
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(1001))
    for name in ("a.tgz", "a.zip"):
        with pytest.raises(OccframeError, match="has 1,001 bytes, no picture has"):
            list(read_archive(tmp_path / name, ".jpg"))


# --- InsightFace's sets -----------------------------------------------------------------------------------------------


def test_a_bin_becomes_faces_and_pairs(tmp_path: Path) -> None:
    """Its pictures are copied as they are; the pairs find them by name."""
    first, second, third = (jpeg(seed, 112, 112) for seed in range(3))
    file = tmp_path / "cfp_fp.bin"
    file.write_bytes(pickle.dumps(([first, second, first, third], [True, False])))
    code, said = run("cfp-fp", str(file), "-o", str(tmp_path / "out"), "--accept-licence")
    assert code == 0, said
    assert "no checksum vouches for cfp_fp.bin" in said
    assert "another one: 2 pairs instead of 7,000" in said
    assert "people instead" not in said
    faces = ParquetFaces(str(tmp_path / "out" / "faces.parquet"))
    assert [bytes(item) for item in faces.read(range(3))] == [first, second, third]
    assert faces.subjects[0] == faces.subjects[1] != faces.subjects[2]
    pairs = parse_pairs(str(tmp_path / "out" / "pairs.csv"))
    assert [(pair.first, pair.second, pair.same) for pair in pairs] == [
        (faces.ids[0], faces.ids[1], True),
        (faces.ids[0], faces.ids[2], False),
    ]


def test_every_entry_says_what_a_user_needs() -> None:
    for entry in protocols().values():
        for text in (entry.summary, entry.task, entry.origin, entry.obtain, entry.licence, entry.terms):
            assert text.strip() == text != ""
        assert (entry.pairs > 0) == (entry.folds > 0) == any(file.role == "pairs" for file in entry.files)
        for file in entry.files:
            assert len(file.sha256) in (0, 64)
            assert len(file.md5) in (0, 32)
            assert bool(file.source) == bool(file.sha256 or file.md5)


@pytest.mark.shared
def test_the_pairs_at_hand_are_the_known_ones(shared: Path) -> None:
    import hashlib

    known = next(file for file in protocols()["lfw"].files if file.role == "pairs")
    assert hashlib.sha256((shared / "data" / "lfw_pairs.txt").read_bytes()).hexdigest() == known.sha256
