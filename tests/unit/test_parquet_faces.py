from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe.data import FaceParquetWriter, ParquetFaces, decode
from occframe.data.row_groups import PartFile
from occframe.errors import OccframeError
from occframe.types import Dataset
from tests.pictures import noise


def table(count: int = 10, first: int = 0, **columns) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "file": [f"f{number}.jpg" for number in numbers],
            "identity": [f"p{number % 3}" for number in numbers],
            "image": [b"picture %d" % number * (1 + number % 4) for number in numbers],
        }
        | columns
    )


def expected(number: int) -> bytes:
    return b"picture %d" % number * (1 + number % 4)


def random_bytes(count: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(count)


def write(path, *tables: pa.Table, rows: int = 4) -> str:
    for at, part in enumerate(tables):
        target = path if len(tables) == 1 else path / f"part-{at}.parquet"
        target.parent.mkdir(exist_ok=True)
        pq.write_table(part, target, row_group_size=rows)
    return str(path)


def test_a_file_of_strangers_columns(tmp_path):
    faces = ParquetFaces(write(tmp_path / "a.parquet", table(age=pa.array([*range(9), None]), tags=[["x"]] * 10)))
    assert isinstance(faces.ids, list)
    assert faces.ids[:2] == ["f0.jpg", "f1.jpg"]
    assert faces.subjects[:4] == ["p0", "p1", "p2", "p0"]
    assert faces.landmarks is None
    assert faces.aligned is False
    assert list(faces.attributes) == ["age"]
    assert np.isnan(faces.attributes["age"][9])
    assert list(faces.blocks) == [range(0, 4), range(4, 8), range(8, 10)]
    assert faces.read([9, 0, 5, 0]) == [expected(9), expected(0), expected(5), expected(0)]
    assert faces.read([]) == []
    typed: Dataset = faces
    assert typed is faces


def test_a_file_of_hugging_face(tmp_path):
    pictures = [{"bytes": expected(at), "path": f"{at}.jpg"} for at in range(3)]
    pq.write_table(pa.table({"image": pictures, "label": [5, 5, 6]}), tmp_path / "a.parquet")
    faces = ParquetFaces(str(tmp_path / "a.parquet"))
    assert (faces.subjects, faces.read([2])) == (["5", "5", "6"], [expected(2)])


def test_a_folder_of_part_files(tmp_path):
    url = write(tmp_path / "faces", table(10), table(7, first=10), table(3, first=17))
    (tmp_path / "faces" / "_SUCCESS").write_text("")
    (tmp_path / "faces" / ".part-9.parquet").write_bytes(b"half a copy")
    faces = ParquetFaces(url)
    assert len(faces.ids) == 20
    assert [row for block in faces.blocks for row in block] == list(range(20))
    assert faces.read(range(20)) == [expected(number) for number in range(20)]


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_other_ways_to_store_pictures(tmp_path, compression):
    structs = pa.array([{"bytes": expected(number), "path": "x.jpg"} for number in range(10)])
    large = pa.array([expected(number) for number in range(10)], pa.large_binary())
    for column in (structs, large):
        path = tmp_path / "a.parquet"
        labels = pa.array([number % 3 for number in range(10)])
        chosen = table().set_column(2, "image", column).set_column(1, "label", labels).drop_columns("file")
        pq.write_table(chosen, path, row_group_size=4, compression=compression)
        faces = ParquetFaces(str(path), identity="label")
        assert faces.subjects[:4] == ["0", "1", "2", "0"]
        assert faces.ids[:2] == ["a:0", "a:1"]
        assert faces.read([7, 2]) == [expected(7), expected(2)]


def test_a_missing_picture_reads_as_nothing(tmp_path):
    pictures = pa.array([None, b"x", None, b"yy"])
    path = tmp_path / "a.parquet"
    pq.write_table(table(4).set_column(2, "image", pictures), path)
    assert ParquetFaces(str(path)).read([0, 1, 2, 3]) == [b"", b"x", b"", b"yy"]
    structs = pa.array([None, {"bytes": b"x"}, {"bytes": None}, {"bytes": b"yy"}])
    pq.write_table(table(4).set_column(2, "image", structs), path)
    assert ParquetFaces(str(path)).read([0, 1, 2, 3]) == [b"", b"x", b"", b"yy"]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 10), pa.list_(pa.float64()), pa.large_list(pa.float32())])
