"""A matrix in a ``.npy`` file, read as numbers and nothing else: pickles are not opened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from occframe.errors import OccframeError, first_line
from occframe.gallery.importing import SourceColumns, SourceRows
from occframe.gallery.manifest import GallerySchema
from occframe.gallery.source_columns import of_types
from occframe.gallery.source_csv import read_names
from occframe.storage import exists, filesystem, join, read_bytes

ARRAY, ROWS, SCHEMA = "embeddings.npy", "rows.csv", "schema.json"
_MOST_SCHEMA_BYTES = 2**20


def find_numpy(url: str) -> str | None:
    """The ``.npy`` file that is ``url``, or lies in that folder as an export writes it."""
    if url.lower().endswith(".npy"):
        return url
    return join(url, ARRAY) if exists(join(url, ARRAY)) else None


class NumpySource:
    rows: int | None
    schema: GallerySchema | None

    def __init__(self, url: str, columns: SourceColumns, rows: str | None) -> None:
        folder = url.rpartition("/")[0] or "."
        self.url, self._columns = url, columns
        self._names = rows or join(folder, ROWS)
        if not exists(self._names):
            raise OccframeError(
                f"{self._names}, which names the rows of {url}, is missing",
                remedy=f"write a CSV file with the columns {columns.id} and {columns.subject}, a line for each row",
            )
        self.rows, self.dim, self._dtype, self._offset = _read_header(url)
        self.schema = _read_schema(join(folder, SCHEMA))

    def batches(self, columns: Mapping[str, pa.DataType]) -> Iterator[SourceRows]:
        fs, path = filesystem(self.url)
        width = self.dim * self._dtype.itemsize
        with fs.open(path, "rb") as file:
            file.seek(self._offset)
            done = 0
            for table in read_names(self._names, self._columns, columns):
                raw = file.read(len(table) * width)
                if len(raw) < len(table) * width:
                    raise OccframeError(f"{self._names} names more rows than the {self.rows:,} of {self.url}")
                vectors = np.frombuffer(raw, self._dtype).reshape(-1, self.dim)
                native = vectors.astype(self._dtype.newbyteorder("="), copy=False)
                done += len(table)
                yield SourceRows(
                    table.column(0).combine_chunks(),
                    table.column(1).combine_chunks(),
                    of_types(native),
                    {name: table.column(name).combine_chunks() for name in columns},
                )
        if done != self.rows:
            raise OccframeError(f"{self._names} names {done:,} rows, {self.url} has {self.rows:,}")


def _read_header(url: str) -> tuple[int, int, np.dtype, int]:
    """Rows, dimension, dtype, and where the numbers begin. Raises OccframeError before anything is allocated."""
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file)
            offset = file.tell()
    except (ValueError, KeyError, OSError) as error:
        raise OccframeError(f"{url} is no .npy file of numbers: {first_line(error)}") from error
    if dtype.kind != "f" or dtype.itemsize > 8:
        held = "Python objects, which are never unpacked" if dtype.hasobject else str(dtype)
        raise OccframeError(f"{url} holds {held}", remedy="save it as float32 or float16")
    if len(shape) != 2 or fortran or not all(shape):
        raise OccframeError(
            f"{url} has the shape {list(shape)}{' in Fortran order' if fortran else ''}, not [rows, dimension]",
            remedy="save it with np.save(file, np.ascontiguousarray(embeddings))",
        )
    size = offset + math.prod(shape) * dtype.itemsize
    if fs.size(path) != size:
        raise OccframeError(f"{url} has {fs.size(path):,} bytes, its header promises {size:,}", remedy="is it whole?")
    return shape[0], shape[1], dtype, offset


def _read_schema(where: str) -> GallerySchema | None:
    fs, path = filesystem(where)
    if not fs.exists(path) or fs.size(path) > _MOST_SCHEMA_BYTES:
        return None
    try:
        return GallerySchema.model_validate_json(read_bytes(where))
    except ValueError:
        return None  # some other tool's schema.json
