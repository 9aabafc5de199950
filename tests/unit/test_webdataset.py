from __future__ import annotations

import io
import json
import tarfile

import fsspec
import pytest

from occframe import OccframeError
from occframe_datasets.webdataset import WebDatasetFaces
from tests.pictures import encode, noise

PICTURES = [encode(noise(8, 8, seed), ".jpg") for seed in range(4)]


def write(path, files: dict[str, bytes]):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    for shard in range(2):
        files = {}
        for number in (2 * shard, 2 * shard + 1):
            files[f"faces/{number:06}.jpg"] = PICTURES[number]
            files[f"faces/{number:06}.cls"] = f"{number // 3}\n".encode()
            files[f"faces/{number:06}.json"] = json.dumps({"identity": f"p{number // 3}", "age": 3}).encode()
        write(tmp_path / f"train-{shard:03}.tar", files)
    return tmp_path


def test_a_folder_of_shards(shards):
    faces = WebDatasetFaces(str(shards))
    assert faces.ids == [f"faces/{number:06}" for number in range(4)]
    assert faces.subjects == ["0", "0", "0", "1"]
    assert list(faces.blocks) == [range(2), range(2, 4)]
    assert faces.read([3, 0, 2]) == [PICTURES[3], PICTURES[0], PICTURES[2]]
    assert faces.notes == []


def test_identities_from_json(shards):
    assert WebDatasetFaces(str(shards), label="json").subjects == ["p0", "p0", "p0", "p1"]
    with pytest.raises(OccframeError, match=r"`person` of faces/000000.json is no text"):
        WebDatasetFaces(str(shards), label="json", key="person")


def test_elsewhere(shards):
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/shards", recursive=True)
    try:
        assert WebDatasetFaces("memory://shards").read([1, 2]) == PICTURES[1:3]
    finally:
        memory.rm("/shards", recursive=True)


def test_what_is_no_sample_is_left_out_with_a_note(tmp_path):
    write(
        tmp_path / "a.tar",
        {"1.jpg": PICTURES[0], "1.cls": b"0", "2.jpg": PICTURES[1], "3.cls": b"1", "README": b"hello", "4.txt": b""},
    )
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        link = tarfile.TarInfo("5.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    faces = WebDatasetFaces(str(tmp_path))
    assert faces.ids == ["1"]
    assert faces.notes == ["left out: 1 samples without a .cls", "left out: 3 samples without a picture"]


def test_names_that_are_there_twice(tmp_path):
    write(tmp_path / "a.tar", {"1.jpg": PICTURES[0], "1.cls": b"0"})
    write(tmp_path / "b.tar", {"1.jpg": PICTURES[1], "1.cls": b"0"})
    with pytest.raises(OccframeError, match="two samples are called '1'"):
        WebDatasetFaces(str(tmp_path))


@pytest.mark.parametrize("damage", ["compressed", "cut", "empty folder", "nothing"])
def test_what_is_no_shard(tmp_path, damage):
    path = tmp_path / "a.tar"
    if damage == "compressed":
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("1.jpg"))
    elif damage == "cut":
        write(path, {"1.jpg": bytes(4000), "1.cls": b"0"})
        path.write_bytes(path.read_bytes()[:3000])
    url = str(tmp_path / "missing") if damage == "nothing" else str(tmp_path)
    with pytest.raises(OccframeError) as error:
        WebDatasetFaces(url)
    assert error.value.remedy