def test_landmarks(tmp_path, kind):
    points = pa.array([list(range(10)), None, [*range(9), 0.5]], kind)
    faces = ParquetFaces(write(tmp_path / "a.parquet", table(3, landmarks=points)))
    assert faces.landmarks.shape == (3, 5, 2)
    assert faces.landmarks.dtype == np.float32
    assert faces.landmarks[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert np.isnan(faces.landmarks[1]).all()
    assert faces.landmarks[2, 4].tolist() == [8, 0.5]


def test_the_cache_is_bounded_and_reads_each_group_once(tmp_path, monkeypatch):
    opened = []
    read = PartFile.read_pictures
    monkeypatch.setattr(PartFile, "read_pictures", lambda *args: opened.append(args[1]) or read(*args))
    url = write(tmp_path / "a.parquet", table(100, image=[random_bytes(1000, at) for at in range(100)]), rows=10)
    faces = ParquetFaces(url, cache_bytes=40_000)
    assert faces.cached_blocks == 3
    faces.read(range(30))
    faces.read(range(29, -1, -1))
    assert sorted(opened) == [0, 1, 2]
    faces.read(range(100))
    assert faces._pictures._bytes <= 40_000
    assert len(opened) == 10


def test_threads_read_a_group_once(tmp_path, monkeypatch):
    opened = []
    read = PartFile.read_pictures
    monkeypatch.setattr(PartFile, "read_pictures", lambda *args: opened.append(args[1]) or read(*args))
    faces = ParquetFaces(write(tmp_path / "a.parquet", table(400), rows=20))
    order = np.random.default_rng(0).permutation(400).reshape(40, 10)
    with ThreadPoolExecutor(8) as pool:
        for rows, found in zip(order, pool.map(faces.read, order.tolist()), strict=True):
            assert found == [expected(row) for row in rows]
    assert sorted(opened) == list(range(20))


@given(st.integers(1, 40), st.integers(1, 9), st.lists(st.integers(0, 39), max_size=20))
def test_any_rows_in_any_order(tmp_path_factory, count, rows, asked):
    path = tmp_path_factory.mktemp("faces") / "a.parquet"
    faces = ParquetFaces(write(path, table(count), rows=rows))
    asked = [row % count for row in asked]
    assert faces.read(asked) == [expected(row) for row in asked]
    assert [row for block in faces.blocks for row in block] == list(range(count))


def test_remote_files():
    fs = fsspec.filesystem("memory")
    for at in range(2):
        with fs.open(f"/strangers/part-{at}.parquet", "wb") as file:
            pq.write_table(table(10, first=10 * at), file, row_group_size=4)
    try:
        faces = ParquetFaces("memory://strangers")
        assert faces.read([0, 13, 5]) == [expected(0), expected(13), expected(5)]
        assert len(ParquetFaces("memory://strangers/part-1.parquet").ids) == 10
        before = faces.fingerprint()
        with fs.open("/strangers/part-1.parquet", "wb") as file:
            pq.write_table(table(10, first=11), file)
        assert ParquetFaces("memory://strangers").fingerprint() != before
    finally:
        fs.rm("/strangers", recursive=True)


def test_the_fingerprint_changes_with_the_file_and_only_then(tmp_path):
    url = write(tmp_path / "a.parquet", table())
    first = ParquetFaces(url).fingerprint()
    assert ParquetFaces(url).fingerprint() == first
    assert ParquetFaces(url, aligned=True).fingerprint() != first
    os.utime(url, ns=(0, 123))
    assert ParquetFaces(url).fingerprint() != first


def test_what_is_written_is_read(tmp_path):
    url = str(tmp_path / "faces.parquet")
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    with FaceParquetWriter(url, extra={"score": float, "source": str}) as writer:
        for number in range(2500):
            image = noise(seed=number) if number < 3 else b"encoded %d" % number
            writer.add(f"i{number}", f"p{number % 7}", image, points + number, score=number / 2, source=None)
        writer.add("last", "p1", b"x", score=1.0, source="camera")
    faces = ParquetFaces(url)
    assert faces.aligned
    assert [len(block) for block in faces.blocks] == [1024, 1024, 453]
    assert np.array_equal(decode(faces.read([2])[0]), noise(seed=2))
    assert faces.read([2000, 3]) == [b"encoded 2000", b"encoded 3"]
    assert faces.landmarks[7].tolist() == (points + 7).tolist()
    assert np.isnan(faces.landmarks[2500]).all()
    assert faces.attributes["score"][9] == 4.5
    assert faces.attributes["source"].tolist()[-2:] == [None, "camera"]
    assert [path.name for path in tmp_path.iterdir()] == ["faces.parquet"]


def test_large_pictures_make_small_row_groups(tmp_path):
    url = str(tmp_path / "faces.parquet")
    with FaceParquetWriter(url, aligned=False) as writer:
        for number in range(12):
            writer.add(f"{number}", "p", bytes(3 << 20))
    faces = ParquetFaces(url)
    assert [len(block) for block in faces.blocks] == [6, 6]
    assert not faces.aligned


def test_a_file_that_was_not_finished_does_not_appear(tmp_path):
    url = str(tmp_path / "faces.parquet")

    def interrupted():
        with FaceParquetWriter(url) as writer:
            writer.add("a", "p", b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_written_once(tmp_path):
    def twice():
        with FaceParquetWriter(str(tmp_path / "faces.parquet")) as writer:
            writer.add("a", "p", b"x")
            writer.add("a", "q", b"y")

    with pytest.raises(OccframeError, match="two faces have the id 'a'"):
        twice()


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"identity": "identty"}, r"has no column `identty`\n.*did you mean `identity`\? columns: file, identity"),
        ({}, {"landmarks": "points"}, "has no column `points`"),
        ({"image": ["a.jpg"] * 4}, {}, "column `image` holds string, not pictures"),
        ({"file": ["a", "b", "c", "b"]}, {}, "two rows have the file 'b'"),
        ({"identity": ["a", None, "c", "b"]}, {}, "row 1 has no identity"),
        ({"landmarks": [[1.0] * 10, [1.0] * 9, None, None]}, {}, "row 1 of column `landmarks` is not a list of 10"),
        ({"landmarks": [1.0, 2.0, 3.0, 4.0]}, {}, "row 0 of column `landmarks` is not a list of 10 numbers"),
        (
            {"image": [random_bytes(300_000, at) for at in range(4)]},
            {"cache_bytes": 1 << 20},
            "row group with 1 MiB of pictures, more than the 1",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, columns, options, message):
    url = write(tmp_path / "a.parquet", table(4, **columns))

    def use():
        faces = ParquetFaces(url, **options)
        return faces.ids, faces.subjects, faces.landmarks

    with pytest.raises(OccframeError, match=message):
        use()


