"""The embedding store: what goes in comes out, what is bad is refused by name, and a kill loses nothing committed."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter, publishing
from occframe.gallery.verification import check_gallery
from occframe.types import ImageSpec

DIM = 32


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def schema(**changes: Any) -> GallerySchema:
    return GallerySchema(**{"dim": DIM, "model_fingerprint": "model-a", "image_spec": ImageSpec()} | changes)


def write(url: str, count: int, *, prefix: str = "p", seed: int = 0, **changes: Any) -> np.ndarray:
    vectors = unit_vectors(count, seed)
    with GalleryWriter(url, schema(**changes)) as writer:
        writer.write([f"{prefix}{row}" for row in range(count)], [f"s{row // 3}" for row in range(count)], vectors)
    return vectors


@pytest.fixture(params=["disk", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "gallery") if request.param == "disk" else f"memory://{uuid.uuid4().hex}/gallery"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-4), ("float32", 1e-6)])
def test_rows_come_back_in_order_and_normalised(url: str, dtype: str, tolerance: float) -> None:
    vectors = write(url, 100, dtype=dtype)
    gallery = Gallery.open(url)
    table = gallery.read()
    assert (gallery.count, gallery.dim, gallery.fingerprint) == (100, DIM, "model-a")
    assert gallery.schema.image_spec == ImageSpec()
    assert list(table.ids) == [f"p{row}" for row in range(100)]
    assert list(table.subjects) == [f"s{row // 3}" for row in range(100)]
    assert table.vectors.dtype == np.float32
    np.testing.assert_allclose(table.vectors, vectors, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1, atol=1e-6)
    gallery.verify()


def test_many_small_writes_make_few_row_groups_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occframe.gallery.layout.ROW_GROUP_BYTES", 50 * DIM * 2)
    url, vectors = str(tmp_path), unit_vectors(430)
    with GalleryWriter(url, schema(), rows_per_part=200) as writer:
        for start in range(0, 430, 7):
            names = [f"p{row}" for row in range(start, min(430, start + 7))]
            writer.write(names, names, vectors[start : start + 7])
    sizes = [pq.ParquetFile(part).metadata.num_rows for part in sorted(tmp_path.glob("part-*.parquet"))]
    assert sizes == [200, 200, 30]
    batches = list(Gallery.open(url).iter_batches())
    assert [len(batch.ids) for batch in batches] == [50] * 8 + [30]
    np.testing.assert_array_equal(np.concatenate([batch.vectors for batch in batches]), vectors.astype(np.float16))


def test_the_embedding_column_is_plain_bytes(tmp_path: Path) -> None:
    vectors = write(str(tmp_path), 100)
    file = pq.ParquetFile(next(tmp_path.glob("part-*.parquet")))
    column = file.metadata.row_group(0).column(file.schema_arrow.names.index("embedding"))
    assert file.schema_arrow.field("embedding").type == pa.binary(2 * DIM)
    assert (column.compression, column.is_stats_set, column.has_dictionary_page) == ("UNCOMPRESSED", False, False)
    told = json.loads(file.schema_arrow.metadata[b"occframe.gallery"])
    assert {key: told[key] for key in ("dim", "dtype", "normalised", "model_fingerprint")} == {
        "dim": DIM,
        "dtype": "float16",
        "normalised": True,
        "model_fingerprint": "model-a",
    }
    raw = file.read().column("embedding")[3].as_py()
    np.testing.assert_array_equal(np.frombuffer(raw, "<f2"), vectors[3].astype(np.float16))


def test_further_columns_are_kept(url: str) -> None:
    with GalleryWriter(url, schema(columns={"age": "int64", "note": "string"})) as writer:
        writer.write(["a", "b"], ["s", "s"], unit_vectors(2), {"age": [3, 4], "note": ["x", "y"]})
        with pytest.raises(OccframeError, match="the gallery has \\['subject', 'age', 'note'\\]"):
            writer.write(["c"], ["s"], unit_vectors(1), {"age": [3]})
        with pytest.raises(OccframeError, match="1 rows came with"):
            writer.write(["c"], ["s", "t"], unit_vectors(1), {"age": [3], "note": ["x"]})
    (batch,) = Gallery.open(url).iter_batches(columns=["age", "note"])
    assert (batch.columns["age"].tolist(), batch.columns["note"].tolist()) == ([3, 4], ["x", "y"])
    with pytest.raises(OccframeError, match=r"has no column height; it has id, subject, embedding, age, note"):
        list(Gallery.open(url).iter_batches(columns=["height"]))


def test_append_and_delete(url: str) -> None:
    vectors = write(url, 10)
    gallery = Gallery.open(url)
    hashes = {gallery.content_hash}
    gallery.append(["new"], ["s"], vectors[:1], model_fingerprint="model-a")
    hashes.add(gallery.content_hash)
    gallery.delete(["p3", "new", "p9"])
    hashes.add(gallery.content_hash)
    assert len(hashes) == 3
    kept = [f"p{row}" for row in range(9) if row != 3]
    for opened in (gallery, Gallery.open(url)):
        assert opened.count == 8
        assert list(opened.read().ids) == kept
        np.testing.assert_allclose(opened.read().vectors, vectors[[0, 1, 2, 4, 5, 6, 7, 8]], atol=5e-4)
    # An id that was deleted is free again, and the tombstone stays with the old row.
    gallery.append(["p3"], ["other"], vectors[5:6], model_fingerprint="model-a")
    assert list(gallery.read().ids) == [*kept, "p3"]
    assert gallery.read().subjects[-1] == "other"
    gallery.delete(["p3"])
    assert list(gallery.read().ids) == kept
    gallery.verify()


def test_an_empty_gallery_is_one(url: str) -> None:
    with GalleryWriter(url, schema()):
        pass
    gallery = Gallery.open(url)
    assert (gallery.count, gallery.read().vectors.shape, list(gallery.iter_batches())) == (0, (0, DIM), [])


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.where(np.arange(3)[:, None] == 1, np.nan, unit_vectors(3))}, "embedding of `n1` is not finite"),
        ({"vectors": np.where(np.arange(3)[:, None] == 2, np.inf, unit_vectors(3))}, "embedding of `n2` is not finite"),
        ({"vectors": unit_vectors(3) * 1.02}, r"embedding of `n0` has norm 1.02, not 1 \(3 of 3 rows\)"),
        ({"vectors": np.zeros((3, DIM))}, "embedding of `n0` has norm 0, not 1"),
        ({"vectors": unit_vectors(3, dim=8)}, r"shape \[3, 8\] do not fit a gallery of dimension 32"),
        ({"ids": ["n0", "n1", "n1"]}, "the id `n1` occurs twice"),
        ({"ids": ["n0", "n1", "p4"]}, "the id `p4` is there already"),
        ({"ids": ["n0", "n1", ""]}, "an id is empty"),
        ({"ids": ["n0", "n1"]}, "2 ids for 3 embeddings"),
        ({"model_fingerprint": "model-b"}, "is of model model-a, these rows are of model-b"),
    ],
)
def test_bad_rows_are_refused_and_change_nothing(url: str, change: dict[str, Any], message: str) -> None:
    write(url, 10)
    gallery = Gallery.open(url)
    before = gallery.content_hash
    rows = {
        "ids": ["n0", "n1", "n2"],
        "subjects": ["s"] * 3,
        "vectors": unit_vectors(3),
        "model_fingerprint": "model-a",
    }
    rows |= change
    rows["vectors"] = rows["vectors"].astype(np.float32)
    with pytest.raises(OccframeError, match=message):
        gallery.append(**rows)
    assert Gallery.open(url).content_hash == before
    assert Gallery.open(url).count == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_fingerprint": "model-b"}, "is of model model-a, these rows are of model-b"),
        ({"dim": 8}, "is laid out differently: dim is 32, not 8"),
        ({"dtype": "float32"}, "dtype is float16, not float32"),
        ({"image_spec": ImageSpec(colour="BGR")}, "image_spec is .*RGB.*, not .*BGR"),
    ],
)
def test_a_writer_of_another_model_or_layout_is_refused(url: str, changes: dict[str, Any], message: str) -> None:
    write(url, 3)
    with pytest.raises(OccframeError, match=message):
        GalleryWriter(url, schema(**changes))


def test_deleting_what_is_not_there(url: str) -> None:
    write(url, 3)
    gallery = Gallery.open(url)
    with pytest.raises(OccframeError, match=r"has no id `nobody` \(1 of 2 are unknown\)"):
        gallery.delete(["p1", "nobody"])
    assert Gallery.open(url).count == 3


def test_two_writers_both_keep_their_rows(url: str) -> None:
    write(url, 3)
    first, second = GalleryWriter(url, schema()), GalleryWriter(url, schema())
    first.write(["a"], ["s"], unit_vectors(1))
    second.write(["b"], ["s"], unit_vectors(1))
    first.commit()
    second.commit()
    assert list(Gallery.open(url).read().ids) == ["p0", "p1", "p2", "a", "b"]


def test_the_slower_of_two_writers_of_one_id_is_told(url: str) -> None:
    write(url, 3)
    first, second = GalleryWriter(url, schema()), GalleryWriter(url, schema())
    first.write(["a"], ["s"], unit_vectors(1))
    second.write(["b", "a"], ["s", "s"], unit_vectors(2))
    first.commit()
    with pytest.raises(OccframeError, match="the id `a` is there already"):
        second.commit()
    assert list(Gallery.open(url).read().ids) == ["p0", "p1", "p2", "a"]
    report = check_gallery(url)
    assert (report.problems, report.garbage) == ((), ())


def test_adding_and_deleting_at_once_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path)
    write(url, 4)
    published = publishing.write_bytes

    def slowly(path: str, value: bytes) -> None:
        time.sleep(0.05)  # between the look at the generation and the rename: where another writer would slip through
        published(path, value)

    monkeypatch.setattr(publishing, "write_bytes", slowly)

    lost = []
    swapped = publishing._swap

    def counted(*arguments: Any) -> None:
        try:
            swapped(*arguments)
        except publishing._LostRaceError:
            lost.append(arguments)
            raise

    monkeypatch.setattr(publishing, "_swap", counted)

    def add(item: str) -> None:
        Gallery.open(url).append([item], ["s"], unit_vectors(1), model_fingerprint="model-a")

    def delete(item: str) -> None:
        Gallery.open(url).delete([item])

    with ThreadPoolExecutor(2) as threads:
        adding = threads.submit(lambda: [add(item) for item in ("a", "b", "c", "d")])
        deleting = threads.submit(lambda: [delete(item) for item in ("p0", "p1", "p2", "p3")])
        adding.result(), deleting.result()
    assert [part for part in lost if part[2] is not None]  # they did meet
    assert list(Gallery.open(url).read().ids) == ["a", "b", "c", "d"]


def test_a_process_waits_for_another_that_publishes(tmp_path: Path) -> None:
    write(str(tmp_path), 2)
    reading, writing = os.pipe()
    with open(tmp_path / publishing.LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            try:
                Gallery.open(str(tmp_path)).delete(["p0"])
                os.write(writing, b"deleted")
                os._exit(0)
            finally:
                os._exit(1)
        os.set_blocking(reading, False)
        time.sleep(0.3)
        with pytest.raises(BlockingIOError):
            os.read(reading, 7)
        assert Gallery.open(str(tmp_path)).count == 2
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 7) == b"deleted"
    os.close(reading)
    os.close(writing)
    assert list(Gallery.open(str(tmp_path)).read().ids) == ["p1"]


def test_a_gallery_that_vanished_cannot_be_changed(tmp_path: Path) -> None:
    write(str(tmp_path / "gallery"), 2)
    gallery = Gallery.open(str(tmp_path / "gallery"))
    shutil.rmtree(tmp_path / "gallery")
    with pytest.raises(OccframeError, match=r"the gallery .* is gone: no manifest\.json"):
        gallery.delete(["p0"])


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, Path]:
    write(str(tmp_path), 200)
    return tmp_path, next(tmp_path.glob("part-*.parquet"))


def manifest_of(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_no_gallery_there(tmp_path: Path) -> None:
    with pytest.raises(OccframeError, match=r"there is no gallery at .*: no manifest.json"):
        Gallery.open(str(tmp_path / "nowhere"))


def test_a_manifest_that_is_none(damaged: tuple[Path, Path]) -> None:
    folder, _ = damaged
    manifest_of(folder, version=9)
    with pytest.raises(OccframeError, match=r"manifest.json has version 9 of the format, this occframe reads 1"):
        Gallery.open(str(folder))
    part = {"file": "../../etc/part-1.parquet", "rows": 3, "bytes": 1, "sha256": "0" * 64}
    manifest_of(folder, version=1, parts=[part])
    with pytest.raises(OccframeError, match=r"manifest.json is no manifest of a gallery: parts.0.file"):
        Gallery.open(str(folder))
    manifest_of(folder, parts=[part | {"file": "part-1.parquet", "tombstones": [3]}])
    with pytest.raises(OccframeError, match=r"the tombstones of part-1\.parquet are not rows of it"):
        Gallery.open(str(folder))
    manifest_of(folder, format="something")
    with pytest.raises(OccframeError, match="describes `something`, not a gallery"):
        Gallery.open(str(folder))
    (folder / "manifest.json").write_text('{"format": "occ')
    with pytest.raises(OccframeError, match=r"manifest.json is no manifest of a gallery: JSONDecodeError"):
        Gallery.open(str(folder))


def test_a_part_that_is_short_missing_or_rubbish(damaged: tuple[Path, Path]) -> None:
    folder, part = damaged
    good = part.read_bytes()
    gallery = Gallery.open(str(folder))
    part.write_bytes(good[:-100])
    with pytest.raises(OccframeError, match=rf"{part.name} has [\d,]+ bytes, the manifest says"):
        gallery.read()
    part.write_bytes(b"\0" * len(good))
    with pytest.raises(OccframeError, match=rf"{part.name} cannot be read: .*[Pp]arquet") as caught:
        gallery.read()
    assert "restore it from a copy" in str(caught.value)
    with pytest.raises(OccframeError, match=rf"{part.name} was changed or damaged"):
        gallery.verify()
    part.unlink()
    for use in (gallery.read, gallery.verify, lambda: gallery.delete(["p1"])):
        with pytest.raises(OccframeError, match=rf"{part.name} is missing, and the manifest names it"):
            use()


def test_flipped_bits_are_found(damaged: tuple[Path, Path]) -> None:
    folder, part = damaged
    content = bytearray(part.read_bytes())
    vector = unit_vectors(200)[120].astype("<f2").tobytes()
    at = content.index(vector)
    content[at : at + len(vector)] = np.full(DIM, 3.0, "<f2").tobytes()
    part.write_bytes(content)
    with pytest.raises(OccframeError, match="was changed or damaged after it was written"):
        Gallery.open(str(folder)).verify()
    with pytest.raises(OccframeError, match=r"the stored embedding of `p120` has norm 16\.97, not 1"):
        Gallery.open(str(folder)).read()


def replace_part(folder: Path, part: Path, table: pa.Table) -> Gallery:
    """As if another tool had rewritten the part, and the manifest with it."""
    pq.write_table(table, part)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"][0] |= {"bytes": part.stat().st_size, "rows": table.num_rows}
    manifest_of(folder, **manifest)
    return Gallery.open(str(folder))


def test_a_part_of_another_model_is_refused(damaged: tuple[Path, Path], tmp_path: Path) -> None:
    folder, part = damaged
    other = folder / "other"
    write(str(other), 200, model_fingerprint="model-b")
    gallery = replace_part(folder, part, pq.read_table(next(other.glob("part-*.parquet"))))
    with pytest.raises(OccframeError, match="holds embeddings of model model-b, the gallery is of model-a"):
        gallery.read()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float16(), DIM),
        pa.list_(pa.float32(), DIM),
        pa.list_(pa.float32()),
        pa.list_(pa.float16()),
        pa.large_list(pa.float64()),
    ],
    ids=str,
)
def test_lists_that_other_tools_write_are_read(damaged: tuple[Path, Path], kind: pa.DataType) -> None:
    folder, part = damaged
    vectors = unit_vectors(30, seed=5)
    values = [row.astype(np.float16) if kind.value_type == pa.float16() else row for row in vectors]
    names = [f"p{row}" for row in range(30)]
    table = pa.table({"id": names, "subject": names, "embedding": pa.array([list(row) for row in values], kind)})
    gallery = replace_part(folder, part, table.slice(0, 30))
    np.testing.assert_allclose(gallery.read().vectors, vectors, atol=5e-4)
    gallery.delete(["p7"])
    np.testing.assert_allclose(gallery.read().vectors, np.delete(vectors, 7, axis=0), atol=5e-4)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0, 0.0]] * 4, pa.list_(pa.float32())), "an embedding|embeddings of length 2, not 32"),
        (pa.array([None, *[[0.1] * DIM] * 3], pa.list_(pa.float32())), "row 0 has no embedding"),
        (pa.array([[1] * DIM] * 4, pa.list_(pa.int32())), "lists int32, not floats"),
        (pa.array([b"x" * 10] * 4, pa.binary(10)), r"an embedding takes 10 bytes, not 64 \(float16\)"),
        (pa.array(["x"] * 4), "the column `embedding` is string, not vectors"),
    ],
)
def test_columns_that_are_no_embeddings(damaged: tuple[Path, Path], column: pa.Array, message: str) -> None:
    folder, part = damaged
    names = ["a", "b", "c", "d"]
    gallery = replace_part(folder, part, pa.table({"id": names, "subject": names, "embedding": column}))
    with pytest.raises(OccframeError, match=message):
        gallery.read()


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_an_exception_discards_what_was_not_committed(url: str) -> None:
    write(url, 5)

    def add_and_fail() -> None:
        with GalleryWriter(url, schema(), rows_per_part=20) as writer:
            writer.write([f"q{row}" for row in range(8)], ["s"] * 8, unit_vectors(8))
            writer.commit()
            writer.write(["lost"], ["s"], unit_vectors(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_and_fail()
    assert list(Gallery.open(url).read().ids) == [*[f"p{row}" for row in range(5)], *[f"q{row}" for row in range(8)]]
    with GalleryWriter(url, schema()) as again:
        assert again.known(["q7", "lost", "p0"]) == {"q7", "p0"}
        again.write(["lost"], ["s"], unit_vectors(1))
    assert Gallery.open(url).count == 14


def test_an_exception_in_the_middle_of_a_part_leaves_no_file(tmp_path: Path) -> None:
    write(str(tmp_path), 5)
    before = sorted(tmp_path.iterdir())

    def add_and_fail() -> None:
        with GalleryWriter(str(tmp_path), schema()) as writer:
            for start in range(0, 200_000, 50_000):
                names = [f"q{row}" for row in range(start, start + 50_000)]
                writer.write(names, names, np.tile(unit_vectors(1), (50_000, 1)))
            assert len(list(tmp_path.iterdir())) > len(before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_and_fail()
    gc.collect()  # an Arrow writer that was left open would complain here
    assert [path for path in sorted(tmp_path.iterdir()) if "tmp" in path.name] == []
    assert Gallery.open(str(tmp_path)).count == 5 + 131_072


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ids", [[1, 2], [None, "a"]])
def test_ids_that_are_no_text(url: str, ids: Any) -> None:
    with pytest.raises(OccframeError, match="column `id`"), GalleryWriter(url, schema()) as writer:
        writer.write(ids, ["s", "s"], unit_vectors(2))
    assert Gallery.open(url).count == 0


@pytest.mark.parametrize("instant", ["while writing", "before publishing", "while publishing"])
def test_a_kill_leaves_what_was_committed(tmp_path: Path, instant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path)
    write(url, 500)
    before = (tmp_path / "manifest.json").read_bytes()
    child = os.fork()
    if child == 0:
        try:
            kill_at(instant, monkeypatch)
            with GalleryWriter(url, schema(), rows_per_part=100_000) as writer:
                for start in range(0, 50_000, 5_000):
                    names = [f"q{row}" for row in range(start, start + 5_000)]
                    writer.write(names, names, unit_vectors(5_000))
                if instant == "while writing":
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "manifest.json").read_bytes() == before
    gallery = Gallery.open(url)
    gallery.verify()
    assert gallery.count == 500
    write(url, 7, prefix="r")
    assert Gallery.open(url).count == 507


def kill_at(instant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if instant == "before publishing":
        monkeypatch.setattr("occframe.gallery.writer.commit", die)
    elif instant == "while publishing":
        monkeypatch.setattr(Path, "replace", die_unless_part(die))


def die_unless_part(die: Any) -> Any:
    replace = Path.replace

    def guarded(self: Path, target: Any) -> Any:
        return replace(self, target) if "part-" in self.name else die()

    return guarded
