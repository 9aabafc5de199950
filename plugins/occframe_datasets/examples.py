"""The same drawn people in every form that these data sets read: what their configurations give as examples."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from occframe.data import FaceParquetWriter
from occframe.testing.samples import TinyFaces


def _pictures() -> Iterator[tuple[str, str, bytes, np.ndarray]]:
    """id, identity, PNG bytes and landmarks of each."""
    faces = TinyFaces(4, 3)
    for row, (name, person) in enumerate(zip(faces.ids, faces.subjects, strict=True)):
        encoded = cv2.imencode(".png", np.asarray(faces.read([row])[0])[..., ::-1])[1]
        yield name, person, encoded.tobytes(), faces.landmarks[row]


def folder(where: Path) -> Path:
    for name, person, data, _ in _pictures():
        file = where / "folder" / person / f"{name.rpartition('/')[2]}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return where / "folder"


def parquet(where: Path) -> Path:
    with FaceParquetWriter(str(where / "faces.parquet"), extra={"age": int}) as writer:
        for number, (name, person, data, landmarks) in enumerate(_pictures()):
            writer.add(name, person, data, landmarks, age=20 + number)
    return where / "faces.parquet"


def webdataset(where: Path) -> Path:
    with tarfile.open(where / "faces.tar", "w") as archive:
        for name, person, data, _ in _pictures():
            for extension, content in (("cls", person.rpartition("-")[2].encode()), ("png", data)):
                entry = tarfile.TarInfo(f"{name.replace('/', '-')}.{extension}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return where / "faces.tar"


def recordio(where: Path) -> Path:
    """Without a record 0 that says where the pictures end."""
    records, index = io.BytesIO(), []
    for key, (_, person, data, _) in enumerate(_pictures()):
        index.append(f"{key}\t{records.tell()}\n")
        body = struct.pack("<IfQQ", 0, float(person.rpartition("-")[2]), key, 0) + data
        records.write(struct.pack("<II", 0xCED7230A, len(body)) + body + b"\0" * (-len(body) % 4))
    (where / "train.rec").write_bytes(records.getvalue())
    (where / "train.idx").write_text("".join(index), encoding="ascii")
    return where / "train.rec"


def insightface_bin(where: Path) -> Path:
    pictures = list(_pictures())
    pairs = list(combinations(range(len(pictures)), 2))
    same = [pictures[one][1] == pictures[other][1] for one, other in pairs]
    # Copies, for pickle names a repeated object instead of writing it again, which InsightFace's files do not.
    bins = [bytes(bytearray(pictures[row][2])) for pair in pairs for row in pair]
    (where / "faces.bin").write_bytes(pickle.dumps((bins, same)))
    return where / "faces.bin"