def test_missing_empty_and_damaged_files(tmp_path):
    with pytest.raises(OccframeError, match="no Parquet file or folder at"):
        ParquetFaces(str(tmp_path / "absent.parquet"))
    with pytest.raises(OccframeError, match=r"holds no file that ends in \.parquet"):
        ParquetFaces(str(tmp_path))
    (tmp_path / "page.parquet").write_text("<html>not found</html>" * 9)
    with pytest.raises(OccframeError, match=r"page\.parquet cannot be read as Parquet"):
        ParquetFaces(str(tmp_path / "page.parquet"))
    with pytest.raises(OccframeError, match="holds no faces: it has no rows"):
        ParquetFaces(write(tmp_path / "empty.parquet", table(0)))
    url = write(tmp_path / "parts", table(3), table(3, identity=[1, 2, 3]))
    with pytest.raises(OccframeError, match="column `identity` is string in part-0, int64 in part-1"):
        _ = ParquetFaces(url).subjects


def test_a_file_damaged_in_its_middle_is_named_when_it_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(table(4, image=[random_bytes(50_000, at) for at in range(4)]), path, compression="zstd")
    damaged = bytearray(path.read_bytes())
    damaged[1000:150_000] = bytes(149_000)
    path.write_bytes(damaged)
    faces = ParquetFaces(str(path))
    with pytest.raises(OccframeError, match=r"a\.parquet cannot be read as Parquet"):
        faces.read([3])


@pytest.mark.shared
def test_the_shared_faces(shared):
    faces = ParquetFaces(str(shared / "data" / "celeba112_colour.parquet"), aligned=True)
    assert (len(faces.ids), len(set(faces.subjects))) == (9682, 5262)
    assert faces.landmarks.shape == (9682, 5, 2)
    assert faces.attributes["eyeglasses"].sum() == 649
    assert decode(faces.read([4711])[0]).shape == (112, 112, 3)
