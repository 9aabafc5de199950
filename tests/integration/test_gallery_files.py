"""A gallery to and from the files of other tools, through the command line."""

from __future__ import annotations

import csv
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from occframe.cli.gallery import gallery as command
from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter
from occframe.types import ImageSpec

DIM = 24
MODEL = ["--model-fingerprint", "model-a"]


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def run(*arguments: Any, code: int = 0) -> Any:
    """What the command says as JSON; raises what it raises."""
    done = CliRunner().invoke(command, [str(argument) for argument in (*arguments, "--json")], catch_exceptions=True)
    if isinstance(done.exception, OccframeError):
        raise done.exception
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def filled(tmp_path: Path) -> Gallery:
    url = str(tmp_path / "gallery")
    columns = {"age": "int64", "note": "string", "real": "bool", "score": "float64"}
    schema = GallerySchema(dim=DIM, model_fingerprint="model-a", image_spec=ImageSpec(height=96), columns=columns)
    with GalleryWriter(url, schema) as writer:
        writer.write(
            [f"p,{row}" for row in range(30)],
            [f'the "{row // 3}"' for row in range(30)],
            unit_vectors(30),
            {
                "age": [None if row % 7 == 0 else row for row in range(30)],
                "note": [f"n{row}" for row in range(30)],
                "real": [row % 2 == 0 for row in range(30)],
                "score": [row / 7 for row in range(30)],
            },
        )
    opened = Gallery.open(url)
    opened.delete(["p,0", "p,13"])
    return opened


def contents(gallery: Gallery) -> list[Any]:
    (batch,) = gallery.iter_batches(columns=list(gallery.schema.columns))
    columns = [
        np.nan_to_num(values.astype(float)).tolist() if name == "age" else values.tolist()
        for name, values in batch.columns.items()
    ]
    return [batch.ids, batch.subjects, *columns]


@pytest.mark.parametrize("form", ["parquet", "numpy"])
def test_what_is_exported_can_be_imported(filled: Gallery, tmp_path: Path, form: str) -> None:
    told = run("export", filled.url, tmp_path / "out", "--format", form)
    assert told["rows"] == 28
    assert sorted(told["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert run("import", tmp_path / "out", tmp_path / "again") == {"added": 28, "skipped": 0, "count": 28}
    again = Gallery.open(str(tmp_path / "again"))
    assert again.schema == filled.schema
    assert contents(again) == contents(filled)
    np.testing.assert_array_equal(again.read_vectors(), filled.read_vectors())
    with pytest.raises(OccframeError, match="out is there already and not an empty folder"):
        run("export", filled.url, tmp_path / "out", "--format", form)


def test_other_tools_read_an_export(filled: Gallery, tmp_path: Path) -> None:
    run("export", filled.url, tmp_path / "lists")
    table = pq.read_table(tmp_path / "lists")
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    np.testing.assert_array_equal(
        np.array(table.column("embedding").to_pylist()), filled.read_vectors().astype(np.float32)
    )
    assert table.column("age").null_count == 4
    run("export", filled.url, tmp_path / "matrix", "--format", "numpy", "--dtype", "float32")
    matrix = np.load(tmp_path / "matrix" / "embeddings.npy", allow_pickle=False)
    np.testing.assert_array_equal(matrix, filled.read_vectors().astype(np.float32))
    with open(tmp_path / "matrix" / "rows.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == filled.read_ids().to_pylist()


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float16(), DIM), pa.large_list(pa.float64()), pa.list_(pa.float64(), DIM)],
    ids=str,
)
def test_lists_of_any_kind_under_other_names(tmp_path: Path, kind: pa.DataType) -> None:
    vectors = unit_vectors(50)
    values = vectors.astype(np.float16) if kind.value_type == pa.float16() else vectors
    table = pa.table(
        {
            "key": pa.array(range(50)),
            "vec": pa.array(list(map(list, values)), kind),
            "age": pa.array(range(50), pa.int8()),
        }
    )
    (tmp_path / "in").mkdir()
    pq.write_table(table.slice(0, 20), tmp_path / "in" / "a.parquet")
    pq.write_table(table.slice(20), tmp_path / "in" / "b.parquet", row_group_size=7)
    names = ["--id-column", "key", "--embedding-column", "vec"]
    added = run("import", tmp_path / "in", tmp_path / "g", *names, *MODEL, "--column", "age:int64", "--colour", "BGR")
    assert added["count"] == 50
    opened = Gallery.open(str(tmp_path / "g"))
    assert (opened.dim, opened.schema.image_spec.colour) == (DIM, "BGR")
    assert list(opened.read().subjects) == list(opened.read().ids) == [str(row) for row in range(50)]
    np.testing.assert_allclose(opened.read().vectors, vectors, atol=1e-3)


