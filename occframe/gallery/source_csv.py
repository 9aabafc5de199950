"""CSV: a line a row, the embedding in columns of numbers or as text in one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv

from occframe.errors import OccframeError, first_line
from occframe.gallery.importing import BATCH, SourceColumns, SourceRows
from occframe.gallery.manifest import GallerySchema
from occframe.gallery.source_columns import as_text
from occframe.storage import filesystem

#: Arrow reads by the block, and a line must fit into one.
_BLOCK_BYTES = 8 * 2**20
_MOST_COLUMNS = 70_000


class CsvSource:
    """Columns id, subject, and either ``embedding`` with text such as ``[0.1, -0.2]``, or ``embedding_0`` and so on."""

    rows: int | None = None
    schema: GallerySchema | None = None

    def __init__(self, url: str, columns: SourceColumns) -> None:
        self.url, self._columns = url, columns
        names = _header(url)
        numbered = re.compile(re.escape(columns.embedding) + r"_?([0-9]+)")
        found = sorted((int(match[1]), name) for name in names if (match := numbered.fullmatch(name)))
        if columns.id not in names or not (found or columns.embedding in names):
            raise OccframeError(
                f"{url} has the columns {', '.join(names[:8])}{' …' if len(names) > 8 else ''}",
                remedy=f"name `{columns.id}`, and `{columns.embedding}` or `{columns.embedding}_0`, `…_1` and so on",
            )
        if found and [number for number, _ in found] not in (list(range(len(found))), list(range(1, len(found) + 1))):
            raise OccframeError(f"{url}: the columns {found[0][1]} to {found[-1][1]} are not numbered without gaps")
        self._numbers = [name for _, name in found]
        self._subject = columns.subject if columns.subject in names else columns.id
        self.dim = len(found) or self._first_length()

    def batches(self, columns: Mapping[str, pa.DataType]) -> Iterator[SourceRows]:
        for table in self._tables(columns):
            yield SourceRows(
                as_text(table.column(self._columns.id).combine_chunks(), self.url, self._columns.id),
                as_text(table.column(self._subject).combine_chunks(), self.url, self._subject),
                self._vectors(table),
                {name: table.column(name).combine_chunks() for name in columns},
            )

    def _tables(self, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
        vectors = dict.fromkeys(self._numbers, pa.float32()) or {self._columns.embedding: pa.string()}
        texts = dict.fromkeys((self._columns.id, self._subject), pa.string())
        yield from read_csv(self.url, {**texts, **vectors, **columns})

    def _vectors(self, table: pa.Table) -> np.ndarray:
        if self._numbers:
            missing = [name for name in self._numbers if table.column(name).null_count]
            if missing:
                raise OccframeError(f"{self.url}: a row has no number in the column {missing[0]}")
            return np.stack([table.column(name).to_numpy() for name in self._numbers], axis=1)
        names = table.column(self._columns.id).to_pylist()
        texts = table.column(self._columns.embedding).to_pylist()
        rows = np.empty((len(texts), self.dim), np.float32)
        for row, (name, text) in enumerate(zip(names, texts, strict=True)):
            numbers = self._parse(text, name)
            if len(numbers) != self.dim:
                raise OccframeError(f"{self.url}: the embedding of `{name}` has {len(numbers)} numbers, not {self.dim}")
            rows[row] = numbers
        return rows

    def _first_length(self) -> int:
        for table in self._tables({}):
            if len(table):
                first = table.slice(0, 1)
                name, text = (first.column(column)[0].as_py() for column in (self._columns.id, self._columns.embedding))
                return len(self._parse(text, name))
        raise OccframeError(f"{self.url} has no rows")

    def _parse(self, text: str | None, name: str) -> list[float]:
        try:
            return [float(number) for number in (text or "").strip(" []()").replace(",", " ").split()]
        except ValueError as error:
            raise OccframeError(f"{self.url}: the embedding of `{name}` is not numbers: {error}") from error


def read_names(url: str, names: SourceColumns, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """Tables of id, subject and ``columns`` of a CSV file that names the rows of something else."""
    present = _header(url)
    if names.id not in present:
        raise OccframeError(f"{url} has no column {names.id}; it has {', '.join(present[:8])}")
    subject = names.subject if names.subject in present else names.id
    for table in read_csv(url, {**dict.fromkeys((names.id, subject), pa.string()), **columns}):
        texts = [as_text(table.column(name).combine_chunks(), url, name) for name in (names.id, subject)]
        others = [table.column(name) for name in columns]
        yield pa.table([*texts, *others], names=["id", "subject", *columns])


def read_csv(url: str, types: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """The columns of these names and types, at most ``BATCH`` rows at a time."""
    with _opened(url) as stream:
        reader = pv.open_csv(
            stream,
            pv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            convert_options=pv.ConvertOptions(
                column_types=types, include_columns=list(types), strings_can_be_null=False, null_values=[""]
            ),
        )
        for block in reader:
            for start in range(0, block.num_rows, BATCH):
                yield pa.Table.from_batches([block.slice(start, BATCH)])


def _header(url: str) -> list[str]:
    with _opened(url) as stream:
        names: list[str] = pv.open_csv(stream, pv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)).schema.names
    if len(names) > _MOST_COLUMNS:
        raise OccframeError(f"{url} has {len(names):,} columns")
    return names


@contextmanager
def _opened(url: str) -> Iterator[object]:
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb", compression="infer") as stream:
            yield stream
    except (pa.ArrowException, OSError, EOFError) as error:
        raise OccframeError(
            f"{url} cannot be read as CSV: {first_line(error)}", remedy="its first line must name the columns"
        ) from error
