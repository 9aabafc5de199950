"""A gallery's Parquet into one float16 matrix, against reading the same bytes from a raw file and embedding-reader.

The matrix is warm and the files are in the system's cache, for all sides. embedding-reader runs in an environment of
its own (``pip install embedding-reader "numpy<2" "pyarrow<25"``), whose python EMBEDDING_READER_PYTHON names; it reads
each layout that it can, once, and then the one it read fastest is compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from side_by_side import Comparison, interleave, main, seconds

from occframe.gallery import Gallery, GallerySchema, GalleryWriter
from occframe.types import ImageSpec

_DIM = 512
_BLOCK = 4 * 2**20
_READER = """
import sys, time
from embedding_reader import EmbeddingReader
folder, form, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
more = {"embedding_column": "embedding", "meta_columns": ["id"]} if form == "parquet" else {}
reader = EmbeddingReader(embeddings_folder=folder, file_format=form, **more)
def read():
    began, count = time.perf_counter(), 0
    for vectors, _ in reader(batch_size=131072, show_progress=False):
        count += len(vectors)
    assert count == rows, count
    return count / (time.perf_counter() - began)
read()
print(read())
"""


def write(folder: Path, rows: int) -> None:
    """``gallery`` and ``raw``, the same vectors in the same order."""
    random = np.random.default_rng(0)
    schema = GallerySchema(dim=_DIM, model_fingerprint="bench", image_spec=ImageSpec())
    with GalleryWriter(str(folder / "gallery"), schema) as writer, open(folder / "raw", "wb") as raw:
        for start in range(0, rows, 65_536):
            count = min(65_536, rows - start)
            drawn = random.standard_normal((count, _DIM), np.float32)
            vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
            names = [f"face-{row:08}" for row in range(start, start + count)]
            writer.write(names, names, vectors)
            raw.write(vectors.tobytes())


def write_layouts(folder: Path, vectors: np.ndarray) -> dict[str, tuple[Path, str]]:
    """What embedding-reader may read: by name the folder and its word for the format."""
    made = {}
    flat = {"float32": vectors.astype(np.float32), "float16": vectors}
    for dtype, rows in flat.items():
        values = pa.array(rows.ravel())
        offsets = pa.array(np.arange(0, rows.size + 1, _DIM, dtype=np.int32))
        lists = {
            "list": pa.ListArray.from_arrays(offsets, values),
            "fixed list": pa.FixedSizeListArray.from_arrays(values, _DIM),
        }
        for kind, column in lists.items():
            for codec in ("none", "snappy"):
                name = f"{kind} of {dtype}, {codec}"
                place = folder / name.replace(" ", "-").replace(",", "")
                place.mkdir()
                table = pa.table({"id": [f"face-{row:08}" for row in range(len(rows))], "embedding": column})
                pq.write_table(table, place / "0.parquet", compression=codec, use_dictionary=codec != "none")
                made[name] = (place, "parquet")
    place = folder / "npy"
    place.mkdir()
    np.save(place / "0.npy", vectors)
    return made | {"npy": (place, "npy")}


def embedding_reader(place: Path, form: str, rows: int) -> float:
    """Vectors/s, 0 where it cannot read that."""
    command = [os.environ["EMBEDDING_READER_PYTHON"], "-c", _READER, str(place), form, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else 0.0


def read_raw(path: Path, out: memoryview) -> None:
    with open(path, "rb", buffering=0) as file:
        at = 0
        while read := file.readinto(out[at : at + _BLOCK]):
            at += read


def compare(quick: bool) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, rounds = (20_000, 2) if quick else (1_000_000, 11)
        write(folder, rows)
        url = str(folder / "gallery")
        out = np.ones((rows, _DIM), np.float16)
        gigabytes = out.nbytes / 1e9

        def rate(read: Callable[[], object]) -> float:
            return gigabytes / seconds(read)

        def ours() -> float:
            return rate(lambda: Gallery.open(url).read_vectors(out))

        def raw() -> float:
            return rate(lambda: read_raw(folder / "raw", memoryview(out).cast("B")))

        def streamed() -> float:
            """Without a matrix: every row group is looked at where it lies."""
            return rate(lambda: [vectors.view(np.int16).max() for vectors in Gallery.open(url).iter_vectors()])

        def raw_streamed() -> float:
            buffer = np.ones(_BLOCK // 2, np.int16)

            def look() -> None:
                with open(folder / "raw", "rb", buffering=0) as file:
                    while read := file.readinto(memoryview(buffer).cast("B")):
                        buffer[: read // 2].max()

            return rate(look)

        results = [
            interleave("Parquet to matrix, over readinto", ours, raw, unit="GB/s", bar=">= 0.4", rounds=rounds),
            interleave("Parquet streamed, over readinto", streamed, raw_streamed, unit="GB/s", bar="", rounds=rounds),
        ]
        ours()
        assert np.array_equal(out.view(np.int16), np.memmap(folder / "raw", np.int16, "r").reshape(out.shape))
        if "EMBEDDING_READER_PYTHON" in os.environ:
            results += compare_embedding_reader(folder, Gallery.open(url), out, 2 if quick else 5)
        else:
            print("EMBEDDING_READER_PYTHON is not set: embedding-reader is left out", file=sys.stderr)
        return results


def compare_embedding_reader(folder: Path, gallery: Gallery, out: np.ndarray, rounds: int) -> list[Comparison]:
    rows = min(len(out), 100_000)  # rates are compared, and it is slow
    layouts = write_layouts(folder, out[:rows])
    found = {name: embedding_reader(place, form, rows) for name, (place, form) in layouts.items()}
    for name, rate in sorted(found.items(), key=lambda item: -item[1]):
        print(f"embedding-reader, {name}: {rate:,.0f} vectors/s", file=sys.stderr)
    fastest = max((name for name in found if name != "npy"), key=lambda name: found[name])
    return [
        interleave(
            f"over embedding-reader, {name}",
            lambda: gallery.count / seconds(lambda: Gallery.open(gallery.url).read_vectors(out)),
            lambda name=name: embedding_reader(*layouts[name], rows),
            unit="vectors/s",
            bar=bar,
            rounds=rounds,
        )
        for name, bar in ((fastest, ">= 20"), ("npy", "no Parquet"))
        if found[name]
    ]


if __name__ == "__main__":
    main(compare)