def test_csv_with_columns_and_csv_with_text(tmp_path: Path) -> None:
    vectors = unit_vectors(5)
    with open(tmp_path / "wide.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "subject", "age", *(f"embedding_{number}" for number in reversed(range(DIM)))])
        writer.writerows([f"a{row}", "s", row, *vectors[row][::-1].tolist()] for row in range(5))
    with open(tmp_path / "text.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "embedding"])
        writer.writerows([f"b{row}", str(vectors[row].tolist())] for row in range(5))
    gallery = tmp_path / "g"
    run("import", tmp_path / "wide.csv", gallery, *MODEL, "--dtype", "float32")
    run("import", tmp_path / "text.csv", gallery, *MODEL)
    with pytest.raises(OccframeError, match="is there already, and --column is for new ones"):
        run("import", tmp_path / "text.csv", gallery, *MODEL, "--column", "age:int64")
    table = Gallery.open(str(gallery)).read()
    assert list(table.ids) == [f"{name}{row}" for name in "ab" for row in range(5)]
    np.testing.assert_allclose(table.vectors, np.concatenate([vectors, vectors]), atol=1e-6)


def save_rows(path: Path, array: np.ndarray, names: list[str], **options: Any) -> Path:
    np.save(path, array, **options)
    (path.parent / "rows.csv").write_text("\n".join(["id,subject", *(f"{name},s" for name in names)]) + "\n")
    return path


def test_existing_ids_are_refused_replaced_or_skipped(tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    source = save_rows(tmp_path / "a.npy", unit_vectors(3) * 7, ["a", "b", "c"])
    with pytest.raises(OccframeError, match="norm 7, not 1"):
        run("import", source, gallery, *MODEL)
    assert not gallery.exists()
    run("import", source, gallery, *MODEL, "--normalise")
    save_rows(source, unit_vectors(3, seed=1), ["b", "c", "d"])
    with pytest.raises(OccframeError, match="the id `b` is there already"):
        run("add", gallery, source, *MODEL)
    assert run("add", gallery, source, *MODEL, "--existing", "skip") == {"added": 1, "skipped": 2, "count": 4}
    np.testing.assert_allclose(Gallery.open(str(gallery)).read().vectors[:3], unit_vectors(3), atol=1e-3)
    assert run("add", gallery, source, *MODEL, "--existing", "replace")["count"] == 4
    table = Gallery.open(str(gallery)).read()
    assert list(table.ids) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(table.vectors[1:], unit_vectors(3, seed=1), atol=1e-3)


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "is no .npy file of numbers"),
        (
            lambda path: np.save(path, np.array([[Bomb()]]), allow_pickle=True),
            "Python objects, which are never unpacked",
        ),
        (lambda path: path.write_bytes(pickle.dumps(Bomb())), "is no .npy file of numbers"),
        (lambda path: np.save(path, unit_vectors(3)[0]), r"has the shape \[24\], not \[rows, dimension\]"),
        (lambda path: np.save(path, np.asfortranarray(unit_vectors(3))), "in Fortran order"),
        (lambda path: np.save(path, np.ones((3, 4), int)), "holds int64"),
        (lambda path: np.save(path, unit_vectors(4)), "names 3 rows, .* has 4"),
        (lambda path: np.save(path, unit_vectors(2)), "names more rows than the 2"),
    ],
)
def test_matrices_that_are_none(tmp_path: Path, write: Any, message: str) -> None:
    path = save_rows(tmp_path / "a.npy", unit_vectors(3), ["a", "b", "c"])
    write(path)
    with pytest.raises(OccframeError, match=message):
        run("import", path, tmp_path / "g", *MODEL)


