"""Embeddings in Parquet: written as FixedSizeBinary, read from whatever another tool made of them.

FixedSizeBinary of little-endian floats streams five to eight times faster than the list types, because Arrow hands out
the page as one buffer; ``docs/gallery.md`` shows how DuckDB and pandas read it.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from occframe.errors import OccframeError
from occframe.gallery.manifest import ColumnType, GallerySchema

SCHEMA_KEY = b"occframe.gallery"

#: Vectors neither compress nor repeat: a dictionary, statistics or a codec only cost time.
WRITE_OPTIONS = {
    "compression": {"id": "zstd", "subject": "zstd", "embedding": "none"},
    "use_dictionary": ["subject"],
    "write_statistics": ["id", "subject"],
    # The vectors of a row group in one page: they can be mapped as one array.
    "data_page_size": 2**30,
}

#: A row group of this many bytes of embeddings stays in the cache between Arrow's copy and its use.
ROW_GROUP_BYTES = 4 * 2**20


def arrow_schema(schema: GallerySchema) -> pa.Schema:
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("embedding", pa.binary(schema.row_bytes), nullable=False),
        *(pa.field(name, _arrow_type(kind)) for name, kind in schema.columns.items()),
    ]
    return pa.schema(fields, metadata={SCHEMA_KEY: schema.model_dump_json().encode()})


def _arrow_type(kind: ColumnType) -> pa.DataType:
    return pa.list_(pa.float32()) if kind == "list<float>" else pa.type_for_alias(kind)


def rows_per_group(schema: GallerySchema) -> int:
    return max(1, ROW_GROUP_BYTES // schema.row_bytes)


def embedding_array(vectors: np.ndarray) -> pa.Array:
    """vectors: C-contiguous array [n, D], float16 or float32, little-endian. Shares its memory."""
    width = vectors.shape[1] * vectors.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(vectors), [None, pa.py_buffer(vectors)])


def vectors_of(column: pa.Array, schema: GallerySchema, where: str) -> np.ndarray:
    """The embeddings of an Arrow array as array [n, D]: a read-only view of its memory, not a copy.

    FixedSizeBinary gives ``schema.dtype``; FixedSizeList and lists of half, float or double give their own.
    Raises OccframeError that begins with ``where``: missing values, another dimension, or no vectors at all.
    """
    if column.null_count:
        row = int(np.flatnonzero(column.is_null())[0])
        raise OccframeError(
            f"{where}: row {row} has no embedding", remedy="embed that picture again, or leave the row out"
        )
    kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        if kind.byte_width != schema.row_bytes:
            raise OccframeError(
                f"{where}: an embedding takes {kind.byte_width} bytes, not {schema.row_bytes} ({schema.dtype})",
                remedy="this file is from another gallery",
            )
        dtype = np.dtype(schema.dtype).newbyteorder("<")
        rows = np.frombuffer(column.buffers()[1], dtype).reshape(-1, schema.dim)
        return rows[column.offset : column.offset + len(column)]
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if not pa.types.is_floating(kind.value_type):
            raise OccframeError(f"{where}: the column `embedding` lists {kind.value_type}, not floats")
        if wrong := set(column.value_lengths().unique().to_pylist()) - {schema.dim}:
            raise OccframeError(
                f"{where}: embeddings of length {min(wrong)}, not {schema.dim}",
                remedy="this file is from another model or gallery",
            )
        flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, schema.dim)
    raise OccframeError(
        f"{where}: the column `embedding` is {kind}, not vectors", remedy="this file is no part of a gallery"
    )


def schema_of(parquet: pa.Schema) -> GallerySchema | None:
    """What a file that we wrote says of its rows; None of another tool's."""
    raw = (parquet.metadata or {}).get(SCHEMA_KEY)
    try:
        return None if raw is None else GallerySchema.model_validate_json(raw)
    except ValueError:
        return None


def fingerprint_of(parquet: pa.Schema) -> str | None:
    """The model a file says its embeddings are of; None where another tool wrote it without saying."""
    raw = (parquet.metadata or {}).get(SCHEMA_KEY)
    if raw is None:
        return None
    try:
        return str(json.loads(raw)["model_fingerprint"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"
