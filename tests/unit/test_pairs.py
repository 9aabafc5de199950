"""Reading pair files that strangers wrote, and finding their images among a data set's ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from occframe.errors import OccframeError
from occframe.evaluation.ids import IdIndex, LfwImage
from occframe.evaluation.pairs import parse_pairs, read_pairs
from occframe.types import EmbeddingTable

LFW = "2\t1\nAda Lovelace\t1\t2\nAda Lovelace\t1\tBob\t3\nBob\t3\t12\nBob\t12\tAda Lovelace\t2\n"


def table(*ids: str) -> EmbeddingTable:
    return EmbeddingTable(ids, ["someone"] * len(ids), np.eye(len(ids), dtype=np.float32))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "pairs.txt") -> str:
        (tmp_path / name).write_bytes(text.encode())
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    "ids",
    [
        ["Ada Lovelace_0001.jpg", "Ada Lovelace_0002.jpg", "Bob_0003.jpg", "Bob_0012.jpg"],
        ["Ada Lovelace/Ada Lovelace_0001", "Ada Lovelace/Ada Lovelace_0002", "Bob/Bob_0003", "Bob/Bob_0012"],
        ["x/Ada Lovelace/1.png", "x/Ada Lovelace/2.png", "x/Bob/3.png", "x/Bob/12.png"],
        ["Ada Lovelace_0001", "Ada Lovelace_0002", "Bob_0003", "Bob_0012"],
    ],
)
def test_lfw_pairs_are_found_however_ids_are_written(ids: list[str], written: Callable[[str], str]) -> None:
    pairs = read_pairs(written(LFW), table(*ids), table(*reversed(ids)))
    assert pairs.reference_rows.tolist() == [0, 0, 2, 3]
    assert pairs.probe_rows.tolist() == [2, 1, 0, 2]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [0, 0, 1, 1]


def test_one_fold_is_none(written: Callable[[str], str]) -> None:
    """LFW's development files have a header of one number."""
    pairs = parse_pairs(written("1\nBob 1 2\nBob 1 Eve 2\n"))
    assert [pair.fold for pair in pairs] == [None, None]
    assert pairs[1].second == LfwImage("Eve", 2)


def test_csv_pairs(written: Callable[[str], str]) -> None:
    text = '\ufeffid_a, id_b,same,fold\r\na.jpg,"b, c.png",True,1\r\na,d,no,2\r\n'
    pairs = read_pairs(written(text, "pairs.csv"), table("a.jpg"), table("d.jpg", "b, c.png"))
    assert pairs.probe_rows.tolist() == [1, 0]
    assert pairs.same.tolist() == [True, False]
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [1, 2]
    without = parse_pairs(written("id_a,id_b,same\na,b,1\n"))
    assert without[0].fold is None


def test_parquet_pairs(tmp_path: Path) -> None:
    where = str(tmp_path / "pairs.parquet")
    columns = {"id_a": ["a", "b"], "id_b": ["c", "d"], "same": [True, False], "fold": [0, 1]}
    pq.write_table(pa.table(columns), where)
    assert [pair.fold for pair in parse_pairs(where)] == [0, 1]
    assert parse_pairs(where)[1] == ("b", "d", False, 1)
    pq.write_table(pa.table(columns).drop_columns("fold"), where)
    assert [pair.fold for pair in parse_pairs(where)] == [None, None]
    for broken, message in (
        (columns | {"same": [1, 7]}, "row 1: same is 7"),
        (columns | {"id_b": ["c", None]}, "row 1: an id is missing"),
        ({"id_a": ["a"]}, "its columns are id_a"),
    ):
        pq.write_table(pa.table(broken), where)
        with pytest.raises(OccframeError, match=message):
            parse_pairs(where)
    Path(where).write_bytes(b"PAR1 and then nothing of the kind")
    with pytest.raises(OccframeError, match="cannot be read"):
        parse_pairs(where)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2\nBob\t1\t2\n", "announces 4 pairs, there are 1"),
        ("1\t1\nBob\t1\tx\nBob\t1\tEve\t2\n", r"pairs.txt:2: neither `name n1 n2`"),
        ("1\t1\nBob\t1\t2\nBob\t1\tEve\t2\t3\n", r"pairs.txt:3: neither"),
        ("Bob 1 2\n", "neither LFW's header"),
        ("", "neither LFW's header"),
        ("0 10\n", "holds no pairs"),
        ("id_a,id_b,same\na,b,maybe\n", r"pairs.txt:2: same is 'maybe'"),
        ("id_a,id_b,same\na,,1\n", r"pairs.txt:2: an id is empty"),
        ("id_a,id_b,same,fold\na,b,1\n", r"pairs.txt:2: invalid literal"),
        ("id_a,id_b,same\na,b,1,2,3\na\n", r"pairs.txt:3: same is ''"),
        ("id_a,id_b\na,b\n", "its columns are id_a, id_b"),
        ("id_a,id_b,same\n", "holds no pairs"),
    ],
)
def test_malformed_files_are_refused_with_the_line(text: str, message: str, written: Callable[[str], str]) -> None:
    with pytest.raises(OccframeError, match=message):
        parse_pairs(written(text))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(OccframeError, match="is not text"):
        parse_pairs(str(tmp_path / "pairs.txt"))
    with pytest.raises(OccframeError, match="no pair file at"):
        parse_pairs(str(tmp_path / "nowhere.txt"))


def test_images_that_are_missing_are_counted_and_named(written: Callable[[str], str]) -> None:
    with pytest.raises(
        OccframeError, match=r"3 of the images it names are not among the embeddings: Ada Lovelace_0001"
    ) as error:
        read_pairs(written(LFW), table("Bob_0003.jpg", "x.jpg"), table("Bob_0003.jpg", "Bob_0012.jpg"))
    assert "its ids look like 'Bob_0003.jpg', the file's like Ada Lovelace_0001" in str(error.value)


def test_a_name_that_fits_two_ids_is_refused() -> None:
    index = IdIndex(["left/face.jpg", "right/face.jpg", "left/other.png"])
    assert index.rows(["left/face", "other.jpg"])[0].tolist() == [0, 2]
    with pytest.raises(OccframeError, match=r"'face' may be 'left/face.jpg' or 'right/face.jpg'"):
        index.rows(["face"])


def test_a_dot_in_a_name_is_no_extension() -> None:
    assert IdIndex(["J.R._Smith_0001", "J.R._Smith_0002.JPG"]).rows(
        [LfwImage("J.R._Smith", 1), LfwImage("J.R._Smith", 2)]
    )[0].tolist() == [0, 1]


@pytest.mark.shared
def test_lfw_as_published(shared: Path) -> None:
    """All 6,000 pairs are found among the real ids: ten folds of 300 genuine and 300 impostor pairs."""
    columns = pq.read_table(shared / "data" / "lfw112_gray.parquet", columns=["file", "identity"])
    subjects = columns.column("identity").to_pylist()
    faces = EmbeddingTable(columns.column("file").to_pylist(), subjects, np.zeros((len(subjects), 1), np.float32))
    pairs = read_pairs(str(shared / "data" / "lfw_pairs.txt"), faces, faces)
    assert pairs.folds is not None
    assert np.bincount(pairs.folds[pairs.same]).tolist() == np.bincount(pairs.folds[~pairs.same]).tolist() == [300] * 10
    named = np.array(subjects)
    assert ((named[pairs.reference_rows] == named[pairs.probe_rows]) == pairs.same).all()
