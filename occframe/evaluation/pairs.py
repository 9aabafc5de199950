"""Lists of pairs, as LFW's ``pairs.txt``, CSV, Parquet or InsightFace's ``.bin`` gives them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from occframe.errors import OccframeError
from occframe.evaluation.ids import IdIndex, LfwImage
from occframe.evaluation.insightface_bin import is_bin, read_bin
from occframe.storage import filesystem, read_bytes
from occframe.types import EmbeddingTable

_COLUMNS = (["id_a", "id_b", "same"], ["fold", "id_a", "id_b", "same"])
_TRUE, _FALSE = {"1", "true", "yes", "same"}, {"0", "false", "no", "different"}


@dataclass(frozen=True)
class Pairs:
    """Rows to compare. reference_rows, probe_rows: int64 [P]. same: bool [P]. folds: int64 [P], or None."""

    reference_rows: np.ndarray
    probe_rows: np.ndarray
    same: np.ndarray
    folds: np.ndarray | None = None


class NamedPair(NamedTuple):
    """A pair as a file names it. fold: None where the file has no folds."""

    first: str | LfwImage
    second: str | LfwImage
    same: bool
    fold: int | None


def read_pairs(url: str, reference: EmbeddingTable, probe: EmbeddingTable) -> Pairs:
    """Read a pair file and find its images: the first of a pair among the references, the second among the probes.

    Raises OccframeError: the file is missing or malformed (with the line), or names images the tables lack (with how
    many and which).
    """
    pairs = parse_pairs(url)
    reference_rows, missing = IdIndex(reference.ids).rows([pair.first for pair in pairs])
    probe_rows, missing_probes = IdIndex(probe.ids).rows([pair.second for pair in pairs])
    lost = sorted(set(missing) | set(missing_probes))
    if lost:
        some = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise OccframeError(
            f"{url}: {len(lost)} of the images it names are not among the embeddings: {some}",
            remedy=f"embed the whole data set the pairs are of; its ids look like {reference.ids[0]!r}, "
            f"the file's like {pairs[0].first!s}",
        )
    folds = [pair.fold for pair in pairs]
    return Pairs(
        reference_rows,
        probe_rows,
        np.array([pair.same for pair in pairs], bool),
        None if None in folds else np.array(folds, np.int64),
    )


def parse_pairs(url: str) -> list[NamedPair]:
    """The pairs of a file, whose format its content tells: Parquet, InsightFace's pickle, CSV where the first line is a
    header with ``id_a``, LFW's format otherwise."""
    fs, path = filesystem(url)
    if not fs.isfile(path):
        raise OccframeError(f"no pair file at {url}", remedy="give the path or URL of a pair file")
    with fs.open(path, "rb") as file:
        head = file.read(1024)
    if head[:4] == b"PAR1":
        pairs = list(_parquet_pairs(url))
    elif is_bin(head):
        packed = read_bin(url)
        pairs = [NamedPair(*pair) for pair in zip(packed.first, packed.second, packed.same, packed.folds, strict=True)]
    else:
        text = _text(url)
        pairs = list(_csv_pairs(url, text) if "id_a" in text.partition("\n")[0] else _lfw_pairs(url, text))
    if not pairs:
        raise OccframeError(f"{url} holds no pairs", remedy="give a file with at least one pair")
    return pairs


def _text(url: str) -> str:
    try:
        return read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OccframeError(
            f"{url} is not text: {error}", remedy="give pairs.txt or CSV in UTF-8, Parquet, or an InsightFace .bin"
        ) from error


def _parquet_pairs(url: str) -> Iterator[NamedPair]:
    """Columns ``id_a``, ``id_b``, ``same`` and, where there are folds, ``fold``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            table = pq.read_table(file)
        columns = sorted(table.column_names)
        if columns not in _COLUMNS:
            raise OccframeError(
                f"{url}: its columns are {', '.join(columns)}",
                remedy="write id_a, id_b, same and, where there are folds, fold",
            )
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OccframeError(f"{url} cannot be read: {error}", remedy="write it again") from error
    for number, row in enumerate(rows):
        first, second, same, fold = row["id_a"], row["id_b"], row["same"], row.get("fold", 0)
        if not (isinstance(first, str) and isinstance(second, str) and first and second):
            raise OccframeError(f"{url}, row {number}: an id is missing or no text", remedy="correct this row")
        if same not in (True, False) or type(fold) is not int:
            raise OccframeError(
                f"{url}, row {number}: same is {same!r}, fold is {fold!r}",
                remedy="write `same` as booleans or 0 and 1, `fold` as integers",
            )
        yield NamedPair(first, second, bool(same), row.get("fold"))


def _lfw_pairs(url: str, text: str) -> Iterator[NamedPair]:
    """``folds pairs`` (or just ``pairs``), then for each fold that many genuine lines ``name n1 n2`` and as many
    impostor lines ``name1 n1 name2 n2``. See http://vis-www.cs.umass.edu/lfw/README.txt."""
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    # Names may hold spaces where fields are separated by tabs.
    lines = [(number, line.split("\t") if "\t" in line else line.split()) for number, line in numbered]
    if not lines or len(lines[0][1]) > 2 or not all(field.strip().isdecimal() for field in lines[0][1]):
        raise OccframeError(
            f"{url}:1: neither LFW's header (`10 300`: folds, pairs a fold) nor a CSV header with id_a, id_b and same",
            remedy="write `id_a,id_b,same` as the first line of a CSV file",
        )
    header = [int(field) for field in lines[0][1]]
    fold_count, per_kind = header if len(header) == 2 else (1, header[0])
    body = lines[1:]
    if len(body) != fold_count * per_kind * 2:
        raise OccframeError(
            f"{url}: its first line announces {fold_count * per_kind * 2} pairs, there are {len(body)}",
            remedy="download the file again",
        )
    for place, (number, fields) in enumerate(body):
        fold = place // (2 * per_kind) if fold_count > 1 else None
        try:
            if len(fields) == 3:
                name, first, second = fields
                yield NamedPair(LfwImage(name, int(first)), LfwImage(name, int(second)), True, fold)
            else:
                name, first, other, second = fields
                yield NamedPair(LfwImage(name, int(first)), LfwImage(other, int(second)), False, fold)
        except ValueError as error:
            raise OccframeError(
                f"{url}:{number}: neither `name n1 n2` nor `name1 n1 name2 n2`: {' '.join(fields)[:80]!r}",
                remedy="correct this line",
            ) from error


def _csv_pairs(url: str, text: str) -> Iterator[NamedPair]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    if sorted(columns) not in _COLUMNS:
        raise OccframeError(
            f"{url}:1: its columns are {', '.join(columns)}",
            remedy="write id_a, id_b, same and, where there are folds, fold",
        )
    reader.fieldnames = columns
    try:
        for row in reader:
            cells = {key: (value or "").strip() for key, value in row.items() if isinstance(value, str | None) and key}
            same = cells["same"].lower()
            if same not in _TRUE | _FALSE or not cells["id_a"] or not cells["id_b"]:
                raise ValueError(f"same is {cells['same']!r}" if same not in _TRUE | _FALSE else "an id is empty")
            fold = int(cells["fold"]) if "fold" in cells else None
            yield NamedPair(cells["id_a"], cells["id_b"], same in _TRUE, fold)
    except (ValueError, csv.Error) as error:
        raise OccframeError(
            f"{url}:{reader.line_num}: {error}",
            remedy="a line is `id_a,id_b,1` (same person) or `id_a,id_b,0`, then the fold",
        ) from error
