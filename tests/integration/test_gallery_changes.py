"""Upsert, delete, compact, verify: what readers, indexes and files on disk see of them."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.gallery_kill import find_traces
from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter
from occframe.gallery.compaction import compact, units
from occframe.gallery.manifest import Part
from occframe.gallery.pages import find_runs
from occframe.gallery.part_file import unpublished
from occframe.gallery.snapshot import Snapshot
from occframe.gallery.verification import check_gallery
from occframe.types import ImageSpec

DIM = 32


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)


def schema(**changes: Any) -> GallerySchema:
    return GallerySchema(**{"dim": DIM, "model_fingerprint": "model-a", "image_spec": ImageSpec()} | changes)


def names(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{row}" for row in range(count)]


def add(
    gallery: Gallery, ids: list[str], seed: int = 0, subjects: list[str] | None = None, **options: Any
) -> np.ndarray:
    vectors = unit_vectors(len(ids), seed)
    gallery.append(ids, subjects or [f"s-{name}" for name in ids], vectors, model_fingerprint="model-a", **options)
    return vectors


@pytest.fixture(params=["disk", "memory"])
def gallery(request: pytest.FixtureRequest, tmp_path: Path) -> Gallery:
    url = str(tmp_path / "gallery") if request.param == "disk" else f"memory://{uuid.uuid4().hex}/gallery"
    return Gallery.create(url, schema())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Gallery.create(str(tmp_path / "gallery"), schema())
    return tmp_path / "gallery"


# --- replacing and deleting -------------------------------------------------------------------------------------------


def test_an_upsert_replaces_and_adds_in_one_commit(gallery: Gallery) -> None:
    old = add(gallery, names(6))
    before = gallery.generation
    new = add(gallery, ["p4", "q", "p1"], seed=1, replace=True)
    assert gallery.generation == before + 1
    table = Gallery.open(gallery.url).read()
    assert list(table.ids) == ["p0", "p2", "p3", "p5", "p4", "q", "p1"]
    np.testing.assert_allclose(table.vectors, np.concatenate([old[[0, 2, 3, 5]], new]), atol=1e-3)
    with pytest.raises(OccframeError, match="the id `p4` is there already"):
        add(gallery, ["p4"])


def test_of_two_upserts_in_a_stream_the_last_one_stays(gallery: Gallery) -> None:
    first, last = unit_vectors(1, 1), unit_vectors(1, 2)
    with GalleryWriter(gallery.url, schema(), replace=True) as writer:
        writer.write(["a"], ["s"], first)
        writer.write(["b", "a"], ["s", "t"], np.concatenate([first, last]))
        with pytest.raises(OccframeError, match="the id `c` occurs twice"):
            writer.write(["c", "c"], ["s", "s"], unit_vectors(2))
    table = Gallery.open(gallery.url).read()
    assert (list(table.ids), list(table.subjects)) == (["b", "a"], ["s", "t"])
    np.testing.assert_allclose(table.vectors[1], last[0], atol=1e-3)


def test_a_writer_that_streams_finds_ids_of_any_part(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occframe.gallery.layout.ROW_GROUP_BYTES", 7 * DIM * 2)
    with GalleryWriter(gallery.url, schema(), rows_per_part=7) as writer:
        for row in range(0, 60, 3):
            writer.write(names(60)[row : row + 3], names(3), unit_vectors(3))
        assert writer.known([*names(60)[::5], "x"]) == set(names(60)[::5])
        for taken in ("p0", "p29", "p59"):
            with pytest.raises(OccframeError, match=f"the id `{taken}` is there"):
                writer.write(["y", taken], ["s", "s"], unit_vectors(2))
    assert Gallery.open(gallery.url).count == 60


def test_a_person_is_deleted_with_all_pictures(gallery: Gallery) -> None:
    add(gallery, names(9), subjects=["ann", "bob", "cid"] * 3)
    assert gallery.delete(["p1"], subjects=["ann", "cid"]) == 7
    assert list(gallery.read().ids) == ["p4", "p7"]
    with pytest.raises(OccframeError, match=r"has no subject `ann` \(1 of 2 are unknown\)"):
        gallery.delete(subjects=["ann", "bob"])
    assert gallery.count == 2
    assert gallery.delete(["nobody"], subjects=["ann"], missing_ok=True) == 0
    generation = gallery.generation
    assert gallery.delete([]) == 0
    assert Gallery.open(gallery.url).generation == generation


def test_galleries_of_another_treatment_do_not_mix(gallery: Gallery) -> None:
    with pytest.raises(OccframeError, match=r"treatment is \{\}, not \{'glasses': 'removed by model X'\}"):
        GalleryWriter(gallery.url, schema(treatment={"glasses": "removed by model X"}))


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_come_bit_by_bit_without_the_deleted(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occframe.gallery.layout.ROW_GROUP_BYTES", 20 * DIM * 2)
    url, vectors = str(tmp_path), unit_vectors(130).astype(dtype)
    with GalleryWriter(url, schema(dtype=dtype), rows_per_part=50) as writer:
        writer.write(names(130), names(130), vectors)
    gallery = Gallery.open(url)
    np.testing.assert_array_equal(gallery.read_vectors(), vectors)
    gone = [0, 19, 20, 49, 50, 77, 129]
    gallery.delete([f"p{row}" for row in gone])
    left = np.delete(vectors, gone, axis=0)
    out = np.empty_like(left)
    assert gallery.read_vectors(out) is out
    np.testing.assert_array_equal(out, left)
    np.testing.assert_array_equal(np.concatenate(list(gallery.iter_vectors())), left)
    np.testing.assert_array_equal(np.concatenate([batch.vectors for batch in gallery.iter_batches()]), left)
    middle = np.concatenate(list(gallery.iter_vectors(gallery.parts[1:2])))
    np.testing.assert_array_equal(middle, left[gallery.parts[0].count :][: len(middle)])
    rows = np.random.default_rng(0).integers(0, len(left), (4, 30))
    np.testing.assert_array_equal(gallery.open_rows().take(rows), left[rows])
    for wrong in ([-1], [len(left)]):
        with pytest.raises(IndexError):
            gallery.open_rows().take(np.array(wrong))
    with pytest.raises(OccframeError, match="the array is"):
        gallery.read_vectors(np.empty((3, DIM), dtype))


def test_a_part_without_a_live_row_is_read_past(gallery: Gallery) -> None:
    add(gallery, names(3))
    later = add(gallery, names(4, "q"))
    gallery.delete(names(3))
    np.testing.assert_array_equal(gallery.read_vectors(), later)
    assert list(gallery.read().ids) == names(4, "q")
    np.testing.assert_array_equal(gallery.open_rows().take(np.arange(4)), later)


def test_vectors_are_mapped_not_copied(folder: Path) -> None:
    gallery = Gallery.open(str(folder))
    add(gallery, names(5000))
    for vectors in gallery.iter_vectors():
        assert not vectors.flags.owndata
        assert not vectors.flags.writeable


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_are_where_arrow_reads_them(data: st.DataObject, tmp_path: Path) -> None:
    rows, group, page = (data.draw(st.integers(1, most)) for most in (300, 300, 4000))
    width, path = data.draw(st.integers(1, 80)), tmp_path / "any.parquet"
    values = np.random.default_rng(rows).integers(0, 256, (rows, width), np.uint8)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(values)])
    other = pa.array([f"{row}" for row in range(rows)])
    fields = pa.schema([pa.field("a", pa.string()), pa.field("embedding", pa.binary(width), nullable=False)])
    pq.write_table(
        pa.table([other, column], schema=fields),
        path,
        row_group_size=group,
        data_page_size=page,
        write_batch_size=7,
        use_dictionary=False,
        compression="none",
        write_statistics=data.draw(st.booleans()),
        write_page_checksum=data.draw(st.booleans()),
    )
    raw = path.read_bytes()
    with open(path, "rb") as file:
        runs = find_runs(pq.ParquetFile(path), file, "embedding", width)
    assert runs is not None
    read = [raw[offset : offset + count * width] for _, count, offset in runs.tolist()]
    assert b"".join(read) == values.tobytes()
    assert runs[:, 0].tolist() == np.cumsum([0, *runs[:-1, 1].tolist()]).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"use_dictionary": True},
        {"data_page_version": "2.0"},
        {"column_encoding": "BYTE_STREAM_SPLIT"},
    ],
    ids=str,
)
def test_other_layouts_are_left_to_arrow(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    column = pa.array([bytes([row]) * 8 for row in range(50)], pa.binary(8))
    fields = pa.schema([pa.field("embedding", pa.binary(8), nullable=False)])
    written = {"compression": "none", "use_dictionary": False} | options
    pq.write_table(pa.table([column], schema=fields), path, **written)
    with open(path, "rb") as file:
        assert find_runs(pq.ParquetFile(path), file, "embedding", 8) is None
        assert find_runs(pq.ParquetFile(path), file, "embedding", 9) is None


# --- what an index needs to know --------------------------------------------------------------------------------------


@given(
    changes=st.lists(st.tuples(st.sampled_from(["add", "delete", "replace"]), st.integers(0, 40)), max_size=12),
    moment=st.integers(0, 12),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_snapshot_and_its_changes_are_the_gallery_of_now(changes: list[tuple[str, int]], moment: int) -> None:
    gallery = Gallery.create(f"memory://{uuid.uuid4().hex}/gallery", schema())
    kept, index = gallery.snapshot, list(gallery.read().ids)
    for number, (kind, at) in enumerate(changes):
        if number == moment:
            kept, index = Snapshot.model_validate_json(gallery.snapshot.model_dump_json()), list(gallery.read().ids)
        there = list(gallery.read().ids)
        if kind == "add":
            add(gallery, names(at % 5 + 1, f"{number}-"))
        elif there and kind == "delete":
            gallery.delete([there[at % len(there)], there[-1]])
        elif there:
            add(gallery, [there[at % len(there)], f"{number}"], replace=True)
    changed = gallery.changes_since(kept)
    assert changed is not None
    assert len(index) == kept.count
    left = [name for row, name in enumerate(index) if row not in set(changed.deleted.tolist())]
    delta = gallery.read_ids(changed.added).to_pylist()
    assert len(delta) == changed.added_count
    assert left + delta == list(gallery.read().ids)


def test_an_index_of_another_gallery_or_from_before_compacting_is_built_anew(gallery: Gallery) -> None:
    add(gallery, names(5))
    kept = gallery.snapshot
    assert gallery.changes_since(kept.model_copy(update={"rows_schema": schema(model_fingerprint="b")})) is None
    gallery.delete(["p2"])
    assert gallery.changes_since(kept).deleted.tolist() == [2]
    later = gallery.snapshot
    gallery.compact()
    assert gallery.changes_since(kept) is None
    assert gallery.changes_since(later) is None
    reader = gallery.open_rows(gallery.snapshot)
    assert reader.take(np.arange(4)).shape == (4, DIM)


# --- compacting -------------------------------------------------------------------------------------------------------


def part(rows: int, dead: int = 0) -> Part:
    return Part(file=f"part-{uuid.uuid4().hex}.parquet", rows=rows, bytes=1, sha256="0" * 64, tombstones=range(dead))


def test_only_what_must_be_is_rewritten() -> None:
    whole, worn, small = part(100), part(100, 30), part(20)
    assert units([whole, whole], 100) == []
    assert units([whole, small, whole], 100) == []
    assert units([worn, whole, small, small, small], 100) == [[worn], [small] * 3]
    assert units([small, worn, small], 100) == [[small, worn], [small]][:1]
    assert units([worn, worn, worn], 100) == [[worn], [worn], [worn]]
    assert units([small] * 12, 100) == [[small] * 5, [small] * 5, [small] * 2]


def test_compacting_keeps_order_columns_and_bits(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occframe.gallery.layout.ROW_GROUP_BYTES", 8 * DIM * 2)
    url = gallery.url + "-2"
    vectors = unit_vectors(100)
    with GalleryWriter(url, schema(columns={"age": "int64", "note": "string"}), rows_per_part=16) as writer:
        notes = [None if row % 4 else f"n{row}" for row in range(100)]
        writer.write(names(100), names(100, "s"), vectors, {"age": list(range(100)), "note": notes})
    opened = Gallery.open(url)
    opened.delete(names(100)[5:40] + names(100)[90:])
    rows = [*range(5), *range(40, 90)]
    done = compact(url, rows_per_part=30)
    assert done.removed == 45
    opened.reload()
    assert [part.rows for part in opened.parts] == [13, 16, 16, 10]
    (batch, *more) = opened.iter_batches(columns=["age", "note"])
    ages, found = [*batch.columns["age"]], [*batch.columns["note"]]
    for other in more:
        ages += [*other.columns["age"]]
        found += [*other.columns["note"]]
    assert ages == rows
    assert found == [notes[row] for row in rows]
    np.testing.assert_array_equal(opened.read_vectors(), vectors[rows])
    assert opened.read_ids(column="subject").to_pylist() == [f"s{row}" for row in rows]
    assert compact(url, rows_per_part=30).rewritten == 0
    assert check_gallery(url).ok


def test_nothing_is_left_of_the_deleted(folder: Path) -> None:
    gallery = Gallery.open(str(folder))
    subjects = [f"person-{row // 2}" for row in range(300)]
    vectors = add(gallery, names(300, "face-"), subjects=subjects)
    gallery.delete(["face-7", "face-8"], subjects=["person-100"])
    gone = [(f"face-{row}", f"person-{row // 2}", vectors[row].tobytes()) for row in (7, 8, 200, 201)]
    rows = {f"face-{row}": (subjects[row], vectors[row].tobytes()) for row in range(300) if row not in (7, 8, 200, 201)}
    with pytest.raises(AssertionError, match="holds a piece of a deleted embedding"):
        find_traces(folder, gone, rows)
    gallery.compact()
    find_traces(folder, gone, rows)
    gallery.delete(list(rows))
    gallery.compact()
    assert (gallery.count, gallery.parts) == (0, ())
    assert [path.name for path in folder.glob("part-*")] == []


def test_what_others_do_while_a_gallery_is_compacted_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery.open(str(folder))
    add(gallery, names(40))
    gallery.delete(["p0", "p20"])
    from occframe.gallery import compaction

    published = compaction.commit

    def meanwhile(url: str, change: Any) -> Any:
        other = Gallery.open(url)
        other.delete(["p10", "p39"])
        add(other, ["p11", "new"], seed=1, replace=True)
        return published(url, change)

    monkeypatch.setattr(compaction, "commit", meanwhile)
    gallery.compact()
    kept = [f"p{row}" for row in range(40) if row not in (0, 10, 11, 20, 39)] + ["p11", "new"]
    assert list(gallery.read().ids) == kept
    monkeypatch.undo()
    assert gallery.compact().removed == 3
    assert list(gallery.read().ids) == kept
    assert check_gallery(str(folder)).ok


def test_of_two_that_compact_one_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery.open(str(folder))
    add(gallery, names(40))
    gallery.delete(["p0"])
    from occframe.gallery import compaction

    published = compaction.commit

    def meanwhile(url: str, change: Any) -> Any:
        monkeypatch.undo()
        Gallery.open(url).compact()
        return published(url, change)

    monkeypatch.setattr(compaction, "commit", meanwhile)
    with pytest.raises(OccframeError, match="another process compacted the gallery"):
        gallery.compact()
    assert check_gallery(str(folder)) == check_gallery(str(folder), repair=True)
    assert Gallery.open(str(folder)).count == 39


def test_a_reader_is_told_that_its_parts_were_compacted(gallery: Gallery) -> None:
    add(gallery, names(10))
    reader = Gallery.open(gallery.url)
    gallery.delete(["p3"])
    gallery.compact()
    with pytest.raises(OccframeError, match="open the gallery again"):
        reader.read()
    reader.reload()
    assert reader.read().vectors.shape == (9, DIM)


def test_an_index_goes_with_the_parts_it_was_built_of(folder: Path) -> None:
    gallery = Gallery.open(str(folder))
    add(gallery, names(10))

    def keep_index(name: str, header: Any) -> None:
        (folder / "index" / name).mkdir(parents=True)
        (folder / "index" / name / "vectors-0.bin").write_bytes(b"codes")
        (folder / "index" / name / "index.json").write_text(json.dumps(header))

    keep_index("good", {"folder": "build-1", "details": {"snapshot": gallery.snapshot.model_dump(mode="json")}})
    (folder / "index" / "good" / "build-1").mkdir()
    add(gallery, ["q"])
    assert check_gallery(str(folder)).garbage == ()
    keep_index("strange", {"details": {}})
    (folder / "index" / "good" / "build-0").mkdir()
    (folder / "index" / "begun" / "build-2").mkdir(parents=True)
    unfinished = ("index/begun", "index/good/build-0")
    assert check_gallery(str(folder)).garbage == (*unfinished, "index/strange")
    with unpublished(str(folder)):
        assert check_gallery(str(folder), repair=True).removed == ("index/strange",)
    assert check_gallery(str(folder), repair=True).removed == unfinished
    gallery.delete(["p3"])
    assert gallery.compact().dropped == ("index/good",)
    assert list((folder / "index").iterdir()) == []


# --- garbage ----------------------------------------------------------------------------------------------------------


def test_a_repair_removes_garbage_and_nothing_else(folder: Path) -> None:
    gallery = Gallery.open(str(folder))
    add(gallery, names(10))
    ours = {path.name for path in folder.iterdir()}
    garbage = {"part-000001-0badcafe.parquet", ".part-000001-0badcafe.parquet.77.tmp", ".manifest.json.78.tmp"}
    strangers = {"quarantine.jsonl", "part-list.txt", "my.parquet", ".hidden.tmp"}
    for name in garbage | strangers:
        (folder / name).write_bytes(b"x")
    seen = check_gallery(str(folder))
    assert (seen.ok, set(seen.garbage), seen.removed) == (True, garbage, ())
    assert set(check_gallery(str(folder), repair=True).removed) == garbage
    assert {path.name for path in folder.iterdir()} == ours | strangers
    (folder / "manifest.json").unlink()
    with pytest.raises(OccframeError, match="there is no gallery"):
        check_gallery(str(folder), repair=True)
    assert len(list(folder.glob("part-*.parquet"))) == 1


def test_the_part_of_a_writer_at_work_is_no_garbage(folder: Path) -> None:
    with GalleryWriter(str(folder), schema()) as writer:
        writer.write(names(70_000), names(70_000), np.tile(unit_vectors(1), (70_000, 1)))
        assert check_gallery(str(folder)).garbage
        assert check_gallery(str(folder), repair=True).removed == ()
        assert Gallery.open(str(folder)).compact().left
    assert Gallery.open(str(folder)).count == 70_000
    assert check_gallery(str(folder)) == check_gallery(str(folder), repair=True)


def test_damage_is_reported_all_at_once(folder: Path) -> None:
    gallery = Gallery.open(str(folder))
    for number in range(3):
        add(gallery, names(10, f"{number}-"))
    first, second, _ = (folder / part.file for part in gallery.parts)
    first.unlink()
    content = bytearray(second.read_bytes())
    content[len(content) // 3] ^= 1
    second.write_bytes(content)
    problems = check_gallery(str(folder)).problems
    assert len(problems) == 2
    assert first.name in problems[0]
    assert second.name in problems[1]


def test_a_manifest_that_claims_too_much_is_refused_before_memory_is_taken(folder: Path) -> None:
    gallery = Gallery.open(str(folder))
    add(gallery, names(10))
    path = folder / "manifest.json"
    claimed = json.loads(path.read_text())
    claimed["parts"][0]["rows"] = 10**15
    path.write_text(json.dumps(claimed))
    with pytest.raises(OccframeError, match=r"GiB of memory, .* are available"):
        Gallery.open(str(folder)).read_vectors()
    with pytest.raises(OccframeError, match="has 10 rows, the manifest says"):
        list(Gallery.open(str(folder)).iter_batches())


def test_every_commit_reaches_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then the folder that names it, and the part before the manifest that names it."""
    order, fsync, replace = [], os.fsync, Path.replace

    def synced(opened: int) -> None:
        order.append(Path(f"/proc/self/fd/{opened}").readlink().name.split("-")[0])
        fsync(opened)

    def renamed(self: Path, target: Any) -> Path:
        order.append(f"rename {self.name.split('-')[0]}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    add(Gallery.open(str(folder)), names(3))
    aside = f".manifest.json.{os.getpid()}.tmp"
    assert order == [".part", "rename .part", "gallery", aside, f"rename {aside}", "gallery"]
