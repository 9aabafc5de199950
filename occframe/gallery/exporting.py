"""A gallery for other tools: Parquet with lists, as DuckDB, pandas and autofaiss read it, or a NumPy matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
from numpy.lib import format as npy

from occframe.errors import OccframeError
from occframe.gallery.layout import SCHEMA_KEY, arrow_schema
from occframe.gallery.manifest import MANIFEST, GallerySchema
from occframe.gallery.parts import Group, read_live
from occframe.gallery.source_numpy import ARRAY, ROWS, SCHEMA
from occframe.gallery.store import Gallery
from occframe.storage import create_file, exists, filesystem, join, make_dirs, write_bytes

ROWS_PER_FILE = 262_144


def export_parquet(
    gallery: Gallery, target: str, *, dtype: str = "float32", advance: Callable[[int], None] = lambda rows: None
) -> list[str]:
    """Write files ``embeddings-000000.parquet`` … into folder ``target``: id, subject, embedding as a list, columns.

    dtype: float32, which every tool reads, or float16. Returns the names of the files. Raises OccframeError where the
    folder has something in it.
    """
    _check_empty(target)
    fields = _list_schema(gallery.schema, pa.float16() if dtype == "float16" else pa.float32())
    groups = _groups(gallery)
    names: list[str] = []
    group = next(groups, None)
    while group is not None or not names:
        names.append(f"embeddings-{len(names):06}.parquet")
        with (
            create_file(join(target, names[-1])) as file,
            pq.ParquetWriter(file, fields, compression="zstd", use_dictionary=["subject"]) as parquet,
        ):
            written = 0
            while group is not None and written < ROWS_PER_FILE:
                parquet.write_batch(_as_lists(group, fields, dtype))
                written += group.rows
                advance(group.rows)
                group = next(groups, None)
    return names


def export_numpy(
    gallery: Gallery, target: str, *, dtype: str | None = None, advance: Callable[[int], None] = lambda rows: None
) -> list[str]:
    """Write ``embeddings.npy`` [count, D], ``rows.csv`` that names its rows and ``schema.json`` into folder ``target``.

    dtype: float16 or float32, by default the gallery's. Returns the names of the files.
    Raises OccframeError where the folder has something in it.
    """
    _check_empty(target)
    kind = np.dtype(dtype or gallery.schema.dtype).newbyteorder("<")
    fields = pa.schema([field for field in arrow_schema(gallery.schema) if field.name != "embedding"])
    with create_file(join(target, ARRAY)) as array, create_file(join(target, ROWS)) as rows:
        shape = (gallery.count, gallery.dim)
        npy.write_array_header_1_0(array, {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape})
        with pv.CSVWriter(rows, fields) as names:
            for group in _groups(gallery):
                array.write(np.ascontiguousarray(group.vectors, kind).data)
                arrays = [group.columns[name].cast(fields.field(name).type) for name in fields.names]
                names.write_batch(pa.RecordBatch.from_arrays(arrays, schema=fields))
                advance(group.rows)
    write_bytes(join(target, SCHEMA), gallery.schema.model_dump_json(indent=2).encode())
    return [ARRAY, ROWS, SCHEMA]


def _check_empty(target: str) -> None:
    fs, path = filesystem(target)
    if exists(join(target, MANIFEST)) or (fs.exists(path) and (not fs.isdir(path) or fs.ls(path))):
        raise OccframeError(f"{target} is there already and not an empty folder", remedy="choose another place")
    make_dirs(target)


def _list_schema(schema: GallerySchema, kind: pa.DataType) -> pa.Schema:
    ours = arrow_schema(schema)
    at = ours.get_field_index("embedding")
    fields = ours.set(at, pa.field("embedding", pa.list_(kind), nullable=False))
    return fields.with_metadata({SCHEMA_KEY: schema.model_dump_json().encode()})


def _groups(gallery: Gallery) -> Iterator[Group]:
    columns = ["id", "subject", *gallery.schema.columns]
    for part in gallery.parts:
        yield from read_live(gallery.url, part, gallery.schema, columns)


def _as_lists(group: Group, fields: pa.Schema, dtype: str) -> pa.RecordBatch:
    vectors = np.ascontiguousarray(group.vectors, np.dtype(dtype))
    offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()))
    arrays = [lists if field.name == "embedding" else group.columns[field.name].cast(field.type) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=fields)