def test_a_matrix_that_promises_more_than_it_has_is_refused_unread(tmp_path: Path) -> None:
    path = save_rows(tmp_path / "a.npy", unit_vectors(3), ["a", "b", "c"])
    raw = path.read_bytes()
    length = struct.unpack("<H", raw[8:10])[0]
    header = raw[10 : 10 + length].replace(b"(3, 24), }", b"(99999999999, 24)}")[:length]
    path.write_bytes(raw[:10] + header.strip().ljust(length - 1) + b"\n" + raw[10 + length :])
    with pytest.raises(OccframeError, match=r"has [\d,]+ bytes, its header promises [\d,]{15,}"):
        run("import", path, tmp_path / "g", *MODEL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has the columns a, b"),
        ('id,embedding\nx,"[0.1, zero]"\n', "the embedding of `x` is not numbers"),
        ("id,embedding\nx,1 0\ny,1\n", "the embedding of `y` has 1 numbers, not 2"),
        ("id,embedding_0,embedding_2\nx,1,2\n", "not numbered without gaps"),
        ("id,embedding_0,embedding_1\nx,1,two\n", "cannot be read as CSV: .*'?two'?"),
        ("id,embedding_0,embedding_1\nx,1\n", "cannot be read as CSV: .*Expected 3 columns, got 2"),
        ("id,embedding_0,embedding_1\nx,,1\n", "no number in the column embedding_0"),
        ("id,embedding\n", "has no rows"),
        ("", "cannot be read as CSV"),
    ],
)
def test_csv_files_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(OccframeError, match=message):
        run("import", tmp_path / "a.csv", tmp_path / "g", *MODEL)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a"], "vec": [[1.0]]}, "has no column embedding; it has id, vec"),
        ({"id": ["a"], "embedding": ["x"]}, "the column `embedding` is string"),
        ({"id": ["a"], "embedding": pa.array([b"1234"], pa.binary(4))}, "4 plain bytes"),
        ({"id": ["a", None], "embedding": [[1.0, 0.0]] * 2}, "a row has no id"),
        ({"id": ["a", "b"], "embedding": [[1.0, 0.0], [1.0]]}, "embeddings of length 1, not 2"),
        ({"id": [1.5], "embedding": [[1.0, 0.0]]}, "the column `id` is double, not text"),
    ],
)
def test_parquet_files_that_are_none(tmp_path: Path, table: Any, message: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(OccframeError, match=message):
        run("import", tmp_path / "a.parquet", tmp_path / "g", *MODEL)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(OccframeError, match=r"a\.parquet cannot be read"):
        run("import", tmp_path / "a.parquet", tmp_path / "g", *MODEL)


def test_rows_of_another_model_dimension_or_treatment_are_refused(filled: Gallery, tmp_path: Path) -> None:
    run("export", filled.url, tmp_path / "out")
    source = save_rows(tmp_path / "a.npy", unit_vectors(3, dim=8), ["a", "b", "c"])
    with pytest.raises(OccframeError, match="does not say which model made its embeddings") as caught:
        run("add", filled.url, source)
    assert "--model-fingerprint model-a" in str(caught.value)
    with pytest.raises(OccframeError, match="is of model model-a, these rows are of model-b"):
        run("add", filled.url, source, "--model-fingerprint", "model-b")
    with pytest.raises(OccframeError, match="of dimension 8, the gallery is for 24"):
        run("add", filled.url, source, *MODEL)
    run("create", tmp_path / "other", "--model-fingerprint", "model-b", "--dim", DIM)
    with pytest.raises(OccframeError, match="says it is of model model-a, the gallery is of model-b"):
        run("import", tmp_path / "out", tmp_path / "other")
    run("create", tmp_path / "treated", *MODEL, "--dim", DIM, "--treatment", "glasses=removed by X")
    with pytest.raises(OccframeError, match="had the treatment"):
        run("import", tmp_path / "out", tmp_path / "treated")
    with pytest.raises(OccframeError, match="a new gallery must know its model"):
        run("import", source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_life_of_a_gallery(tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    made = run(
        "create", gallery, *MODEL, "--dim", DIM, "--image-size", "96x80", "--mean", "0,0,0", "--column", "age:int64"
    )
    assert made["image_spec"] | {"colour": "RGB"} == {
        "height": 96,
        "width": 80,
        "colour": "RGB",
        "mean": [0, 0, 0],
        "std": [0.5] * 3,
    }
    assert made == run("create", tmp_path / "twin", "--like", gallery)
    with pytest.raises(OccframeError, match="there is a gallery at"):
        run("create", gallery, *MODEL, "--dim", DIM)
    with pytest.raises(OccframeError, match=r"columns\.age: Input should be 'string', 'int64'"):
        run("create", tmp_path / "x", *MODEL, "--dim", DIM, "--column", "age:int")
    with pytest.raises(OccframeError, match="--image-size 96 is not 2 numbers"):
        run("create", tmp_path / "x", *MODEL, "--dim", DIM, "--image-size", "96")
    source = tmp_path / "a.csv"
    rows = [f"p{row},s{row // 2},{row},{' '.join(map(str, unit_vectors(10)[row]))}" for row in range(10)]
    source.write_text("\n".join(["id,subject,age,embedding", *rows]) + "\n")
    assert run("add", gallery, source, *MODEL)["added"] == 10
    (tmp_path / "gone.txt").write_text("p0\np1\n\n")
    assert run("delete", gallery, "--ids-from", tmp_path / "gone.txt", "--subject", "s3") == {
        "deleted": 4,
        "count": 6,
        "not_compacted": 4,
    }
    assert run("info", gallery)["deleted_rows"] == 4
    (gallery / "part-000007-0badcafe.parquet").write_bytes(b"x")
    assert run("verify", gallery)["garbage"] == ["part-000007-0badcafe.parquet"]
    assert run("verify", gallery, "--repair")["removed"] == ["part-000007-0badcafe.parquet"]
    assert run("compact", gallery)["removed"] == 4
    told = run("info", gallery)
    assert (told["rows"], told["deleted_rows"], told["parts"]) == (6, 0, 1)
    part = next(gallery.glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    assert "was changed or damaged" in run("verify", gallery, code=1)["problems"][0]


def test_what_a_person_reads(filled: Gallery, tmp_path: Path) -> None:
    def say(*arguments: Any) -> str:
        return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False).stdout

    assert "28 and 2 deleted, not compacted" in say("info", filled.url)
    assert "28 rows as they were written" in say("verify", filled.url)
    assert "3 deleted rows are still in the files" in say("delete", filled.url, "--id", "p,1")
    assert "3 deleted rows removed; parts: 1 became 1" in say("compact", filled.url)
    assert "27 rows in embeddings-000000.parquet" in say("export", filled.url, tmp_path / "out")
    assert "empty, for embeddings of dimension 8" in say("create", tmp_path / "new", *MODEL, "--dim", 8)
