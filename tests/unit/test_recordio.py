from __future__ import annotations

import struct

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe import BuildContext, OccframeError
from occframe.data import FaceLoader, decode
from occframe.plugins import PluginRegistry
from occframe_datasets.recordio import RecordIoFaces, _payload
from tests.pictures import encode, noise

MAGIC = struct.pack("<I", 0xCED7230A)


def framed(content: bytes) -> bytes:
    """As MXNet writes it: cut where the magic number occurs by chance, on four bytes."""
    pieces, start = [], 0
    for at in range(0, len(content) - 3, 4):
        if content[at : at + 4] == MAGIC:
            pieces.append(content[start:at])
            start = at + 4
    pieces.append(content[start:])
    kinds = [0] if len(pieces) == 1 else [1] + [2] * (len(pieces) - 2) + [3]
    record = b""
    for kind, piece in zip(kinds, pieces, strict=True):
        record += MAGIC + struct.pack("<I", kind << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
    return record


def header(labels, key=0) -> bytes:
    if isinstance(labels, (int, float)):
        return struct.pack("<IfQQ", 0, labels, key, 0)
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels)


def write(folder, records: dict[int, bytes]):
    """records: key -> header and picture."""
    content, lines = b"", []
    for key, record in records.items():
        lines.append(f"{key}\t{len(content)}\n")
        content += framed(record)
    (folder / "train.rec").write_bytes(content)
    (folder / "train.idx").write_text("".join(lines))
    return folder


PICTURES = [encode(noise(8, 8, seed), ".jpg") for seed in range(5)]


@pytest.fixture
def insightface(tmp_path):
    """Five pictures of people 0 and 7, with a record for each of the two, as im2rec of InsightFace writes them."""
    records = {0: header([6, 8])}
    for key, (label, picture) in enumerate(zip([0, 0, 0, 7, 7], PICTURES, strict=True), 1):
        records[key] = header([label, 0.0]) + picture
    records |= {6: header([1, 4]), 7: header([4, 6])}
    return write(tmp_path, records)


def test_a_set_with_records_of_identities(insightface):
    faces = RecordIoFaces(str(insightface))
    assert faces.ids == ["1", "2", "3", "4", "5"]
    assert faces.subjects == ["0", "0", "0", "7", "7"]
    assert faces.read([4, 0]) == [PICTURES[4], PICTURES[0]]
    assert (faces.aligned, faces.landmarks, list(faces.blocks)) == (True, None, [range(5)])


def test_a_set_of_pictures_alone(tmp_path):
    write(tmp_path, {key: header(float(key % 2), key) + picture for key, picture in enumerate(PICTURES)})
    faces = RecordIoFaces(str(tmp_path / "train.rec"))
    assert faces.ids == ["0", "1", "2", "3", "4"]
    assert faces.subjects == ["0", "1", "0", "1", "0"]
    assert faces.read(range(5)) == PICTURES


def test_as_a_component_that_a_loader_reads(insightface):
    registry = PluginRegistry.discover()
    component = registry.find("dataset", "recordio")
    config = component.load_config().model_validate({"url": str(insightface)}, context={"registry": registry})
    faces = component.load_factory()(config, BuildContext(registry))
    batch = next(iter(FaceLoader(faces, height=8, width=8, batch_size=5, threads=1, seed=0).epoch(0)))
    assert np.array_equal(batch.images[3].permute(1, 2, 0).numpy(), decode(PICTURES[3]))


def test_elsewhere(insightface):
    memory = fsspec.filesystem("memory")
    memory.put(str(insightface), "/faces", recursive=True)
    try:
        assert RecordIoFaces("memory://faces").read([1, 2]) == PICTURES[1:3]
    finally:
        memory.rm("/faces", recursive=True)


@given(st.lists(st.sampled_from([MAGIC, b"abcd", b"xyzw"])), st.binary(max_size=3))
def test_a_record_with_the_magic_number_in_it(words, rest):
    content = b"".join(words) + rest
    assert _payload(framed(content)) == content


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_none(noise):
    assert isinstance(_payload(noise), bytes)


def test_a_damaged_picture_leaves_alone(insightface):
    content = bytearray((insightface / "train.rec").read_bytes())
    second = int((insightface / "train.idx").read_text().split("\n")[2].split("\t")[1])
    content[second + 4 : second + 8] = struct.pack("<I", 1 << 28)  # a length beyond the file
    (insightface / "train.rec").write_bytes(content)
    assert RecordIoFaces(str(insightface)).read([0, 1, 2]) == [PICTURES[0], b"", PICTURES[2]]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("0\t0\nnonsense", "no RecordIO index"),
        ("0\t0\n1\t99999", r"line 2 names offset 99999, where .*train.rec has no record"),
        ("0\t4\n", "no record at byte 4"),
        ("0\t0\n0\t48", "the key 0 twice"),
        ("", "no RecordIO index"),
    ],
)
def test_a_wrong_index(insightface, index, message):
    (insightface / "train.idx").write_text(index)
    with pytest.raises(OccframeError, match=message):
        RecordIoFaces(str(insightface))


def test_labels_that_are_no_identities(tmp_path):
    write(tmp_path, {0: header(0.5) + PICTURES[0]})
    with pytest.raises(OccframeError, match=r"key 0 has the label 0.5"):
        RecordIoFaces(str(tmp_path))


def test_files_that_are_missing(tmp_path):
    with pytest.raises(OccframeError, match=r"no file at .*train.rec"):
        RecordIoFaces(str(tmp_path))
    (tmp_path / "train.rec").write_bytes(framed(header(0)))
    with pytest.raises(OccframeError, match=r"no file at .*train.idx"):
        RecordIoFaces(str(tmp_path))


def test_a_changed_file_changes_the_fingerprint(insightface):
    before = RecordIoFaces(str(insightface)).fingerprint()
    assert RecordIoFaces(str(insightface)).fingerprint() == before
    with (insightface / "train.rec").open("ab") as file:
        file.write(b"more")
    assert RecordIoFaces(str(insightface)).fingerprint() != before
