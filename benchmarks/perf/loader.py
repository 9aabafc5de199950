"""Parquet -> decode -> rectangle occlusion as uint8 batches, against bare ``cv2.imdecode`` of the same bytes.

Both sides have as many threads as there are cores. Drawn faces as JPEG of quality 95; LFW too where ../shared has it.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from side_by_side import Comparison, interleave, main

from occframe.data import FaceLoader, FaceParquetWriter, ParquetFaces
from occframe_datasets.recordio import RecordIoFaces
from occframe_datasets.synthetic import SyntheticFaces
from occframe_occlusions.configs import RectanglesConfig
from occframe_occlusions.rectangles import Rectangles

_LFW = Path(__file__).resolve().parents[3] / "shared" / "data" / "lfw112_gray.parquet"
_THREADS = len(os.sched_getaffinity(0))


def write_drawn_faces(path: Path, count: int) -> None:
    faces = SyntheticFaces(identities=count // 10, images=10, size=112, seed=0)
    with FaceParquetWriter(str(path)) as writer:
        for row, name in enumerate(faces.ids):
            bgr = np.ascontiguousarray(faces.read([row])[0][:, :, ::-1])
            jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            writer.add(name, faces.subjects[row], jpeg)


def write_rec(path: Path, faces: ParquetFaces) -> None:
    """The same pictures as MXNet RecordIO, with a record for each identity, as InsightFace's training sets are."""
    offsets, people = [], {}
    with path.open("wb") as file:

        def add(labels: tuple[float, float], picture: bytes = b"") -> None:
            body = struct.pack("<IfQQ2f", 2, 0, 0, 0, *labels) + picture
            offsets.append(file.tell())
            file.write(struct.pack("<II", 0xCED7230A, len(body)) + body + b"\0" * (-len(body) % 4))

        rows = np.argsort(faces.subjects, kind="stable").tolist()
        numbers = {name: number for number, name in enumerate(sorted(set(faces.subjects)))}
        add((len(rows) + 1, len(rows) + 1 + len(numbers)))
        for key, row in enumerate(rows, 1):
            number = numbers[faces.subjects[row]]
            people[number] = (people.get(number, (key,))[0], key + 1)
            add((number, 0), bytes(faces.read([row])[0]))
        for number in sorted(people):
            add(people[number])
    path.with_suffix(".idx").write_text("".join(f"{key}\t{at}\n" for key, at in enumerate(offsets)))


def load(path: Path, flip: bool) -> float:
    """Images/s of a training epoch, from opening the file on; its pages are in the system's cache."""
    start = time.perf_counter()
    faces = RecordIoFaces(str(path)) if path.suffix == ".rec" else ParquetFaces(str(path))
    loader = FaceLoader(
        faces,
        height=112,
        width=112,
        batch_size=256,
        threads=_THREADS,
        seed=0,
        shuffle=True,
        flip=flip,
        occlusion=Rectangles(RectanglesConfig()),
        classes=sorted(set(faces.subjects)),
    )
    count = sum(len(batch.images) for batch in loader.epoch(0))
    return count / (time.perf_counter() - start)


def decode(pictures: list[bytes]) -> float:
    """Images/s of OpenCV alone, the bytes in memory."""

    def part(first: int) -> None:
        for picture in pictures[first::_THREADS]:
            cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR_RGB)

    with ThreadPoolExecutor(_THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(part, range(_THREADS)))
        return len(pictures) / (time.perf_counter() - start)


def compare(quick: bool) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn.parquet"
        write_drawn_faces(drawn, 500 if quick else 4000)
        sources = {"drawn faces": drawn} | ({"LFW": _LFW} if _LFW.is_file() and not quick else {})
        rows = []
        for name, path in sources.items():
            faces = ParquetFaces(str(path))
            pictures = [bytes(picture) for picture in faces.read(range(len(faces.ids)))]
            for flip in (False, True):
                rows.append(
                    interleave(
                        f"loader, {name}{', flips' if flip else ''}, over imdecode",
                        lambda path=path, flip=flip: load(path, flip),
                        lambda pictures=pictures: decode(pictures),
                        unit="images/s",
                        bar=">= 0.6",
                        rounds=2 if quick else 9,
                    )
                )
        rec = Path(folder) / "drawn.rec"
        write_rec(rec, ParquetFaces(str(drawn)))
        rows.append(
            interleave(
                "loader, drawn faces, from .rec, over from Parquet",
                lambda: load(rec, False),
                lambda: load(drawn, False),
                unit="images/s",
                bar=">= 0.9",
                rounds=2 if quick else 9,
            )
        )
        return rows


if __name__ == "__main__":
    main(compare)
